"""Keys of every kind, each where it is accepted; who the caller then is."""

import copy
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db.models import prefetch_related_objects
from django.test import Client
from django.views.debug import ExceptionReporter
from pytest_django import Settings
from rest_framework.renderers import JSONRenderer
from rest_framework.test import APIRequestFactory

from keys.authentication import (
    APIKeyAuthentication,
    EnvironmentKeyAuthentication,
    KeyRefused,
    KeyringAuthentication,
    ServicePrincipal,
)
from keys.keyrings import DatabaseKeyring, EnvironmentKey
from keys.models import APIKey, AuditEvent
from tests.support.keys import pickled

pytestmark = pytest.mark.django_db

DEDICATED, SHARED = "dedicated-key-of-32-characters-or-more", "shared-key-of-32-characters-or-more"
NOT_CONFIGURED = (503, {"detail": "Internal API not configured"})
REFUSED = (401, {"detail": "Invalid or missing internal API key"})


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TEST_DEDICATED_KEY", "TEST_SHARED_KEY", "TEST_ALLOW_SHARED"):
        monkeypatch.delenv(variable, raising=False)


def internal(key: str | None) -> tuple[int, Any]:
    response = Client().get("/internal/", headers={} if key is None else {"X-Internal-Api-Key": key})
    return response.status_code, response.json()


def mixed(key: str) -> str:
    """Say who the key is on the view that takes every kind of key, or what came instead."""
    response = Client().get("/mixed/", headers={"X-API-Key": key})
    return str(response.json().get("name", response.status_code))


def rows() -> list[tuple[str, str, str, str]]:
    log = AuditEvent.objects.exclude(method="").order_by("id")
    return list(log.values_list("event", "reason", "key_name", "key_prefix"))


class TestKeysOfTheEnvironment:
    def test_are_accepted_while_they_are_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", f"{DEDICATED}\n")
        monkeypatch.setenv("TEST_SHARED_KEY", f"older-{SHARED}, {SHARED}")
        assert internal(DEDICATED)[1] == {"name": "env:TEST_DEDICATED_KEY", "user": "env:TEST_DEDICATED_KEY"}
        assert internal(SHARED)[1]["name"] == internal(f"older-{SHARED}")[1]["name"] == "env:TEST_SHARED_KEY"
        monkeypatch.setenv("TEST_DEDICATED_KEY", "")
        assert internal(DEDICATED) == REFUSED
        assert rows() == [
            ("used", "", "env:TEST_DEDICATED_KEY", ""), *[("used", "", "env:TEST_SHARED_KEY", "")] * 2,
            ("refused", "unknown", "", ""),
        ]  # fmt: skip

    def test_come_in_the_order_of_the_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", SHARED)
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        assert internal(SHARED)[1]["name"] == "env:TEST_DEDICATED_KEY"

    @pytest.mark.parametrize("value", [None, "", " ", ",", " , ,\n", "\t"])
    def test_of_which_there_is_none(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        if value is not None:
            monkeypatch.setenv("TEST_DEDICATED_KEY", value)
            monkeypatch.setenv("TEST_SHARED_KEY", value)
        for key in (None, "", " ", ",", DEDICATED, "None", "null"):
            assert internal(key) == NOT_CONFIGURED

    def test_a_missing_key_is_told_the_same_as_a_wrong_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        for key in (
            None,
            "",
            SHARED[:-1],
            SHARED + "x",
            SHARED.upper(),
            f"x{SHARED}",
            "TEST_SHARED_KEY",
            "é" * 40,
            "a" * 999,
        ):
            assert internal(key) == REFUSED
        response = Client().get("/internal/")
        assert response["WWW-Authenticate"] == 'Api-Key realm="api"'
        assert response["Vary"] == "X-Internal-Api-Key"
        # Only what was presented is on the record.
        assert sum(AuditEvent.objects.values_list("count", flat=True)) == 8

    def test_two_keys_in_one_header_are_a_conflict(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", f"{SHARED},{DEDICATED}")
        assert internal(f"{SHARED},{DEDICATED}")[0] == internal(f"{SHARED}, {SHARED}")[0] == 400

    def test_are_read_from_their_own_header_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        for headers in (
            {"X-API-Key": SHARED},
            {"Authorization": f"Api-Key {SHARED}"},
            {"X-Internal-Api-Key-2": SHARED},
        ):
            assert Client().get("/internal/", headers=headers).status_code == 401

    def test_have_no_scopes_unless_they_are_given_some(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        assert Client().get("/internal-scoped/", headers={"X-Internal-Api-Key": SHARED}).status_code == 403


class TestEveryKindOfKeyInOneHeader:
    @pytest.mark.parametrize(
        ("switch", "shared"),
        [(None, "env:TEST_SHARED_KEY"), ("true", "env:TEST_SHARED_KEY"), ("false", "401"), ("0", "401"),
         ("nonsense", "401"), ("", "401")],
    )  # fmt: skip
    def test_each_is_known_by_its_own_name(
        self, monkeypatch: pytest.MonkeyPatch, switch: str | None, shared: str
    ) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", DEDICATED)
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        if switch is not None:
            monkeypatch.setenv("TEST_ALLOW_SHARED", switch)
        key = APIKey.objects.create(name="TTS")
        assert [mixed(token) for token in (DEDICATED, SHARED, key.key, "0" * 40, "")] == [
            "env:TEST_DEDICATED_KEY", shared, "TTS", "401", "401"
        ]  # fmt: skip
        monkeypatch.delenv("TEST_DEDICATED_KEY")
        assert [mixed(DEDICATED), mixed(SHARED), mixed(key.key)] == ["401", shared, "TTS"]

    def test_with_a_database_it_is_always_configured(self) -> None:
        assert mixed(SHARED) == "401"
        assert Client().get("/mixed/").status_code == 401

    def test_a_key_that_expires_while_it_is_checked_is_one_refusal(self) -> None:
        # One statement finds the key good and writes its use; Python's clock is a little ahead by then.
        class Slow(DatabaseKeyring):
            def find_and_record(self, token: str, row: Any, may_use: Any) -> Any:
                holder, handle = super().find_and_record(token, row, lambda holder: True)
                assert holder is not None
                assert handle is not None
                holder.expires_at = row["at"]
                return holder, handle

        class SlowAuthentication(KeyringAuthentication):
            keyrings = (Slow(),)

        key = APIKey.objects.create(name="TTS")
        request = APIRequestFactory().get("/", headers={"X-API-Key": key.key})
        with pytest.raises(KeyRefused):
            SlowAuthentication().authenticate(_drf(request))
        assert rows() == [("refused", "expired", "TTS", key.prefix)]


def _drf(request: Any) -> Any:
    from rest_framework.request import Request

    request.resolver_match = None
    return Request(request)


class TestWhoTheCallerIs:
    def test_a_service_and_no_user(self) -> None:
        key = APIKey.objects.create(name="TTS")
        user = ServicePrincipal(key)
        assert (str(user), user.get_username(), user.pk, user.id) == (
            "key:TTS",
            "key:TTS",
            f"key:{key.pk}",
            f"key:{key.pk}",
        )
        assert user.is_authenticated
        assert not any([user.is_anonymous, user.is_staff, user.is_superuser])
        assert not any(
            [user.has_perm("keys.add_apikey"), user.has_perms(["keys.add_apikey"]), user.has_module_perms("keys")]
        )
        assert pickled(user).username == "key:TTS"

    @pytest.mark.parametrize("name", ["admin", "env:ADMIN", "7"])
    def test_no_user_has_its_name(self, name: str) -> None:
        admin = User.objects.create_superuser(name.removeprefix("env:"))
        for holder in (APIKey.objects.create(name=name), EnvironmentKey(name)):
            service = ServicePrincipal(holder)
            for text in (service.username, str(service), service.get_username(), service.pk, service.get_full_name()):
                assert text != admin.username
                assert not User.objects.filter(username=text).exists()
                with pytest.raises(ValidationError):
                    UnicodeUsernameValidator()(text)

    def test_it_has_what_the_user_of_a_stranger_has(self) -> None:
        service, stranger = ServicePrincipal(EnvironmentKey("env:INTERNAL_API_KEY")), AnonymousUser()
        assert [*service.groups.all(), *service.user_permissions.all()] == []
        # As drf-access-policy reads groups.
        prefetch_related_objects([service], "groups", "user_permissions__content_type")  # type: ignore[type-var]
        assert [*service.groups.all(), *pickled(service).user_permissions.all()] == []
        for name in ("user", "group", "all"):
            assert getattr(service, f"get_{name}_permissions")() == set()
            assert async_to_sync(getattr(service, f"aget_{name}_permissions"))() == set()
        assert not async_to_sync(service.ahas_perm)("keys.add_apikey")
        assert not async_to_sync(service.ahas_perms)(["keys.add_apikey"])
        assert not async_to_sync(service.ahas_module_perms)("keys")
        # What writes to a table is no service's.
        writing = {"save", "delete", "set_password", "check_password"}
        assert {name for name in dir(stranger) if not name.startswith("_")} - {*dir(service)} == writing

    def test_two_of_one_key_are_equal(self) -> None:
        key, other = APIKey.objects.create(name="TTS"), APIKey.objects.create(name="TTS")
        service = ServicePrincipal(key)
        for same in (ServicePrincipal(key), ServicePrincipal(key.rotate()), copy.deepcopy(service), pickled(service)):
            assert (same, hash(same)) == (service, hash(service))
        assert service != ServicePrincipal(other)
        assert service != service.username
        assert json.loads(JSONRenderer().render({"by": str(service)})) == {"by": "key:TTS"}

    def test_a_relation_to_a_user_refuses_it_in_plain_words(self) -> None:
        service: Any = ServicePrincipal(APIKey.objects.create(name="TTS"))
        with pytest.raises(ValueError, match=r"key:TTS: a service, not a database user.* must be a .User. instance"):
            LogEntry(user=service)
        with pytest.raises(TypeError, match="key:TTS: a service, not a database user"):
            LogEntry.objects.filter(user=service)

    def test_its_pk_tells_services_apart_and_outlives_a_rotation(self) -> None:
        key, other = APIKey.objects.create(name="TTS"), APIKey.objects.create(name="TTS")
        successor = key.rotate()
        assert ServicePrincipal(successor).pk == ServicePrincipal(successor.rotate()).pk == ServicePrincipal(key).pk
        assert ServicePrincipal(other).pk != ServicePrincipal(key).pk
        assert ServicePrincipal(EnvironmentKey("env:INTERNAL_API_KEY")).pk == "env:INTERNAL_API_KEY"

    def test_request_auth_is_the_key_or_its_like(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = APIKey.objects.create(name="TTS")
        authenticated = APIKeyAuthentication().authenticate(
            _drf(APIRequestFactory().get("/", headers={"X-API-Key": key.key}))
        )
        assert authenticated is not None
        assert authenticated[1] == key
        # What the view gets to see is the digest.
        assert key.key not in repr(vars(authenticated[1]))

        class Internal(EnvironmentKeyAuthentication):
            variables = ("TEST_SHARED_KEY",)

        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        authenticated = Internal().authenticate(_drf(APIRequestFactory().get("/", headers={"X-API-Key": SHARED})))
        assert authenticated is not None
        assert authenticated[1] == EnvironmentKey("env:TEST_SHARED_KEY")


@pytest.mark.parametrize("debug", [True, False])
def test_an_error_report_does_not_show_the_key(settings: Settings, debug: bool) -> None:
    class Broken(DatabaseKeyring):
        def find(self, token: str) -> Any:
            raise RuntimeError("the vault is sealed")

    class BrokenAuthentication(KeyringAuthentication):
        keyrings = (Broken(),)

    settings.DEBUG = debug
    key = APIKey.objects.create(name="TTS")
    request = APIRequestFactory().get(
        "/", headers={"X-API-Key": key.key, "Authorization": f"Api-Key {key.key}", "User-Agent": f"curl {key.key}"}
    )
    with pytest.raises(RuntimeError) as caught:
        BrokenAuthentication().authenticate(_drf(request))
    del request.META["HTTP_USER_AGENT"]
    reporter = ExceptionReporter(request, caught.type, caught.value, caught.tb)
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "the vault is sealed" in report
        assert key.key not in report
