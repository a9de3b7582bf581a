"""Checks of what users look after their keys with."""

from types import ModuleType
from typing import Any

import pytest
from django.core import checks
from django.urls import include, path
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import SimpleRouter

from keys.authentication import APIKeyAuthentication
from keys.selfservice.api import APIKeyViewSet

API, PAGES = include("keys.selfservice.urls"), include("keys.selfservice.pages")


class WithSessions(APIKeyViewSet):
    authentication_classes: Any = (APIKeyAuthentication, SessionAuthentication)


class DecidingItself(APIKeyViewSet):
    authentication_classes: Any = ()

    def get_authenticators(self) -> list[Any]:
        return [SessionAuthentication()]


def subclass(view: type[APIKeyViewSet]) -> Any:
    router = SimpleRouter()
    router.register("", view, basename="mine")
    return include(router.urls)


def found(settings: Settings, *included: Any) -> list[str | None]:
    module: Any = ModuleType("urls_of_a_project")
    module.urlpatterns = [path(f"{number}/", each) for number, each in enumerate(included)]
    settings.ROOT_URLCONF = module
    ours = ("keys.E035", "keys.W033", "keys.W037")
    return [message.id for message in checks.run_checks(tags=["keys"]) if message.id in ours]


@pytest.mark.parametrize("included", [API, PAGES, subclass(WithSessions)], ids=["api", "pages", "subclass"])
def test_users_must_be_able_to_own_keys(settings: Settings, included: Any) -> None:
    assert "keys.E035" in found(settings, included)
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    assert "keys.E035" not in found(settings, included)


def test_without_them_nobody_needs_owners(settings: Settings) -> None:
    assert found(settings) == []


def test_users_must_get_in(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    # The example's own authenticators read keys.
    assert found(settings, API, API) == ["keys.W033"]
    assert found(settings, subclass(WithSessions), subclass(DecidingItself), PAGES) == []


@pytest.mark.parametrize("included", [API, PAGES, subclass(WithSessions)], ids=["api", "pages", "subclass"])
def test_where_scopes_are_registered_users_must_have_some_to_give(settings: Settings, included: Any) -> None:
    some: dict[str, Any] = {"OWNERS": ["auth.User"], "SCOPES": {"users:read": "See users."}}
    settings.KEYS = some
    assert "keys.W037" in found(settings, included)
    settings.KEYS = some | {"DEFAULT_SCOPES": ["*"]}  # which users never give
    assert "keys.W037" in found(settings, included)
    enough: dict[str, Any]
    for enough in (
        {"DEFAULT_SCOPES": ["users:read"]},
        {"SELF_SERVICE": {"SCOPES": ["users:read"]}},
        {"SELF_SERVICE": {"SCOPES": []}},  # somebody has decided it
        {"SCOPES": {}},
    ):
        settings.KEYS = some | enough
        assert "keys.W037" not in found(settings, included)
