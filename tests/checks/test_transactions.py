"""System checks of what would lose a use of a key from the audit log."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from pytest_django import Settings
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.middleware import APIKeyMiddleware
from keys.permissions import HasAPIKey, HasScope
from tests import views
from tests.support.commands import found, serve

OURS = "keys.middleware.APIKeyMiddleware"


class Guarded(APIView):
    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasAPIKey]


class AnotherKeyAuthentication(APIKeyAuthentication):
    header = "X-Other-Key"


class Open(APIView):
    authentication_classes = [SessionAuthentication]
    permission_classes = [AllowAny]


@api_key_required()
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class OurMiddleware(APIKeyMiddleware):
    pass


@pytest.mark.parametrize("view", [Guarded.as_view(), plain, Open.as_view(permission_classes=[~HasScope("users:read")])])
def test_the_middleware_is_missing(settings: Settings, view: Callable[..., Any]) -> None:
    serve(settings, Open.as_view(), view)
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "no.such.Middleware"]
    (message,) = found("keys.W001")
    assert "(/1/)" in message
    assert "as if its worker had died" in message

    for middleware in (OURS, "tests.checks.test_transactions.OurMiddleware"):
        settings.MIDDLEWARE = [middleware]
        assert not found("keys.W001")
    settings.MIDDLEWARE = []
    serve(settings, Open.as_view())
    assert not found("keys.W001")


def test_a_view_that_decides_by_itself_what_guards_it(settings: Settings) -> None:
    class Decides(Guarded):
        def get_authenticators(self) -> Any:
            return [APIKeyAuthentication()]

    class DecidesLater(Guarded):
        def initialize_request(self, *args: Any, **kwargs: Any) -> Any:
            request = super().initialize_request(*args, **kwargs)
            request.authenticators = [APIKeyAuthentication()]
            return request

    class AsksUsersAlone(Guarded):
        def get_authenticators(self) -> Any:
            return [SessionAuthentication()]

        def initialize_request(self, *args: Any, **kwargs: Any) -> Any:
            return super().initialize_request(*args, **kwargs)

    nothing_declared: Any = {"authentication_classes": [], "permission_classes": [IsAuthenticated]}
    for view, method in (
        (Decides.as_view(), "get_authenticators()"),
        (Decides.as_view(**nothing_declared), "get_authenticators()"),
        (DecidesLater.as_view(**nothing_declared), "initialize_request()"),
    ):
        serve(settings, view)
        (message,) = found("keys.W002")
        assert method in message

    serve(settings, Guarded.as_view(), DecidesLater.as_view(), AsksUsersAlone.as_view(**nothing_declared))
    assert not found("keys.W002")


def test_a_decorator_below_dispatch(settings: Settings) -> None:
    class OnAMethod(View):
        @method_decorator(api_key_required())
        def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    @method_decorator(api_key_required(), name="dispatch")
    class OnDispatch(View):
        pass

    serve(settings, OnAMethod.as_view())
    (message,) = found("keys.W002")
    assert 'name="dispatch"' in message

    serve(settings, OnDispatch.as_view(), plain)
    assert not found("keys.W002")


def test_a_key_behind_another_authenticator(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    session_first = Guarded.as_view(authentication_classes=[SessionAuthentication, APIKeyAuthentication])
    one_behind = [APIKeyAuthentication, SessionAuthentication, AnotherKeyAuthentication]
    serve(settings, session_first, Guarded.as_view(authentication_classes=one_behind))
    assert len(found("keys.W003")) == 2

    key_first = [APIKeyAuthentication, SessionAuthentication, BasicAuthentication]
    serve(settings, Guarded.as_view(authentication_classes=key_first), Guarded.as_view(), Open.as_view(), plain)
    assert not found("keys.W003")
    serve(settings, transaction.non_atomic_requests(session_first))
    assert not found("keys.W003")
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", False)
    serve(settings, session_first)
    assert not found("keys.W003")


class Around:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            return self.get_response(request)


class Inherits(Around):
    pass


def around(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    return transaction.atomic(get_response)


def around_by_hand(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        transaction.set_autocommit(False)
        return get_response(request)

    return middleware


class Afterwards:
    """Is atomic, but only once the view is done."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("atomic")

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        with transaction.atomic():
            return response


written_in_one_line = lambda get_response: get_response  # noqa: E731


@pytest.mark.parametrize("name", ["Around", "Inherits", "around", "around_by_hand"])
def test_another_middleware_opens_a_transaction(settings: Settings, name: str) -> None:
    settings.MIDDLEWARE = [OURS, f"{__name__}.{name}"]
    (message,) = found("keys.W004")
    assert f"{__name__}.{name} " in message

    settings.MIDDLEWARE = [OURS]
    assert not found("keys.W004")


@pytest.mark.parametrize(
    "path",
    [f"{__name__}.Afterwards", f"{__name__}.written_in_one_line", f"{__name__}.OURS", "builtins.dict", "no.such.thing"],
)
def test_middleware_that_opens_none_or_cannot_be_read(settings: Settings, path: str) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, path]
    assert not found("keys.W004")


class TestAPropertyForTheAuthenticators:
    def test_of_a_view_that_asks_for_a_key(self, settings: Settings) -> None:
        class ByPermission(Guarded):
            @property
            def authentication_classes(self) -> Any:  # type: ignore[override]
                return []

        class ByName(APIView):
            permission_classes = [IsAuthenticated]

            @property
            def authentication_classes(self) -> Any:  # type: ignore[override]
                return [APIKeyAuthentication]

        by_name: Any = ByName.as_view()
        serve(settings, ByPermission.as_view(), partial(by_name))
        messages = found("keys.W002")
        assert ["property" in message for message in messages] == [True, True]

    def test_of_a_view_without_keys(self, settings: Settings) -> None:
        class Session(APIView):
            permission_classes = [AllowAny]

            @property
            def authentication_classes(self) -> Any:  # type: ignore[override]
                return [SessionAuthentication]

        serve(settings, Session.as_view(), Session.as_view(authentication_classes=[]))
        assert not found("keys.W002")


def test_a_view_within_partial_is_seen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    settings.MIDDLEWARE = []
    behind: Any = Guarded.as_view(authentication_classes=[SessionAuthentication, APIKeyAuthentication])
    serve(settings, partial(behind), partial(plain))
    (message,) = found("keys.W001")
    assert "2 addresses" in message
    (message,) = found("keys.W003")
    assert ".Guarded (/0/)" in message
    serve(settings, transaction.non_atomic_requests(partial(behind)))
    assert not found("keys.W003")


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(request: HttpRequest) -> Any:
        return view(request)

    return wrapper


def with_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    return wraps(view)(without_wraps(view))


def calls_a_function(request: HttpRequest) -> Any:
    return plain(request)


def calls_a_class(request: HttpRequest) -> Any:
    return Guarded.as_view()(request)


def calls_through_a_module(request: HttpRequest) -> Any:
    return [views.Guarded.as_view()(request) for _ in range(2)]


class CallsInAMethod(View):
    def get(self, request: HttpRequest) -> Any:
        return plain(request)


class Holds:
    """An object that is a view, and holds another one."""

    def __init__(self, view: Any) -> None:
        self.view = view

    def __call__(self, request: HttpRequest) -> Any:
        return self.view(request)


@api_key_required()
def batch(request: HttpRequest) -> Any:
    return plain(request)


def open_to_all(request: HttpRequest) -> Any:
    return Open.as_view()(request)


class TestAViewThatCallsAnother:
    @pytest.fixture(autouse=True)
    def in_a_transaction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    @pytest.mark.parametrize(
        "view",
        [
            without_wraps(plain), without_wraps(Guarded.as_view()), without_wraps(without_wraps(plain)),
            calls_a_function, calls_a_class, calls_through_a_module, CallsInAMethod.as_view(), Holds(plain),
            partial(calls_a_class), partial(Holds(plain)),
        ],
    )  # fmt: skip
    def test_is_told(self, settings: Settings, view: Callable[..., Any]) -> None:
        serve(settings, view)
        messages = found("keys.W019")
        assert len(messages) == 1
        assert ".plain, " in messages[0] or ".Guarded, " in messages[0]
        serve(settings, transaction.non_atomic_requests(view) if inspect.isfunction(view) else plain)
        assert not found("keys.W019")

    @pytest.mark.parametrize("view", [with_wraps(plain), plain, Guarded.as_view(), partial(plain), batch, open_to_all])
    def test_is_left_alone_where_its_guard_is_seen(self, settings: Settings, view: Callable[..., Any]) -> None:
        serve(settings, view)
        assert not found("keys.W019")

    def test_is_left_alone_where_nothing_is_in_a_transaction(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", False)
        serve(settings, calls_a_function)
        assert not found("keys.W019")

    def test_the_whole_example_can_be_read(self) -> None:
        # Its views, the admin's and the schema's.
        assert not [message for message in found("keys.W019") if "example_project" in message]


@pytest.mark.parametrize("twice", [[OURS, OURS], [OURS, f"{__name__}.OurMiddleware"]])
def test_the_middleware_twice(settings: Settings, twice: list[str]) -> None:
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware", *twice]
    (message,) = found("keys.W018")
    assert ", ".join(twice) in message
    settings.MIDDLEWARE = twice[1:]
    assert not found("keys.W018")
