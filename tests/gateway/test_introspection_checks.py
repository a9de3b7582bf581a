"""System checks of the view that services ask about keys; and what a request gets where they were not heeded."""

from typing import Any

import pytest
from django.urls import path
from pytest_django import Settings

from keys.gateway import IntrospectionView
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring, LegacyKey, LegacyKeyring
from keys.models import APIKey, AuditEvent
from keys.verification import Guard
from tests.support.commands import found, run
from tests.support.introspecting import ask
from tests.support.keys import make_key

SCOPES = {"keys:introspect": "Ask.", "users:read": "Read."}
IDS = ("keys.E044", "keys.W045", "keys.W046")


class Subclass(IntrospectionView):
    scopes = ("users:read",)


class OldTokens(LegacyKeyring):
    def look_up(self, token: str) -> LegacyKey | None:
        return LegacyKey(name="Old") if token == "an-old-token" else None


def serve(settings: Settings, **options: Any) -> None:
    settings.ROOT_URLCONF = (path("ask/", options.pop("view", IntrospectionView).as_view(**options), name="ask"),)


def said(check_id: str) -> str:
    return "\n".join(found(check_id))


def test_nothing_is_said_of_a_view_that_can_work(settings: Settings) -> None:
    settings.KEYS = {"SCOPES": SCOPES, "DEFAULT_SCOPES": ["users:read"]}
    for options in ({}, {"keyrings": [DatabaseKeyring(), OldTokens()]}, {"guard": Guard(header="X-Service")}):
        serve(settings, **options)
        assert [found(check_id) for check_id in (*IDS, "keys.E009", "keys.E023", "keys.W010")] == [[]] * 6


@pytest.mark.django_db
@pytest.mark.parametrize("keyrings", [DatabaseKeyring(), "database", [DatabaseKeyring], 7, None, [7]])
def test_keyrings_of_a_wrong_type(settings: Settings, keyrings: Any) -> None:
    serve(settings, keyrings=keyrings)
    assert "cannot be looked for" in said("keys.E044")
    answer = ask(make_key("Orders", scopes=["keys:introspect"]), "0" * 40, path="/ask/")
    assert answer.status_code == 500  # and no "active": false


@pytest.mark.django_db
@pytest.mark.parametrize("keyrings", [(), []])
def test_without_keyrings_no_key_is_known(settings: Settings, keyrings: Any) -> None:
    serve(settings, keyrings=keyrings)
    assert "cannot be looked for: keyrings is empty." in said("keys.E044")


@pytest.mark.parametrize("scopes", [(), []])
def test_without_scopes_everybody_may_ask(settings: Settings, scopes: Any) -> None:
    serve(settings, scopes=scopes)
    assert "Every key may ask" in said("keys.W046")


def test_a_scope_that_is_not_registered(settings: Settings) -> None:
    settings.KEYS = {"SCOPES": {"users:read": "Read."}}
    serve(settings)
    assert "keys:introspect" in said("keys.E009")


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"DEFAULT_SCOPES": ["keys:introspect"]}, "DEFAULT_SCOPES"),
        ({"DEFAULT_SCOPES": ["keys:*"]}, "DEFAULT_SCOPES"),
        ({"DEFAULT_SCOPES": ["*"]}, "DEFAULT_SCOPES"),
        ({"SELF_SERVICE": {"SCOPES": ["users:read", "keys:introspect"]}}, "SELF_SERVICE"),
        ({"SELF_SERVICE": {"SCOPES": ["keys:*"]}}, "SELF_SERVICE"),
        ({"SELF_SERVICE": {"SCOPES": ["users:read"]}}, ""),
        ({"DEFAULT_SCOPES": ["users:*"]}, ""),
    ],
)
def test_a_scope_that_many_get(settings: Settings, options: dict[str, Any], option: str) -> None:
    settings.KEYS = {"SCOPES": SCOPES, **options}
    serve(settings)
    assert (option in said("keys.W045")) if option else not found("keys.W045")
    # Another scope than the usual one.
    serve(settings, view=Subclass)
    assert bool(found("keys.W045")) is any("users" in scope or scope == "*" for scope in str(options).split("'"))
    # Nothing is said where nobody can ask.
    settings.ROOT_URLCONF = ()
    assert not found("keys.W045")


@pytest.mark.parametrize("options", [{"DEFAULT_SCOPES": 7}, {"SELF_SERVICE": 7}, {"SCOPES": 7}])
def test_options_of_a_wrong_type_stop_no_check(settings: Settings, options: dict[str, Any]) -> None:
    settings.KEYS = options
    serve(settings)
    assert [found(check_id) for check_id in IDS] == [[]] * 3


@pytest.mark.django_db
class TestKeyringsThatAreOnlyAskedAbout:
    def test_are_checked_as_those_that_open_views(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_ASKED_KEY", "short")
        serve(settings, keyrings=[EnvironmentKeyring("TEST_ASKED_KEY"), OldTokens()])
        assert "TEST_ASKED_KEY" in said("keys.E013")
        monkeypatch.setattr(OldTokens, "adopts", True)
        assert "OldTokens" in said("keys.E040")
        monkeypatch.setattr(OldTokens, "source", "tokens")
        assert "OldTokens" in said("keys.W041")

    def test_are_known_to_the_commands(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = "a-key-from-the-environment-of-32-characters"
        monkeypatch.setenv("TEST_ASKED_KEY", secret)
        serve(settings, keyrings=[DatabaseKeyring(), EnvironmentKeyring("TEST_ASKED_KEY"), OldTokens()])
        assert run("keys_usage", "--key", "env:TEST_ASKED_KEY").status == 0
        for token in (secret, "an-old-token"):
            explained = run("keys_explain", stdin=token)
            assert "opens no view here, where services only ask about it" in explained.out, explained


@pytest.mark.django_db
def test_the_usage_report_names_the_service_that_asked(settings: Settings) -> None:
    serve(settings)
    key = make_key("Billing")
    ask(make_key("Orders", scopes=["keys:introspect"]), key, path="/ask/", address="203.0.113.7")
    report = run("keys_usage", "--key", "Billing").out
    assert "Orders, which asked about it" in report
    assert "203.0.113.7" in report
    assert AuditEvent.objects.get(key_name="Billing", event="used").api_key_id == APIKey.objects.get(name="Billing").pk
