"""`keys_import`: clients of other packages go on with the keys they have."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import Settings
from rest_framework_api_key.models import APIKey as OtherAPIKey

from keys.models import APIKey, AuditEvent
from tests.support.commands import run
from tests.support.other_packages import api_key, authtoken, call, knox, user

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.support.other_packages")]

SOURCES = pytest.mark.parametrize(("source", "make"), [("authtoken", authtoken), ("knox", knox), ("api-key", api_key)])
Make = Callable[[], str]


@SOURCES
def test_a_client_goes_on_with_its_old_key(source: str, make: Make) -> None:
    authorization = make()
    assert call("/new/", authorization) == 401
    imported = run("keys_import", source, "--scope", "users:read")
    assert imported.status == 0
    response = Client().get("/new/", headers={"Authorization": authorization})
    assert (response.status_code, response.json()) == (200, {"name": "alice"})
    assert AuditEvent.objects.get(event="used").key_name == "alice"
    # It is the key that the package itself knows, to its last character.
    assert call("/new/", authorization[:-1] + ("0" if authorization[-1] != "0" else "1")) == 401
    assert call("/new/", authorization + "0") == 401


def test_a_name_that_no_key_may_have_is_taken_over_as_the_log_would_show_it() -> None:
    authorization = authtoken()
    User.objects.update(username="ali\x1bce")
    assert run("keys_import", "authtoken").status == 0
    assert APIKey.objects.get().name == r"ali\x1bce"
    assert Client().get("/new/", headers={"Authorization": authorization}).status_code == 200


@SOURCES
def test_nothing_is_changed_where_the_keys_come_from(source: str, make: Make) -> None:
    authorization = make()
    assert call(f"/{source}/", authorization) == 200
    run("keys_import", source)
    assert call(f"/{source}/", authorization) == 200


@SOURCES
def test_it_is_an_ordinary_key_from_then_on(source: str, make: Make) -> None:
    authorization = make()
    secret = authorization.split()[1]
    run("keys_import", source, "--scope", "users:read")
    key = APIKey.objects.get(key=secret)
    assert (key.prefix, key.typed_by_hand) == (secret[:8], False)
    assert key.state in {"active", "expiring"}
    assert secret not in str(key.key)
    fixture = serializers.serialize("json", [key])
    key.delete()
    for restored in serializers.deserialize("json", fixture):
        restored.save()
    assert call("/new/", authorization) == 200
    key = APIKey.objects.get(key=secret)
    successor = key.rotate()
    assert call("/new/", f"Api-Key {successor.key}") == 200
    key.refresh_from_db()
    key.deactivate()
    assert call("/new/", authorization) == 401


@SOURCES
def test_what_is_stored_there_is_no_key_here(source: str, make: Make) -> None:
    make()
    run("keys_import", source, "--scope", "users:read")
    stored = str(APIKey.objects.get().key)
    for text in [stored, stored.partition("$")[2], "$$".join(stored.split("$"))]:
        assert call("/new/", f"Api-Key {text}") == 401


@SOURCES
def test_a_second_time_it_finds_them_here_already(source: str, make: Make) -> None:
    make()
    run("keys_import", source)
    again = run("keys_import", source)
    assert again.status == 0
    assert "0 imported" in again.out
    assert "1 was here already" in again.out
    assert APIKey.objects.count() == 1


@SOURCES
def test_a_dry_run_says_the_same_and_does_nothing(source: str, make: Make) -> None:
    make()
    tried = run("keys_import", source, "--dry-run")
    assert (tried.status, APIKey.objects.count(), AuditEvent.objects.count()) == (0, 0, 0)
    assert "1 would be imported" in tried.out
    assert run("keys_import", source).out == tried.out.replace("would be imported", "imported")


@SOURCES
def test_no_secret_is_said(source: str, make: Make) -> None:
    secret = make().split()[1]
    said = run("keys_import", source)
    assert secret not in said.out + said.err


class TestWhatIsCarriedOver:
    def test_when_the_key_was_made(self) -> None:
        api_key()
        created = timezone.now() - timedelta(days=400)
        OtherAPIKey.objects.update(created=created)
        run("keys_import", "api-key")
        assert APIKey.objects.get().created_at == created
        # It counts as what the row has held from the beginning.
        key = APIKey.objects.get()
        key.save()
        assert [event.event for event in AuditEvent.objects.all()] == ["created"]

    def test_that_it_expires(self) -> None:
        expiry = timezone.now() + timedelta(days=1)
        authorization = api_key(expiry_date=expiry)
        run("keys_import", "api-key", "--scope", "users:read")
        assert APIKey.objects.get().expires_at == expiry
        assert call("/new/", authorization) == 200

    def test_that_it_has_expired(self) -> None:
        token = AuthToken.objects.create(user(), expiry=timedelta(seconds=-1))[1]
        run("keys_import", "knox", "--scope", "users:read")
        assert call("/new/", f"Token {token}") == 401
        assert AuditEvent.objects.get(event="refused").reason == "expired"

    def test_that_it_was_revoked(self) -> None:
        authorization = api_key(revoked=True)
        run("keys_import", "api-key", "--scope", "users:read")
        assert call("/new/", authorization) == 401
        assert AuditEvent.objects.get(event="refused").reason == "inactive"

    @pytest.mark.parametrize("source", ["authtoken", "knox"])
    def test_that_its_user_was_deactivated(self, source: str) -> None:
        authorization = authtoken() if source == "authtoken" else knox()
        User.objects.update(is_active=False)
        run("keys_import", source, "--scope", "users:read")
        assert call("/new/", authorization) == 401
        assert AuditEvent.objects.get(event="refused").reason == "inactive"

    def test_scopes_are_the_projects_defaults_unless_they_are_given(self, settings: Settings) -> None:
        settings.KEYS = {"DEFAULT_SCOPES": ["users:read"]}
        api_key()
        said = run("keys_import", "api-key")
        assert APIKey.objects.get().scopes == ["users:read"]
        assert "scopes users:read" in said.out
        api_key(name="B")
        run("keys_import", "api-key", "--no-scopes")
        assert APIKey.objects.get(name="B").scopes == []

    def test_a_key_without_a_name_is_called_by_its_prefix(self) -> None:
        prefix = api_key(name=" ").split()[1][:8]
        run("keys_import", "api-key")
        assert APIKey.objects.get().name == prefix

    def test_a_name_that_is_too_long_is_cut(self) -> None:
        AuthToken.objects.create(user("x" * 150))
        run("keys_import", "knox")
        assert APIKey.objects.get().name == "x" * 100
