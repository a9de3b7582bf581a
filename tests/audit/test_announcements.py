"""What is reported about keys: log lines and signals."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.dispatch import Signal
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from keys import actor, signals
from keys.keyrings import EnvironmentKey
from keys.models import APIKey
from keys.testing import APIKeyClient

WRONG = "0123456789abcdef0123456789abcdef01234567"
SHARED = "a-key-from-the-environment-of-32-characters"

pytestmark = pytest.mark.django_db

Listen = Callable[[Signal], list[dict[str, Any]]]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Note what a signal is sent with, after another receiver of it has failed."""
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []

        def failing(**kwargs: Any) -> None:
            raise RuntimeError("a receiver that fails")

        def noting(**kwargs: Any) -> None:
            heard.append(kwargs)

        for receiver in (failing, noting):
            signal.connect(receiver)
            connected.append((signal, receiver))
        return heard

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


def test_a_handler_that_cannot_write_a_line_changes_no_answer() -> None:
    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(28, "No space left on device")

    client, handler = APIKeyClient(name="TTS"), Full()
    logging.getLogger("api_keys").addHandler(handler)
    try:
        assert client.get("/guarded/").status_code == 200
        assert Client().get("/guarded/", headers={"X-API-Key": WRONG}).status_code == 401
    finally:
        logging.getLogger("api_keys").removeHandler(handler)


class TestUses:
    def test_a_use_is_told_once_with_what_the_audit_log_holds(self, listen: Listen) -> None:
        heard, refusals = listen(signals.key_used), listen(signals.key_refused)
        client = APIKeyClient(name="TTS")
        assert client.get("/guarded/").status_code == 200
        (told,) = heard
        assert (told["key"], told["sender"]) == (client.key, APIKey)
        row = told["row"]
        assert (row["event"], row["key_name"], row["key_prefix"]) == ("used", "TTS", client.key.prefix)
        assert (row["method"], row["path"], row["endpoint"]) == ("GET", "/guarded/", "guarded")
        assert refusals == []

    def test_a_key_from_the_environment_too(self, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", SHARED)
        heard = listen(signals.key_used)
        assert Client().get("/internal/", headers={"X-Internal-Api-Key": SHARED}).status_code == 200
        assert (heard[0]["sender"], heard[0]["key"].name) == (EnvironmentKey, "env:TEST_SHARED_KEY")

    def test_the_owner_is_told_with_the_row_and_the_key(self, listen: Listen, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        owner = User.objects.create_user("anna")
        heard = [listen(signals.key_used), listen(signals.key_refused)]
        client = APIKeyClient(name="TTS", owner=owner)
        client.get("/guarded/")
        User.objects.update(is_active=False)
        client.get("/guarded/")
        for (told,), reason in zip(heard, ("", "owner"), strict=True):
            assert (told["row"]["owner"], told["row"]["reason"]) == (f"auth.user:{owner.pk}", reason)
            assert told["key"].owner == owner

    def test_a_request_without_a_key_is_not_told(self, listen: Listen) -> None:
        heard = [*listen(signals.key_used), *listen(signals.key_refused)]
        assert Client().get("/guarded/").status_code == 401
        assert heard == []

    def test_the_secret_is_not_in_it(self, listen: Listen) -> None:
        heard = [listen(signals.key_used), listen(signals.key_refused)]
        client = APIKeyClient()
        secret = str(client.key.key)
        assert client.get("/guarded/", headers={"X-Request-ID": secret}).status_code == 200
        assert Client().get(f"/guarded/{WRONG}/", headers={"X-API-Key": WRONG}).status_code == 401
        assert heard[0][0]["row"]["request_id"] != ""
        assert [len(told) for told in heard] == [1, 1]
        said = str([(told["row"], vars(told["key"]) if told["key"] else None) for told in heard[0] + heard[1]])
        assert secret not in said
        assert WRONG not in said


class TestRefusals:
    @pytest.mark.parametrize(
        ("presented", "status", "reason"),
        [(WRONG, 401, "unknown"), ("x" * 129, 401, "malformed"), ("a, b", 400, "conflict")],
    )
    def test_a_stranger_is_told_with_the_reason(self, listen: Listen, presented: str, status: int, reason: str) -> None:
        heard, uses = listen(signals.key_refused), listen(signals.key_used)
        for _ in range(8):  # of a flood each one, though its rows in the log are few
            assert Client().get("/guarded/", headers={"X-API-Key": presented}).status_code == status
        assert [(told["key"], told["row"]["reason"], told["row"]["status"]) for told in heard] == [
            (None, reason, status)
        ] * 8
        assert {told["row"]["endpoint"] for told in heard} == {"guarded"}
        assert uses == []

    def test_a_key_that_is_known_is_told_with_it(self, listen: Listen) -> None:
        heard = listen(signals.key_refused)
        client = APIKeyClient(is_active=False)
        assert client.get("/guarded/").status_code == 401
        assert (heard[0]["key"], heard[0]["row"]["reason"]) == (client.key, "inactive")

    def test_a_scope_that_is_missing_is_told_when_the_answer_is_done(self, listen: Listen) -> None:
        heard, uses = listen(signals.key_refused), listen(signals.key_used)
        client = APIKeyClient(scopes=[])
        assert client.get("/scoped/").status_code == 403
        assert [(told["key"], told["row"]["reason"], told["row"]["status"]) for told in heard] == [
            (client.key, "scope", 403)
        ]
        assert len(uses) == 1


class TestLifeCycle:
    @pytest.fixture
    def heard(self, listen: Listen) -> list[dict[str, Any]]:
        return listen(signals.key_life_cycle)

    def test_each_step_is_told_after_its_commit(
        self, heard: list[dict[str, Any]], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True), actor.acting_as("user: alice"):
            key = APIKey.objects.create(name="TTS")
            key.name = "Billing"
            key.save()
            key.rotate()
            key.deactivate()
            pk = key.pk
            key.delete()
            assert heard == []
        steps = [(told["event"], told["key"].name) for told in heard]
        assert steps == [
            ("created", "TTS"), ("changed", "Billing"), ("created", "Billing"), ("rotated", "Billing"),
            ("deactivated", "Billing"), ("deleted", "Billing"),
        ]  # fmt: skip
        assert heard[1]["detail"] == "name"
        assert heard[-1]["key"].pk == pk
        assert {told["actor"] for told in heard} == {"user: alice"}

    def test_the_secret_of_a_new_key_is_not_told(
        self, heard: list[dict[str, Any]], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
    ) -> None:
        with django_capture_on_commit_callbacks(execute=True):
            key = APIKey.objects.create(name="TTS")
        assert heard[0]["key"] == key
        assert heard[0]["key"].key != key.key
        assert APIKey.objects.filter(key=heard[0]["key"].key).count() == 0

    @pytest.mark.django_db(transaction=True)
    def test_what_is_rolled_back_is_not_told(self, heard: list[dict[str, Any]]) -> None:
        with transaction.atomic():
            APIKey.objects.create(name="TTS")
            transaction.set_rollback(True)
        assert heard == []
        APIKey.objects.create(name="Billing")
        assert [told["event"] for told in heard] == ["created"]


class TestLines:
    def test_a_use_says_which_key_where_and_for_which_request(self, caplog: pytest.LogCaptureFixture) -> None:
        client = APIKeyClient(name="TTS")
        client.get("/guarded/", headers={"X-Request-ID": "r-1"}, REMOTE_ADDR="192.0.2.1")
        (line,) = [record for record in caplog.records if record.name == "api_keys"]
        assert (line.levelname, line.getMessage()) == ("INFO", "API Key used: TTS")
        assert extra(line) == {
            "name": "TTS", "prefix": client.key.prefix, "reason": "", "address": "192.0.2.1", "method": "GET",
            "endpoint": "guarded", "request_id": "r-1",
        }  # fmt: skip

    def test_a_refusal_says_why(self, caplog: pytest.LogCaptureFixture) -> None:
        Client().get("/guarded/", headers={"X-API-Key": WRONG}, REMOTE_ADDR="192.0.2.1")
        (line,) = [record for record in caplog.records if record.name == "api_keys"]
        assert (line.levelname, line.getMessage()) == ("WARNING", "Invalid API key attempt from 192.0.2.1")
        assert extra(line) == {
            "name": "", "prefix": "", "reason": "unknown", "address": "192.0.2.1", "method": "GET",
            "endpoint": "guarded", "request_id": "",
        }  # fmt: skip

    def test_where_keys_have_owners_each_line_names_them(
        self, caplog: pytest.LogCaptureFixture, settings: Settings
    ) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        owner = User.objects.create_user("anna")
        APIKeyClient(name="TTS", owner=owner).get("/guarded/")
        APIKeyClient(name="Nobodys").get("/guarded/")
        User.objects.update(is_active=False)
        refused = APIKey.objects.get(name="TTS")
        refused.key = "f" * 40
        refused.save()
        Client().get("/guarded/", headers={"X-API-Key": "f" * 40})
        told = [extra(line) for line in caplog.records if line.name == "api_keys"]
        assert [(line["owner"], line["reason"]) for line in told] == [
            (f"auth.user:{owner.pk}", ""), ("", ""), (f"auth.user:{owner.pk}", "owner"),
        ]  # fmt: skip

    def test_a_project_may_put_its_own_request_id_on_every_record(self, caplog: pytest.LogCaptureFixture) -> None:
        plain = logging.getLogRecordFactory()

        def with_request_id(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = plain(*args, **kwargs)
            record.request_id = record.address = record.reason = "theirs"
            return record

        logging.setLogRecordFactory(with_request_id)
        try:
            assert APIKeyClient().get("/guarded/").status_code == 200
        finally:
            logging.setLogRecordFactory(plain)

    def test_a_line_that_is_switched_off_is_not_written(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.ERROR, logger="api_keys"):
            assert APIKeyClient().get("/guarded/").status_code == 200
            assert Client().get("/guarded/", headers={"X-API-Key": WRONG}).status_code == 401
        assert [record for record in caplog.records if record.name == "api_keys"] == []


def extra(record: logging.LogRecord) -> dict[str, Any]:
    prefix = "api_key_"
    return {name.removeprefix(prefix): value for name, value in vars(record).items() if name.startswith(prefix)}
