"""Who had the last word: a denial by scope or rate is a refusal in the log, whatever the project answers."""

from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutinefunction as is_awaited
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from ninja import NinjaAPI
from ninja.errors import HttpError
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.permissions import BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView
from rest_framework.views import exception_handler as usual

from keys import signals
from keys.authentication import APIKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.models import APIKey
from keys.ninja import APIKeyAuth
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.throttling import APIKeyRateThrottle
from keys.verification import Guard
from tests.support.callers import UNKNOWN
from tests.support.log import rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_cache")]

# The key of these tests holds users:read alone.
HELD, LACKED, ALSO_LACKED = HasScope("users:read"), HasScope("users:write"), HasScope("users:delete")


def as_usual(error: Exception, context: dict[str, Any]) -> Any:
    return usual(error, context)


def hidden(error: Exception, context: dict[str, Any]) -> Any:
    """Tells nobody what there is."""
    return usual(NotFound() if isinstance(error, PermissionDenied) else error, context)


def enveloped(error: Exception, context: dict[str, Any]) -> Any:
    response = usual(error, context)
    return response and Response({"ok": False, "error": response.data})


def broken(error: Exception, context: dict[str, Any]) -> Any:
    return None


@pytest.fixture(params=[as_usual, hidden, enveloped, broken], ids=lambda handler: handler.__name__)
def handler(request: pytest.FixtureRequest, settings: Settings) -> Callable[..., Any]:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": request.param}
    made: Callable[..., Any] = request.param
    return made


class View(APIView):
    """Its answer is that of its handler, if the key comes so far."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes: list[Any] = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response({})


class OnAnObject(View):
    def get(self, request: Request) -> Response:
        self.check_object_permissions(request, object())
        return Response({})


class OnAnotherObject(View):
    """Lets everybody in; the object is for those with the scope."""

    def get(self, request: Request) -> Response:
        self.permission_classes = [LACKED]
        self.check_object_permissions(request, object())
        return Response({})


class HidesTheObject(OnAnotherObject):
    def get(self, request: Request) -> Response:
        try:
            return super().get(request)
        except PermissionDenied:
            raise Http404 from None


class DeniesInItsOwnWay(View):
    permission_classes = [LACKED]

    def permission_denied(self, *args: Any, **kwargs: Any) -> Any:
        raise Http404


class DeniesObjectsInItsOwnWay(OnAnotherObject):
    def permission_denied(self, *args: Any, **kwargs: Any) -> Any:
        raise Http404


class AsksByItself(View):
    permission_classes = [LACKED]

    def check_permissions(self, request: Request) -> None:
        for permission in self.get_permissions():
            if not permission.has_permission(request, self):
                raise Http404


class AnswersByItself(View):
    permission_classes = [LACKED]

    def handle_exception(self, exc: Exception) -> Any:
        return Response({"error": str(exc)})


class DeniesInTheHandler(View):
    """The handler asks a permission, and leaves it to that."""

    def get(self, request: Request) -> Response:
        if not LACKED().has_permission(request, self):
            self.permission_denied(request)
        return Response({})


class Asked(BasePermission):
    """A permission of the project that asks one of ours first, and then somebody else."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(LACKED().has_permission(request, view) or view.opens)


class Wrapping(View):
    opens = False
    permission_classes = [Asked]


class WrappingAndOpening(Wrapping):
    opens = True


class WrappingAndFailing(WrappingAndOpening):
    """What comes of the view is the view's."""

    def get(self, request: Request) -> Response:
        raise PermissionDenied("not on Sundays")


class WrappingAndDenying(WrappingAndOpening):
    def get(self, request: Request) -> Response:
        self.permission_denied(request)


class OpenOnAnObject(OnAnObject):
    opens = True


class Nobodys(BasePermission):
    """No object is anybody's."""

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return False


class Anybody(BasePermission):
    pass


class Nobody(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class Looking(View):
    """Asks what a caller may do, without insisting on it."""

    def get(self, request: Request) -> Response:
        return Response({"may write": LACKED().has_permission(request, self)})


class LookingAtAnObject(OnAnotherObject):
    def get(self, request: Request) -> Response:
        try:
            return super().get(request)
        except PermissionDenied:
            return Response({"may write": False})


class LookingAndNotFinding(Looking):
    def get(self, request: Request) -> Response:
        super().get(request)
        raise NotFound


class LetsInAfterAll(View):
    permission_classes = [LACKED]

    def check_permissions(self, request: Request) -> None:
        with suppress(PermissionDenied):
            super().check_permissions(request)


class ByMethod(BasePermission):
    """Everybody may read; to write takes a scope."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.method == "GET" or LACKED().has_permission(request, view)


class Browsable(View):
    """Its page asks whether the caller might also post."""

    renderer_classes = [BrowsableAPIRenderer]
    permission_classes = [ByMethod]

    def post(self, request: Request) -> Response:
        return Response({})


class BrowsableAndDenying(Browsable):
    def get(self, request: Request) -> Response:
        raise PermissionDenied("not on Sundays")


class Marked(View):
    """Its handler says who may call it."""

    def get(self, request: Request) -> Response:
        return Response({})

    get.staff_only = True  # type: ignore[attr-defined]


class ByMark(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return not view.get.staff_only


class Awaiting(View):
    """Awaits its handler, as the views of adrf do."""

    async def get(self, request: Request) -> Response:  # type: ignore[override]
        return Response({})

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.headers = self.default_response_headers
        self.request = asked = self.initialize_request(request)
        await sync_to_async(self.initial)(asked)
        handler: Any = self.get if is_awaited(self.get) else sync_to_async(self.get)
        return self.finalize_response(asked, await handler(asked))


class Busy(View):
    throttle_classes = [APIKeyRateThrottle]


class BusyInItsOwnWay(Busy):
    def check_throttles(self, request: Request) -> None:
        if not all(throttle.allow_request(request, self) for throttle in self.get_throttles()):
            error = APIException()
            error.status_code = 420
            raise error


class ThrottlesInItsOwnWay(Busy):
    def throttled(self, request: Request, wait: float | None) -> Any:
        raise APIException


class Patient(APIKeyRateThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        super().allow_request(request, view)
        return True


class NeverAgain(UserRateThrottle):
    rate = "1/day"

    def allow_request(self, request: Request, view: Any) -> bool:
        return False

    def wait(self) -> float:
        return 1.0


class Throttled(View):
    opens = True
    throttle_classes = [NeverAgain]


def asking(*permissions: Any, view: type[APIView] = View) -> Any:
    return view.as_view(permission_classes=permissions)


REFUSALS = {
    "a scope": asking(LACKED),
    "a scope before others": asking(LACKED, Nobody),
    "a scope after others": asking(IsAuthenticated, Anybody, LACKED),
    "both of two scopes": asking(HELD & LACKED),
    "either of two scopes": asking(LACKED | ALSO_LACKED),
    "a scope or staff": asking(LACKED | IsAdminUser),
    "staff or a scope": asking(IsAdminUser | LACKED),
    "a scope and somebody": asking(LACKED & IsAuthenticated),
    "somebody and a scope": asking(IsAuthenticated & LACKED),
    "a scope, or another and staff": asking(LACKED | (HELD & IsAdminUser)),
    "two others, or a scope": asking((IsAuthenticated & IsAdminUser) | LACKED),
    "no scope": asking(~HELD),
    "neither of two scopes": asking(~(HELD | LACKED)),
    "not a scope and somebody": asking(~(HELD & IsAuthenticated)),
    "not not a scope": asking(~~LACKED),
    "a scope and no other": asking(HELD & ~(LACKED | HELD)),
    "an object": asking(Nobodys | LACKED, view=OnAnObject),
    "an object alone": OnAnotherObject.as_view(),
    "an object without a scope": asking(~(HELD | LACKED), view=OnAnObject),
    "an object that is hidden": HidesTheObject.as_view(),
    "a view that denies in its own way": DeniesInItsOwnWay.as_view(),
    "an object denied in its own way": DeniesObjectsInItsOwnWay.as_view(),
    "a view that asks by itself": AsksByItself.as_view(),
    "a view that answers by itself": AnswersByItself.as_view(),
    "a handler that denies": DeniesInTheHandler.as_view(),
    "a permission around ours": Wrapping.as_view(),
}

USES = {
    "a scope": asking(HELD),
    "one of two scopes": asking(LACKED | HELD),
    "the other of two scopes": asking(HELD | LACKED),
    "one of three scopes": asking(LACKED | ALSO_LACKED | HELD),
    "a scope or anybody": asking(LACKED | Anybody),
    "two others, or a scope, or anybody": asking((IsAuthenticated & IsAdminUser) | LACKED | Anybody),
    "no scope": asking(~LACKED),
    "neither of two scopes": asking(~(LACKED | ALSO_LACKED)),
    "not both of two scopes": asking(~(HELD & LACKED)),
    "an object": asking(LACKED | Anybody, view=OnAnObject),
    "a permission around ours": WrappingAndOpening.as_view(),
    "a look": Looking.as_view(),
    "a look at an object": LookingAtAnObject.as_view(),
    "a view that lets in after all": LetsInAfterAll.as_view(),
    "a page": Browsable.as_view(),
    "a handler that is awaited": asking(LACKED | HELD, view=Awaiting),
}

# Somebody else says no: a use with the status of that.
DENIED_BY_OTHERS = {
    "a permission that comes first": (asking(IsAdminUser, LACKED), 403),
    "one that comes after a half": (asking(LACKED | Anybody, Nobody), 403),
    "one beside the scope": (asking(HELD & IsAdminUser), 403),
    "a half that is turned round": (asking(~(LACKED | Anybody)), 403),
    "an object's, after a half": (asking(LACKED | Anybody, Nobodys, view=OnAnObject), 403),
    "an object's, after one around ours": (asking(Asked, Nobodys, view=OpenOnAnObject), 403),
    "the view, after one around ours": (WrappingAndFailing.as_view(), 403),
    "the view's own denial, after one around ours": (WrappingAndDenying.as_view(), 403),
    "the view, after a half": (asking(LACKED | HELD, view=WrappingAndFailing), 403),
    "the view, after a look": (LookingAndNotFinding.as_view(), 404),
    "one that reads marks, after a half": (asking(LACKED | HELD, ByMark, view=Marked), 403),
    "the view, and then its page": (BrowsableAndDenying.as_view(), 403),
    "another throttle, after a half": (asking(LACKED | Anybody, view=Throttled), 429),
    "another throttle, after one around ours": (asking(Asked, view=Throttled), 429),
}


def ask(settings: Settings, view: Any, key: APIKey, client: type[Any] = Client) -> Any:
    settings.ROOT_URLCONF = (path("", view),)
    caller = client(raise_request_exception=False)
    get = async_to_sync(caller.get) if client is AsyncClient else caller.get
    return get("/", headers={"X-API-Key": str(key.key)})


def shown(handler: Callable[..., Any], status: int) -> int:
    """Return what the project's handler makes of a status."""
    return {
        hidden: 404 if status == 403 else status, enveloped: 200, broken: 500, as_usual: status
    }[handler]  # fmt: skip


class TestViewsOfTheFramework:
    @pytest.mark.parametrize("name", REFUSALS)
    def test_a_denial_is_a_refusal(
        self, name: str, handler: Callable[..., Any], settings: Settings, key: APIKey
    ) -> None:
        status = ask(settings, REFUSALS[name], key).status_code
        assert status != 200 or handler is enveloped or "by itself" in name
        assert rows() == [("refused", "scope", "TTS", status)]

    @pytest.mark.parametrize("name", USES)
    def test_what_is_allowed_in_the_end_is_a_use(
        self, name: str, handler: Callable[..., Any], settings: Settings, key: APIKey
    ) -> None:
        assert ask(settings, USES[name], key).status_code == 200
        assert rows() == [("used", "", "TTS", 200)]

    @pytest.mark.parametrize("name", DENIED_BY_OTHERS)
    def test_what_somebody_else_denied_is_a_use(
        self, name: str, handler: Callable[..., Any], settings: Settings, key: APIKey
    ) -> None:
        view, status = DENIED_BY_OTHERS[name]
        assert ask(settings, view, key).status_code == shown(handler, status)
        assert rows() == [("used", "", "TTS", shown(handler, status))]

    @pytest.mark.parametrize("method", ["PERMISSION_DENIED", "HANDLE_EXCEPTION", "__CLASS__", "__DICT__", "QUERY"])
    def test_a_method_that_is_named_as_part_of_the_view(self, method: str, settings: Settings, key: APIKey) -> None:
        settings.ROOT_URLCONF = (path("", asking(LACKED)),)
        answer = Client(raise_request_exception=False).generic(method, "/", headers={"X-API-Key": str(key.key)})
        assert answer.status_code == 403
        assert rows() == [("refused", "scope", "TTS", 403)]

    @pytest.mark.parametrize("view", [Busy, BusyInItsOwnWay, ThrottlesInItsOwnWay])
    def test_a_rate_that_is_used_up(
        self, view: type[APIView], handler: Callable[..., Any], settings: Settings, key: APIKey
    ) -> None:
        APIKey.objects.update(rate="1/day")
        answers = [ask(settings, view.as_view(), key).status_code for _ in range(2)]
        assert rows() == [("used", "", "TTS", 200), ("refused", "rate", "TTS", answers[1])]

    def test_a_throttle_that_lets_in_after_all(self, settings: Settings, key: APIKey) -> None:
        APIKey.objects.update(rate="1/day")
        view = View.as_view(throttle_classes=[Patient])
        assert [ask(settings, view, key).status_code for _ in range(2)] == [200, 200]
        assert rows() == [("used", "", "TTS", 200)] * 2

    @pytest.mark.matrix
    def test_both_ways_to_run_a_view(self, handler: Callable[..., Any], settings: Settings, key: APIKey) -> None:
        status = ask(settings, asking(LACKED), key, AsyncClient).status_code
        assert status == shown(handler, 403)
        assert rows() == [("refused", "scope", "TTS", status)]

    def test_the_signal_says_the_same(self, settings: Settings, key: APIKey) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": enveloped}
        said: list[str] = []

        def listen(row: dict[str, Any], **kwargs: object) -> None:
            said.append(row["reason"])

        signals.key_refused.connect(listen)
        try:
            ask(settings, asking(LACKED), key)
        finally:
            signals.key_refused.disconnect(listen)
        assert said == ["scope"]

    def test_of_two_keys_only_the_one_that_was_denied(self, settings: Settings, key: APIKey) -> None:
        class Inner(KeyringAuthentication):
            header = "X-Inner-Key"
            keyrings = (DatabaseKeyring(),)

        inner = APIKey.objects.create(name="inner")
        guarded = api_key_required(guard=Guard(header="X-Outer-Key", keyword=None))
        view = guarded(View.as_view(authentication_classes=[Inner], permission_classes=[LACKED]))
        settings.ROOT_URLCONF = (path("", view),)
        headers = {"X-Outer-Key": str(key.key), "X-Inner-Key": str(inner.key)}
        assert Client(headers=headers).get("/").status_code == 403
        assert sorted(rows()) == [("refused", "scope", "inner", 403), ("used", "", "TTS", 403)]


@api_key_required("users:write")
def plain(request: HttpRequest) -> HttpResponse:
    raise AssertionError("no key gets here")


@api_key_required("users:write")
async def plain_async(request: HttpRequest) -> HttpResponse:
    raise AssertionError("no key gets here")


api = NinjaAPI(urls_namespace="denials")


@api.get("/", auth=APIKeyAuth("users:write"))
def operation(request: HttpRequest) -> dict[str, Any]:
    raise AssertionError("no key gets here")


@api.exception_handler(HttpError)
def envelope(request: HttpRequest, error: Any) -> HttpResponse:
    return api.create_response(request, {"ok": False}, status=200)


@sync_and_async_middleware
def hide(get_response: Any) -> Any:
    """A middleware of the project that tells nobody what is forbidden."""

    def hidden(response: HttpResponse) -> HttpResponse:
        return JsonResponse({}, status=404) if response.status_code == 403 else response

    async def middleware_async(request: HttpRequest) -> HttpResponse:
        return hidden(await get_response(request))

    return middleware_async if iscoroutinefunction(get_response) else lambda request: hidden(get_response(request))


@api_key_required()
def looking(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"may write": LACKED().has_permission(request, None)})  # type: ignore[arg-type]


def open_to_all(request: HttpRequest) -> HttpResponse:
    may = (IsUser | HELD | ~LACKED)().has_permission(request, None)  # type: ignore[arg-type]
    return JsonResponse({"may write": not may})


class TestOtherViews:
    @pytest.mark.parametrize("client", [Client, AsyncClient])
    def test_a_plain_view_that_asks_a_permission(self, client: type[Any], settings: Settings, key: APIKey) -> None:
        for view in (looking, open_to_all):
            answer = ask(settings, view, key, client)
            assert (answer.status_code, answer.json()) == (200, {"may write": False})
        assert rows() == [("used", "", "TTS", 200)]

    @pytest.mark.parametrize("view", [plain, plain_async, asking(LACKED)], ids=["plain", "async", "framework"])
    @pytest.mark.parametrize("client", [Client, AsyncClient])
    def test_a_middleware_that_changes_the_answer(
        self, view: Any, client: type[Any], settings: Settings, key: APIKey
    ) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.hide"]
        assert ask(settings, view, key, client).status_code == 404
        assert rows() == [("refused", "scope", "TTS", 404)]

    def test_ninjas_exception_handler(self, settings: Settings, key: APIKey) -> None:
        settings.ROOT_URLCONF = (path("", api.urls),)
        answer = Client(headers={"X-API-Key": key.key}).get("/")
        assert (answer.status_code, answer.json()) == (200, {"ok": False})
        assert rows() == [("refused", "scope", "TTS", 200)]


class TestCodes:
    """What a project's exception handler reads: each status has its code, as in Django REST framework."""

    @pytest.mark.parametrize("first", [[], [SessionAuthentication]])
    @pytest.mark.parametrize(
        ("headers", "status", "code"),
        [
            ({"X-API-Key": UNKNOWN}, 401, "authentication_failed"),
            ({"X-API-Key": UNKNOWN, "Authorization": "Api-Key other"}, 400, "conflict"),
            ({}, 401, "not_authenticated"),
        ],
    )
    def test_of_a_refused_key(
        self, headers: dict[str, str], status: int, code: str, first: list[Any], settings: Settings
    ) -> None:
        seen: list[Any] = []

        def listening(error: Any, context: dict[str, Any]) -> Any:
            seen.append((error.get_codes(), error.default_code))
            return usual(error, context)

        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": listening}
        settings.ROOT_URLCONF = (path("", View.as_view(authentication_classes=[APIKeyAuthentication, *first])),)
        assert Client(headers=headers).get("/").status_code == status
        assert seen == [(code, code)]
