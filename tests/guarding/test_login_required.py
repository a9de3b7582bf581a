"""Behind Django's LoginRequiredMiddleware: what a key guards is left to the key, and nothing else is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from ninja import NinjaAPI
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.models import APIKey
from keys.ninja import APIKeyAuth
from tests import views
from tests.docs.pages import block
from tests.support.callers import UNKNOWN
from tests.support.commands import found, serve
from tests.support.log import rows

pytestmark = pytest.mark.django_db

MIDDLEWARE = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@pytest.fixture(params=["before", "after"])
def middleware(request: pytest.FixtureRequest, settings: Settings) -> None:
    """Django's middleware stands before ours or after it."""
    others = [name for name in settings.MIDDLEWARE if not name.startswith("keys.")]
    ours = [name for name in settings.MIDDLEWARE if name.startswith("keys.")]
    settings.MIDDLEWARE = [*others, *([MIDDLEWARE, *ours] if request.param == "before" else [*ours, MIDDLEWARE])]


@api_key_required()
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@api_key_required()
async def plain_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@method_decorator(api_key_required(), name="dispatch")
class Everything(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Inheriting(Everything):
    """Its guard is its parent's."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class WithItsOwnDispatch(Everything):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)


@method_decorator([never_cache, api_key_required()], name="dispatch")
class BehindAnother(Everything):
    pass


@method_decorator(api_key_required(), name="get")
class ReadByServices(View):
    """Services read it; people write it."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Page(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


def bare(view: Any) -> Any:
    """Decorate a view without `functools.wraps`."""

    def around(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return view(request, *args, **kwargs)

    return around


GUARDED: dict[str, Any] = {
    "function": plain,
    "async function": plain_async,
    "class": Everything.as_view(),
    "async class": views.AsyncClass.as_view(),
    "inherited": Inheriting.as_view(),
    "behind another decorator": BehindAnother.as_view(),
    "in another decorator": never_cache(plain),
    "around the view of a class": api_key_required()(Page.as_view()),
    "for users too": api_key_required()(login_not_required(plain)),
    "Django REST framework": views.Guarded.as_view(),
    "Django REST framework, a view set": views.Jobs.as_view({"get": "list"}),
    "Django REST framework, by the decorator": views.ByMethodOfTheFramework.as_view(),
}


@pytest.mark.matrix
@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("name", GUARDED)
def test_a_guarded_view_is_left_to_its_guard(
    name: str, client: type[Any], middleware: None, settings: Settings, key: APIKey
) -> None:
    serve(settings, GUARDED[name])
    caller = client()
    get: Callable[..., Any] = async_to_sync(caller.get) if client is AsyncClient else caller.get
    assert get("/0/", headers={"X-API-Key": str(key.key)}).status_code == 200
    assert get("/0/", headers={"X-API-Key": UNKNOWN}).status_code == 401
    assert get("/0/").status_code == 401
    assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401)]
    assert not found("keys.W016")


def test_people_still_have_to_log_in_elsewhere(middleware: None, settings: Settings, key: APIKey) -> None:
    serve(settings, ReadByServices.as_view(), Page.as_view())
    stranger = Client(headers={"X-API-Key": key.key})
    assert [stranger.post("/0/").status_code, stranger.get("/1/").status_code] == [302, 302]
    ada = Client()
    ada.force_login(User.objects.create(username="ada"))
    assert [ada.post("/0/").status_code, ada.get("/1/").status_code] == [200, 200]


def test_a_login_that_the_view_asks_for_beside_the_key(middleware: None, settings: Settings, key: APIKey) -> None:
    serve(settings, api_key_required()(login_required(plain)), login_required(plain))
    for address in ("/0/", "/1/"):
        client = Client(headers={"X-API-Key": key.key})
        assert client.get(address).status_code == 302
        client.force_login(User.objects.get_or_create(username="ada")[0])
        assert client.get(address).status_code == 200


def ninja() -> NinjaAPI:
    api = NinjaAPI(urls_namespace="login-required", auth=APIKeyAuth())

    @api.get("/orders")
    def orders(request: HttpRequest) -> dict[str, Any]:
        return {}

    return api


class TestWhatCannotBeExempt:
    """Django asks the view as a whole, and only its attribute: the check says where keys are sent to the login."""

    @pytest.fixture(autouse=True)
    def installed(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]

    @pytest.mark.parametrize(
        "view",
        [
            ReadByServices.as_view(),
            views.AsyncMethod.as_view(),
            WithItsOwnDispatch.as_view(),
            partial(plain),
            partial(GUARDED["class"]),
            partial(GUARDED["Django REST framework"]),
            bare(plain),
            bare(bare(never_cache(GUARDED["Django REST framework"]))),
        ],
    )
    def test_is_told(self, view: Any, settings: Settings, key: APIKey) -> None:
        serve(settings, view)
        (message,) = found("keys.W016")
        assert "(/0/)" in message
        assert Client(headers={"X-API-Key": key.key}).get("/0/").status_code == 302
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        assert not found("keys.W016")

    def test_is_told_of_ninja_and_mended_by_the_manuals_recipe(self, settings: Settings, key: APIKey) -> None:
        api = ninja()
        settings.ROOT_URLCONF = (path("api/", api.urls),)
        (message,) = found("keys.W016")
        assert "/api/orders" in message
        assert Client(headers={"X-API-Key": key.key}).get("/api/orders").status_code == 302
        names: dict[str, Any] = {"api": ninja()}
        exec(block("docs/guarding.md", "## Django Ninja", "python", with_text="login_not_required"), names)  # noqa: S102
        settings.ROOT_URLCONF = (path("api/", names["urls"]),)
        assert not found("keys.W016")
        assert Client(headers={"X-API-Key": key.key}).get("/api/orders").status_code == 200
        assert Client().get("/api/orders").status_code == 401

    def test_nothing_is_told_of_pages_for_people(self, settings: Settings) -> None:
        serve(settings, bare(bare(Page.as_view())), login_required(Page.as_view()), bare(len))
        assert not found("keys.W016")

    def test_a_middleware_of_the_projects_own(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], f"{__name__}.Own"]
        serve(settings, ReadByServices.as_view(), plain)
        assert len(found("keys.W016")) == 1


class Own(LoginRequiredMiddleware):
    """Lets the projects's health checks through, say."""
