"""Checks of what users look after their keys with."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.core import checks
from django.db import connection
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
    ours = ("keys.E035", "keys.W033", "keys.W036", "keys.W037")
    return [message.id for message in checks.run_checks(tags=["keys"]) if message.id in ours]


@pytest.mark.parametrize("included", [API, PAGES, subclass(WithSessions)], ids=["api", "pages", "subclass"])
def test_users_must_be_able_to_own_keys(settings: Settings, included: Any) -> None:
    assert "keys.E035" in found(settings, included)
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    assert "keys.E035" not in found(settings, included)


def test_without_them_nobody_needs_owners(settings: Settings) -> None:
    assert found(settings) == []


@pytest.mark.parametrize("wrong", [{"SCOPES": 7}, {"PREFIX": 7}, {"SELF_SERVICE": 7}, {"TRUSTED_PROXIES": "x"}])
def test_a_wrong_option_of_any_kind_is_left_to_the_check_of_it(settings: Settings, wrong: dict[str, Any]) -> None:
    settings.KEYS = {"OWNERS": ["auth.User"], **wrong}
    assert found(settings, API, PAGES) == ["keys.W033"]


def test_their_number_must_hold(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
    if connection.vendor != "postgresql":
        monkeypatch.setattr(connection, "vendor", "postgresql")
    level = SimpleNamespace(name="REPEATABLE_READ")
    for atomic, options, ids in (
        (True, {"isolation_level": level}, ["keys.W036"]), (False, {"isolation_level": level}, []), (True, {}, []),
        (True, {"isolation_level": SimpleNamespace(name="SERIALIZABLE")}, []),
    ):  # fmt: skip
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
        assert found(settings, PAGES) == ids
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
