"""The keyrings of the manual work as it says, word for word, each with the system that it asks."""

import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.module_loading import import_string
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.models import APIKey, AuditEvent
from keys.verification import Guard
from tests.docs.pages import sections
from tests.support.callers import get
from tests.support.commands import run
from tests.support.log import errors, rows
from tests.support.processes import ROOT
from tests.support.recording_service import Answer, RecordingService

pytestmark = pytest.mark.django_db

TOKENS = "tests.keyrings.tokens"
TOKEN = "9f2c7b41.d8e05a63c4f1b7d2e8a90c35f6e1d4b2"


def test_the_blocks_are_in_the_files() -> None:
    found = []
    for _, text in (fenced for section in sections("docs/keyrings.md") for fenced in section.blocks):
        head, _, rest = text.partition("\n")
        named = re.fullmatch(r"# (tokens/\w+\.py)", head)
        assert named is not None, head
        assert rest in (ROOT / "tests" / "keyrings" / named[1]).read_text(), head
        found.append(named[1])
    assert found == ["tokens/peppered.py", "tokens/authentication.py", "tokens/hashed.py", "tokens/asked.py"]


def serve(settings: Settings, keyring: Any) -> None:
    @api_key_required("orders:read", guard=Guard(keyrings=(DatabaseKeyring(), keyring)))
    def orders(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"for": request.auth.name})  # type: ignore[attr-defined]

    settings.ROOT_URLCONF = (path("orders/", orders),)
    settings.KEYS = {
        "SCOPES": {"orders:read": "Read orders.", "orders:write": "Write orders."},
        "OWNERS": ["auth.User"],
    }


class TestAPepper:
    @pytest.fixture
    def row(self, settings: Settings) -> Any:
        settings.TOKEN_PEPPER = "of-no-other-use-than-in-tests"
        serve(settings, import_string(f"{TOKENS}.peppered.OldTokens")())
        digest = hmac.new(b"of-no-other-use-than-in-tests", TOKEN.encode(), hashlib.sha256).hexdigest()
        user = User.objects.create(username="anna")
        return apps.get_model("tokens.Token").objects.create(
            digest=digest, label="Billing", user=user, created_at=datetime(2021, 2, 3, tzinfo=UTC)
        )

    def test_is_adopted(self, row: Any) -> None:
        path = f"{TOKENS}.peppered.OldTokens"
        assert run("keys_legacy", path).status == 1
        assert [get("/orders/", TOKEN).json() for _ in range(2)] == [{"for": "Billing"}] * 2
        key = APIKey.objects.get()
        assert (key.owner, key.scopes, key.created_at) == (row.user, ["orders:read"], row.created_at)
        assert AuditEvent.objects.get(event="created").detail == "adopted from tokens.token"
        assert run("keys_legacy", path).status == 0
        assert get("/orders/", TOKEN[:-1] + "0").status_code == 401

    def test_is_refused_when_it_is_revoked_there(self, row: Any) -> None:
        row.revoked = True
        row.save()
        assert get("/orders/", TOKEN).status_code == 401
        assert rows() == [("refused", "inactive", "Billing", 401)]

    def test_the_header_is_that_of_the_old_tokens(self, row: Any, settings: Settings) -> None:
        guard = import_string(f"{TOKENS}.authentication.TokenAuthentication").guard
        settings.ROOT_URLCONF = (path("", api_key_required(guard=guard)(lambda request: JsonResponse({}))),)
        assert get("/", "", Authorization=f"Token {TOKEN}", **{"X-API-Key": TOKEN}).status_code == 200


class TestASlowHash:
    @pytest.fixture
    def hashed(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """One token, and what is hashed from now on."""
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
        prefix, _, secret = TOKEN.partition(".")
        stored = hashers.make_password(secret)
        apps.get_model("tokens.HashedToken").objects.create(prefix=prefix, hash=stored, name="Billing")
        serve(settings, import_string(f"{TOKENS}.hashed.HashedTokens")())
        hashed: list[str] = []
        encode = hashers.PBKDF2PasswordHasher.encode

        def note(self: Any, password: str, *args: Any, **kwargs: Any) -> str:
            hashed.append(password)
            return encode(self, password, *args, **kwargs)

        monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "encode", note)
        return hashed

    def test_is_found_by_its_prefix_and_hashed_once(self, hashed: list[str]) -> None:
        for stranger in ("0" * 40, "other123.secret", ".", "9f2c7b4", "é"):
            assert get("/orders/", stranger).status_code == 401
        assert hashed == []
        assert get("/orders/", "9f2c7b41.wrong").status_code == 401
        assert hashed == ["wrong"]
        assert [get("/orders/", TOKEN).status_code for _ in range(3)] == [200] * 3
        assert hashed == ["wrong", TOKEN.partition(".")[2]]


class TestAnotherService:
    @pytest.fixture
    def service(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingService]:
        accounts = import_string(f"{TOKENS}.asked.Accounts")
        monkeypatch.setattr(accounts, "timeout", 0.3)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        serve(settings, accounts())
        with RecordingService() as service:
            settings.ACCOUNTS_URL = service.url
            yield service

    def test_says_yes_and_no(self, service: RecordingService) -> None:
        known = Answer(body=b'{"id": 7, "name": "Billing", "scopes": ["orders:read"]}')
        service.answers["/check"] = [known, Answer(401), known]
        assert [get("/orders/", TOKEN).status_code for _ in range(3)] == [200, 401, 200]
        assert [received.body for received in service.received] == [f"token={TOKEN}".encode()] * 3
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize(
        "answer",
        [Answer(500), Answer(503), Answer(404), Answer(302, {"Location": "/x"}), Answer(body=b"<html>"),
         Answer(body=b"{}"), Answer(body=b"[]"), None],
    )  # fmt: skip
    def test_that_fails_is_no_refusal(
        self, service: RecordingService, answer: Answer | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        service.answers["/check"] = [answer]
        service.answers["/x"] = [Answer(500)]
        assert get("/orders/", TOKEN).status_code == 503
        assert "look_up() raised" in errors(caplog)[0]
        assert TOKEN not in caplog.text
        assert rows() == []

    def test_that_is_slow_or_gone_is_no_refusal(self, service: RecordingService) -> None:
        goes_on = threading.Event()

        def late() -> Answer:
            goes_on.wait(60)
            return Answer(401)

        service.answers["/check"] = [late]
        assert get("/orders/", TOKEN).status_code == 503
        goes_on.set()
        service.stop()
        assert get("/orders/", TOKEN).status_code == 503
        assert rows() == []
