"""No cache of Django's hands the answer to one key to another, or to anybody, wherever it is put."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.models import APIKey
from keys.ninja import APIKeyAuth
from keys.permissions import HasAPIKey, HasScope
from tests.support.commands import found, serve

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_cache")]

kept = cache_page(60)


def body(request: Any) -> dict[str, str]:
    return {"for": getattr(request.auth, "name", "nobody")}


class Guarded(APIView):
    authentication_classes: list[Any] = [APIKeyAuthentication]
    permission_classes: list[Any] = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response(body(request))


class Handler(Guarded):
    @method_decorator(kept)
    def get(self, request: Request) -> Response:
        return super().get(request)


@method_decorator(kept, name="dispatch")
class Dispatch(Guarded):
    pass


@method_decorator(kept, name="get")
class AnswersByItself(Guarded):
    def get(self, request: Request) -> Any:
        return JsonResponse(body(request))


@method_decorator(kept, name="list")
class Set(ViewSet):
    authentication_classes = [APIKeyAuthentication, SessionAuthentication]
    permission_classes = [HasAPIKey]

    def list(self, request: Request) -> Response:
        return Response(body(request))


@api_view(["GET"])
@authentication_classes([APIKeyAuthentication])
@permission_classes([HasAPIKey])
@kept
def function(request: Any) -> Response:
    return Response(body(request))


@api_key_required()
@kept
def plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse(body(request))


@kept
@api_key_required()
def plain_outside(request: HttpRequest) -> HttpResponse:
    return JsonResponse(body(request))


@api_key_required()
@kept
async def plain_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse(body(request))


@method_decorator([api_key_required(), kept], name="dispatch")
class PlainClass(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(body(request))


class PlainMethod(View):
    @method_decorator([api_key_required(), kept])
    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(body(request))


class MethodOfTheFramework(APIView):
    authentication_classes = []
    permission_classes = []

    @method_decorator([api_key_required(), kept])
    def get(self, request: Request) -> Response:
        return Response(body(request))


api = NinjaAPI(urls_namespace="caches", auth=APIKeyAuth(), docs_url=None, openapi_url=None)


@api.get("/")
@decorate_view(kept)
def operation(request: HttpRequest) -> dict[str, str]:
    return body(request)


VIEWS: dict[str, Any] = {
    "handler": Handler.as_view(),
    "dispatch": Dispatch.as_view(),
    "a handler with Django's answer": AnswersByItself.as_view(),
    "view set": Set.as_view({"get": "list"}),
    "function of the framework": function,
    "URLconf": kept(Guarded.as_view()),
    "URLconf, around a cached handler": kept(Handler.as_view()),
    "plain, inside": plain,
    "plain, outside": plain_outside,
    "plain, async": plain_async,
    "plain class": PlainClass.as_view(),
    "plain method": PlainMethod.as_view(),
    "method of the framework": MethodOfTheFramework.as_view(),
    "Ninja": api.urls[0][0].callback,
}
UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))


@pytest.fixture(params=["no middleware", "first and last", "inside ours"])
def site_wide(request: pytest.FixtureRequest, settings: Settings) -> None:
    """Django's cache for the whole site, as it is documented, and as somebody may put it."""
    match request.param:
        case "first and last":
            settings.MIDDLEWARE = [UPDATE, *settings.MIDDLEWARE, FETCH]
        case "inside ours":
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, UPDATE, FETCH]


def ask(key: APIKey | None, client: type[Any], **headers: str) -> Any:
    caller = client()
    get: Callable[..., Any] = async_to_sync(caller.get) if client is AsyncClient else caller.get
    return get("/", headers=headers if key is None else {"X-API-Key": str(key.key), **headers})


@pytest.mark.matrix
@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("name", VIEWS)
def test_each_key_gets_its_own_answer_and_a_stranger_none(
    name: str, client: type[Any], site_wide: None, settings: Settings
) -> None:
    settings.ROOT_URLCONF = (path("", VIEWS[name]),)
    one, other = APIKey.objects.create(name="one"), APIKey.objects.create(name="other")
    for key in (one, other, one):
        answer = ask(key, client)
        assert (answer.status_code, answer.json()) == (200, {"for": key.name})
        assert "no-store" in answer["Cache-Control"]
    assert ask(None, client).status_code == 401
    other.deactivate()
    assert ask(other, client).status_code == 401
    assert ask(None, client, Authorization="Api-Key x").status_code == 401


@pytest.mark.parametrize("view", [Handler, Dispatch])
def test_a_key_without_the_scope_gets_no_answer_of_one_with_it(
    view: type[APIView], site_wide: None, settings: Settings
) -> None:
    settings.ROOT_URLCONF = (path("", view.as_view(permission_classes=[HasScope("users:read")])),)
    rich, poor = (
        APIKey.objects.create(name="rich", scopes=["users:read"]),
        APIKey.objects.create(name="poor", scopes=[]),
    )
    assert [ask(key, Client).status_code for key in (rich, poor, rich)] == [200, 403, 200]


@pytest.mark.parametrize("view", [Handler, Dispatch])
def test_a_stranger_gets_no_answer_of_a_key_where_strangers_are_let_in(
    view: type[APIView], site_wide: None, settings: Settings
) -> None:
    settings.ROOT_URLCONF = (path("", view.as_view(permission_classes=[AllowAny])),)
    key = APIKey.objects.create(name="TTS")
    assert [ask(one, Client).json()["for"] for one in (key, None, key)] == ["TTS", "nobody", "TTS"]


def test_what_no_key_guards_is_kept_as_before(settings: Settings) -> None:
    said: list[str] = []

    @kept
    def view(request: HttpRequest) -> HttpResponse:
        said.append(request.path)
        return HttpResponse()

    settings.ROOT_URLCONF = (path("", view),)
    assert [ask(None, Client).status_code for _ in range(3)] == [200, 200, 200]
    assert said == ["/"]


class CachedByTheFramework(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    @method_decorator([kept])
    def get(self, request: Request) -> Response:
        return Response(body(request))


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
@kept
def cached_function(request: Any) -> Response:
    return Response(body(request))


@method_decorator(kept, name="list")
class CachedSet(Set):
    authentication_classes = []
    permission_classes = []


class TestWhatCannotBePrevented:
    """The guard gets Django's request, and the cache another one that the view makes later: the check tells."""

    @pytest.mark.parametrize(
        "view",
        [
            api_key_required()(CachedByTheFramework.as_view()),
            api_key_required()(cached_function),
            api_key_required()(CachedSet.as_view({"get": "list"})),
            method_decorator(api_key_required(), name="dispatch")(
                type("Dispatch", (CachedByTheFramework,), {})
            ).as_view(),  # type: ignore[attr-defined]
        ],
    )
    def test_is_told(self, view: Any, settings: Settings) -> None:
        serve(settings, view)
        assert len(found("keys.W017")) == 1

    @pytest.mark.parametrize("name", VIEWS)
    def test_nothing_else_is(self, name: str, settings: Settings) -> None:
        serve(settings, VIEWS[name], api_key_required()(Guarded.as_view()), CachedByTheFramework.as_view())
        assert not found("keys.W017")
