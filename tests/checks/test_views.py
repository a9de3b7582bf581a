"""System checks of what the views of the URLconf ask for."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from keys.authentication import APIKeyAuthentication, EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.permissions import HasAPIKey, HasScope
from tests.support.commands import found, serve


class Open(APIView):
    permission_classes = [AllowAny]


def asking(permission: Any) -> Callable[..., Any]:
    return Open.as_view(permission_classes=[permission])


@api_view(["GET"])
@permission_classes([HasScope("users:raed")])
def function(request: Request) -> Response:
    return Response()


@api_key_required("users:raed")
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@api_key_required("users:read")
@api_key_required("users:raed")
async def plain_twice(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@method_decorator(api_key_required("users:raed"), name="dispatch")
class Dispatch(View):
    pass


class Method(View):
    @method_decorator(api_key_required("users:raed"))
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Actions(ViewSet):
    permission_classes = [HasScope("users:read")]

    def list(self, request: Request) -> Response:
        return Response()

    @action(detail=False, permission_classes=[HasScope("users:raed")])
    def recent(self, request: Request) -> Response:
        return Response()


class ReadsUsers(HasScope):
    scopes = ("users:raed",)


@pytest.mark.parametrize(
    "view",
    [
        asking(HasScope("users:raed")),
        asking(HasScope("users:read", "users:raed")),
        asking(IsAuthenticated & (HasAPIKey | ~HasScope("users:raed"))),
        asking(HasScope("users:read") | HasScope("users:raed")),
        asking(ReadsUsers),
        cache_page(60)(asking(HasScope("users:raed"))),
        function, plain, plain_twice, Dispatch.as_view(), Method.as_view(),
    ],
)  # fmt: skip
def test_a_scope_that_is_not_registered(settings: Settings, view: Callable[..., Any]) -> None:
    serve(settings, view)
    (message,) = found("keys.E009")
    assert "'users:raed'" in message
    assert "(/0/)" in message
    assert "Did you mean users:read?" in message

    settings.KEYS = {"SCOPES": {"users:read": "Read.", "users:raed": "Raed."}}
    assert not found("keys.E009")
    settings.KEYS = {}  # No registry: any well-formed scope goes.
    assert not found("keys.E009")


def test_the_action_of_a_view_set_is_told_once_for_all_of_its_addresses(settings: Settings) -> None:
    router = DefaultRouter()
    router.register("things", Actions, basename="thing")
    settings.ROOT_URLCONF = tuple(router.urls)
    assert len(router.urls) > 4  # Each also with a suffix for its format.
    (message,) = found("keys.E009")
    assert "tests.checks.test_views.Actions" in message


def test_scopes_that_are_registered_are_fine(settings: Settings) -> None:
    serve(settings, asking(HasScope("users:read")), asking(HasScope("users:*")), asking(HasScope("*")), Open.as_view())
    assert not found("keys.E009")
    assert not found("keys.E010")


@pytest.mark.parametrize("scope", ["users", "", "users:read,employees:read", ["users:read"], None, 3])
def test_a_scope_that_is_none(settings: Settings, scope: Any) -> None:
    serve(settings, asking(~HasScope(scope)))
    (message,) = found("keys.E010")
    assert repr(scope) in message
    assert not found("keys.E009")

    serve(settings, asking(~HasScope("users:read")))
    assert not found("keys.E010")


@pytest.mark.parametrize("permission", [HasScope, HasScope & IsAuthenticated, ~HasScope, HasAPIKey | HasScope])
def test_has_scope_without_scopes(settings: Settings, permission: Any) -> None:
    serve(settings, asking(permission))
    (message,) = found("keys.E011")
    assert "at least one scope" in message

    serve(settings, asking(HasScope("users:read")), asking(ReadsUsers), asking(HasAPIKey))
    assert not found("keys.E011")


def test_an_authenticator_without_keyrings(settings: Settings) -> None:
    class ForgotTheComma(EnvironmentKeyAuthentication):
        variables = "INTERNAL_API_KEY"  # type: ignore[assignment]

    class NotATuple(KeyringAuthentication):
        keyrings = None  # type: ignore[assignment]

    class Good(EnvironmentKeyAuthentication):
        variables = ("INTERNAL_API_KEY",)

    for bad in (KeyringAuthentication, EnvironmentKeyAuthentication, ForgotTheComma, NotATuple):
        serve(settings, Open.as_view(authentication_classes=[bad]))
        (message,) = found("keys.E012")
        assert bad.__name__ in message

    serve(settings, Open.as_view(authentication_classes=[SessionAuthentication, Good, APIKeyAuthentication]))
    assert not found("keys.E012")


def test_views_that_declare_nonsense_do_not_crash_the_checks(settings: Settings) -> None:
    class CallableInstance:
        def __call__(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    class Foreign:
        guard: list[str] = []  # What another library may mean by a guard.

    nonsense = [None, 3, "text", [None], [3, "text"], [Foreign], HasScope("users:read"), [HasScope]]
    views = [
        type("Nonsense", (APIView,), {name: value}).as_view()  # type: ignore[attr-defined]
        for name in ("authentication_classes", "permission_classes", "throttle_classes")
        for value in nonsense
    ]
    serve(settings, *views, CallableInstance())
    assert len(found("keys.E011")) == 1
    settings.ROOT_URLCONF = None
    assert not found("keys.E011")
