"""Where keys live: which tokens a keyring knows, and whose they are."""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import KeyringAuthentication
from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring
from keys.models import APIKey
from keys.permissions import HasAPIKey, HasScope, IsUser
from keys.verification import Guard
from tests.support.commands import found
from tests.support.log import rows

VARIABLE, SWITCH = "KEYRING_TEST_KEY", "KEYRING_TEST_ENABLED"
SECRET, OTHER = "secret-one-of-32-characters-or-more", "secret-two-of-32-characters-or-more"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(SWITCH, raising=False)


class TestEnvironmentKeyring:
    ring = EnvironmentKeyring(VARIABLE, scopes=["jobs:read"])

    def test_names_the_variable_as_the_holder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, SECRET)
        holder = self.ring.find(SECRET)
        assert holder is not None
        assert (holder.name, holder.prefix, list(holder.scopes)) == (f"env:{VARIABLE}", "", ["jobs:read"])
        assert SECRET not in repr(holder)
        assert SECRET not in repr(self.ring)

    @pytest.mark.parametrize("value", [None, "", " ", "\n", ",", " , ,\t,\n"])
    def test_a_variable_without_a_value_knows_nothing(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        assert not self.ring.is_configured()
        for token in ("", " ", ",", "\n", "None", value or SECRET):
            assert self.ring.find(token) is None

    @pytest.mark.parametrize(
        "value",
        [f"{SECRET}\n", f" {SECRET} ", f"{SECRET},", f",{SECRET}", f"{OTHER}, {SECRET}\r\n",
         f"{SECRET},{SECRET}", f"x,{SECRET},,y"],
    )  # fmt: skip
    def test_white_space_and_empty_parts_do_not_count(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv(VARIABLE, value)
        assert self.ring.is_configured()
        assert self.ring.find(SECRET) is not None

    @pytest.mark.parametrize(
        "token",
        ["", SECRET[:-1], SECRET[1:], SECRET + "x", SECRET.upper(), SECRET.title(), f" {SECRET}", f"{SECRET}\n", OTHER,
         f"{SECRET},{OTHER[:-1]}", f"{SECRET},x", VARIABLE, f"env:{VARIABLE}", "é" * 40],
    )  # fmt: skip
    def test_nothing_else_matches(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        monkeypatch.setenv(VARIABLE, f"{SECRET},{OTHER}x")
        assert self.ring.find(token) is None

    def test_every_value_works_while_it_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = []
        for value in (SECRET, f"{SECRET},{OTHER}", OTHER):
            monkeypatch.setenv(VARIABLE, value)
            known.append([self.ring.find(token) is not None for token in (SECRET, OTHER)])
        assert known == [[True, False], [True, True], [False, True]]

    def test_compares_every_value_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[int, int]] = []
        compare = hmac.compare_digest

        def spy(a: Any, b: Any) -> bool:
            compared.append((len(a), len(b)))
            return compare(a, b)

        monkeypatch.setenv(VARIABLE, f"{SECRET},{OTHER},short")
        monkeypatch.setattr(hmac, "compare_digest", spy)
        for token in (SECRET, OTHER, "wrong", "w" * 128):
            compared.clear()
            self.ring.find(token)
            # All three, whichever matches, and of one length, whatever the length of what is compared.
            assert len(compared) == 3
            assert len(set(compared)) == 1

    def test_a_value_that_is_not_utf_8_harms_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, f"caf\udce9-in-latin-1,{SECRET}")
        assert self.ring.find(OTHER) is None
        assert self.ring.find(SECRET) is not None

    @pytest.mark.parametrize("on", ["true", "1", "on", "yes", "True", " true\n", None])
    def test_is_switched_on(self, monkeypatch: pytest.MonkeyPatch, on: str | None) -> None:
        ring = EnvironmentKeyring(VARIABLE, enabled_by=SWITCH)
        monkeypatch.setenv(VARIABLE, SECRET)
        if on is not None:
            monkeypatch.setenv(SWITCH, on)
        assert ring.is_configured()
        assert ring.find(SECRET) is not None

    @pytest.mark.parametrize(
        "off", ["false", "0", "off", "no", "False", "false\n", " ", "", "flase", "ja", "é", "\udce9"]
    )
    def test_is_switched_off_by_anything_that_is_not_yes(self, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
        ring = EnvironmentKeyring(VARIABLE, enabled_by=SWITCH)
        monkeypatch.setenv(VARIABLE, SECRET)
        monkeypatch.setenv(SWITCH, off)
        assert not ring.is_configured()
        assert ring.find(SECRET) is None

    def test_reads_the_projects_env_file(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text(f"{VARIABLE}={SECRET}\n{SWITCH}=false\n")
        settings.BASE_DIR = tmp_path
        assert self.ring.find(SECRET) is not None
        assert not EnvironmentKeyring(VARIABLE, enabled_by=SWITCH).is_configured()

    def test_the_environment_comes_before_the_file(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text(f"{VARIABLE}={SECRET}\n")
        settings.BASE_DIR = tmp_path
        monkeypatch.setenv(VARIABLE, OTHER)
        assert [self.ring.find(token) is not None for token in (SECRET, OTHER)] == [False, True]
        monkeypatch.setenv(VARIABLE, "")
        assert not self.ring.is_configured()

    def test_reads_no_file_of_a_parent(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text(f"{VARIABLE}={SECRET}\n")
        (tmp_path / "settings.ini").write_text(f"[settings]\n{VARIABLE}={SECRET}\n")
        (tmp_path / "project").mkdir()
        settings.BASE_DIR = tmp_path / "project"
        assert not self.ring.is_configured()
        assert self.ring.find(SECRET) is None

    @pytest.mark.django_db
    def test_a_file_that_cannot_be_read_is_no_refusal(
        self, settings: Settings, tmp_path: Path, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / ".env").write_bytes(f"{VARIABLE}={SECRET}\n# é".encode("latin-1"))
        settings.BASE_DIR = tmp_path
        guard = Guard(keyrings=(self.ring, DatabaseKeyring()))
        view = api_key_required(guard=guard)(lambda request: HttpResponse("in"))
        settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("guarded/", view)]})
        assert client.get("/guarded/", headers={"X-API-Key": SECRET}).status_code == 503
        assert client.get("/guarded/").status_code == 401
        assert f"{tmp_path}/.env is not text in UTF-8." in caplog.text
        assert [f"{tmp_path}/.env" in message for message in found("keys.E024")] == [True]

    def test_works_in_a_project_without_base_dir(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".env").write_text(f"{VARIABLE}={SECRET}\n")
        del settings.BASE_DIR
        monkeypatch.chdir(tmp_path)
        assert self.ring.find(SECRET) is not None


@pytest.mark.django_db
class TestDatabaseKeyring:
    ring = DatabaseKeyring()

    def test_finds_the_key_and_whatever_state_it_is_in(self) -> None:
        key = APIKey.objects.create(name="A")
        key.is_active = False
        key.save()
        assert self.ring.is_configured()
        assert self.ring.find(key.key) == key

    def test_takes_no_digest_for_a_key(self) -> None:
        key = APIKey.objects.create(name="A")
        stored = APIKey.objects.get().key
        for token in (str(stored), str(stored).removeprefix("sha256$"), key.prefix, key.key.upper(), key.key[:-1], ""):
            assert self.ring.find(token) is None

    def test_finds_a_key_with_and_without_the_prefix(self, settings: Settings) -> None:
        settings.KEYS = {"PREFIX": "auth_live_"}
        key = APIKey.objects.create(name="A")
        assert self.ring.find(key.key) == key
        assert self.ring.find(key.key.removeprefix("auth_live_")) == key
        assert self.ring.find(f"auth_live_{key.key}") is None
        assert self.ring.find(f"auth_test_{key.key.removeprefix('auth_live_')}") is None

    def test_two_keyrings_of_a_class_that_hold_different_things_are_two(self, settings: Settings) -> None:
        class OfATeam(DatabaseKeyring):
            def __init__(self, team: str) -> None:
                object.__setattr__(self, "team", team)

            def find(self, token: str) -> APIKey | None:
                key = super().find(token)
                return key if key is not None and key.name == self.team else None  # type: ignore[attr-defined]

        sales, support = (Guard(keyrings=(OfATeam(team),)) for team in ("sales", "support"))
        assert sales != support
        assert sales == Guard(keyrings=(OfATeam("sales"),))
        inner = api_key_required(guard=support)(lambda request: HttpResponse("support's"))
        settings.ROOT_URLCONF = (path("", api_key_required(guard=sales)(inner)),)
        key = APIKey.objects.create(name="sales")
        assert Client(headers={"X-API-Key": key.key}).get("/").status_code == 401


@dataclass
class Account:
    """Whose key it is, in another place than the table."""

    name: str = "warehouse"
    scopes: tuple[str, ...] = ("users:read",)
    prefix: str = ""
    owner_ref: str = ""

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes


class Elsewhere:
    def is_configured(self) -> bool:
        return True

    def find(self, token: str) -> Account | None:
        return Account() if token == SECRET else None


class FromElsewhere(KeyringAuthentication):
    keyrings = (Elsewhere(),)


READ = HasScope("users:read")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("permission", "status", "row"),
    [(HasAPIKey, 200, ("used", "")), (READ, 200, ("used", "")), (~HasScope("users:write"), 200, ("used", "")),
     (~READ, 403, ("refused", "scope")), (~(READ | IsAdminUser), 403, ("refused", "scope")),
     (HasScope("users:write"), 403, ("refused", "scope")), (IsUser, 403, ("used", "")),
     (~HasAPIKey, 403, ("used", ""))],
)  # fmt: skip
def test_a_key_of_a_projects_own_keyring_is_one(
    permission: Any, status: int, row: tuple[str, str], settings: Settings
) -> None:
    class View(APIView):
        authentication_classes = [FromElsewhere]
        permission_classes = [permission]

        def get(self, request: Request) -> Response:
            return Response()

    settings.ROOT_URLCONF = (path("", View.as_view()),)
    assert Client(headers={"X-API-Key": SECRET}).get("/").status_code == status
    assert rows() == [(*row, "warehouse", status)]
