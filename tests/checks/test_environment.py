"""System checks of keys in environment variables, and what a request meets where one complains."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import EnvironmentKeyAuthentication, KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.permissions import HasAPIKey
from keys.verification import Guard
from tests.support.commands import found, serve

DEDICATED, SHARED, SWITCH = "TEST_DEDICATED_KEY", "TEST_SHARED_KEY", "TEST_ALLOW_SHARED_KEY"
GOOD = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


class Guarded(APIView):
    permission_classes = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response({})


def guarded_by(*rings: EnvironmentKeyring | DatabaseKeyring) -> Callable[..., Any]:
    class Authentication(KeyringAuthentication):
        keyrings = rings

    return Guarded.as_view(authentication_classes=[Authentication])


@pytest.fixture(autouse=True)
def view(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One view, opened by a dedicated key and by a shared one that a switch takes away."""
    monkeypatch.setenv(DEDICATED, GOOD)
    monkeypatch.setenv(SHARED, OTHER)
    monkeypatch.setenv(SWITCH, "true")
    serve(settings, guarded_by(EnvironmentKeyring(DEDICATED), EnvironmentKeyring(SHARED, enabled_by=SWITCH)))


@pytest.mark.parametrize("value", [GOOD[:31], "  " + GOOD[:31] + "  \n", f"{GOOD},stump", "x"])
def test_a_key_is_long_enough(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(DEDICATED, value)
    (message,) = found("keys.E013")
    assert DEDICATED in message
    assert value == "x" or not any(part.strip() in message for part in value.split(","))

    for good in (GOOD, f" {GOOD} , {OTHER},,\n", "", " , "):
        monkeypatch.setenv(DEDICATED, good)
        assert not found("keys.E013")


def test_the_key_that_signs_seals_is_long_enough_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS_SEAL_KEY", GOOD[:31])
    assert "KEYS_SEAL_KEY" in found("keys.E013")[0]
    monkeypatch.setenv("KEYS_SEAL_KEY", GOOD)
    assert not found("keys.E013")
    (message,) = found("keys.W006")
    assert f"{DEDICATED} and KEYS_SEAL_KEY" in message
    monkeypatch.setenv("KEYS_SEAL_KEY", f"{GOOD[1:]}a,{OTHER[1:]}a")
    assert not found("keys.W006")


@pytest.mark.parametrize("value", [GOOD + "é", "x" * 129, GOOD + "\x07", GOOD + "\udcff", f"{OTHER},{GOOD}\x7f"])
def test_a_key_can_be_presented(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(DEDICATED, value)
    (message,) = found("keys.E014")
    assert DEDICATED in message
    assert GOOD not in message

    monkeypatch.setenv(DEDICATED, "x" * 128)
    assert not found("keys.E014")


@pytest.mark.parametrize("value", ["maybe", "2", GOOD, "tru"])
def test_a_switch_is_boolean(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(SWITCH, value)
    (message,) = found("keys.E015")
    assert SWITCH in message
    assert value not in message.replace("true or false", "")

    for good in ("true", "False", "0", "on"):
        monkeypatch.setenv(SWITCH, good)
        assert not found("keys.E015")
    monkeypatch.delenv(SWITCH)
    assert not found("keys.E015")


@pytest.mark.django_db
@pytest.mark.parametrize(("value", "status"), [("true", 200), ("false", 401), ("maybe", 401)])
def test_a_switch_that_is_not_boolean_is_off(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, status: int
) -> None:
    monkeypatch.setenv(SWITCH, value)
    assert client.get("/0/", headers={"x-api-key": GOOD}).status_code == 200
    assert client.get("/0/", headers={"x-api-key": OTHER}).status_code == status
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert bool(errors) == (value == "maybe")
    assert not any("maybe" in error for error in errors)


@pytest.mark.django_db
def test_a_key_that_cannot_be_presented_breaks_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEDICATED, GOOD + "\udcff")  # What an environment that is not UTF-8 looks like.
    assert client.get("/0/", headers={"x-api-key": GOOD}).status_code == 401
    assert client.get("/0/", headers={"x-api-key": OTHER}).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "says"),
    [("tracking:write", "'tracking:write'"), (["tracking"], "'tracking'"), (["tracking:wirte"], "Did you mean"),
     (None, "None"), ([3], "3")],
)  # fmt: skip
def test_the_scopes_of_a_key_are_registered(settings: Settings, scopes: Any, says: str) -> None:
    serve(settings, guarded_by(EnvironmentKeyring(DEDICATED, scopes=scopes)))
    (message,) = found("keys.E016")
    assert DEDICATED in message
    assert says in message

    good: Sequence[str] = ["tracking:write", "users:*"]
    serve(settings, guarded_by(EnvironmentKeyring(DEDICATED, scopes=good)))
    assert not found("keys.E016")


@pytest.mark.parametrize("value", [None, "", " ", ",", " , \n"])
def test_a_variable_that_is_set_nowhere(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(SHARED)
    else:
        monkeypatch.setenv(SHARED, value)
    (message,) = found("keys.W005")
    assert SHARED in message

    # Where the keyring is switched off nobody misses it.
    monkeypatch.setenv(SWITCH, "false")
    assert not found("keys.W005")
    monkeypatch.setenv(SWITCH, "true")
    monkeypatch.setenv(SHARED, OTHER)
    assert not found("keys.W005")


def test_a_variable_is_told_once_however_many_views_it_guards(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Environment(EnvironmentKeyAuthentication):
        variables = (SHARED,)

    @api_key_required(guard=Guard(keyrings=(EnvironmentKeyring(SHARED, enabled_by=SWITCH),)))
    def plain(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    monkeypatch.delenv(SHARED)
    view = Guarded.as_view(authentication_classes=[Environment])
    for views in ((view, view, plain), (plain,)):
        serve(settings, *views)
        assert len(found("keys.W005")) == 1
    monkeypatch.setenv(SWITCH, "false")
    assert not found("keys.W005")


def test_two_variables_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEDICATED, f"{GOOD}, {OTHER},{OTHER}")
    (message,) = found("keys.W006")
    assert f"{DEDICATED} and {SHARED}" in message
    assert OTHER not in message

    monkeypatch.setenv(DEDICATED, f"{GOOD},{GOOD}")
    assert not found("keys.W006")
