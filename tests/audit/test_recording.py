"""What a row of the log contains, and what it never does."""

import logging
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from keys.signals import key_changed

pytestmark = pytest.mark.django_db

UNKNOWN = "0123456789abcdef" * 2 + "01234567"
MASK = "********"


def request(
    path: str = "/guarded/", key: str = UNKNOWN, method: str = "GET", address: str = "127.0.0.1", **headers: str
) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    client = Client(raise_request_exception=False, REMOTE_ADDR=address)
    return client.generic(method, path, headers={"X-API-Key": key, **sent})


def row() -> AuditEvent:
    event: AuditEvent = AuditEvent.objects.exclude(method="").latest("id")
    return event


def test_a_row_says_who_what_when_and_from_where(key: APIKey) -> None:
    before = AuditEvent.objects.latest("id").at
    response = request(
        "/guarded/thing/?secret=1", key.key, "POST", "192.0.2.7", User_Agent="TTS/1.0", X_Request_Id="r-17"
    )
    assert response.status_code == 201
    event = row()
    assert event.at > before
    assert event.duration_ms is not None
    assert event.duration_ms >= 0
    values = {field.name: getattr(event, field.attname) for field in AuditEvent._meta.concrete_fields}
    assert {name: value for name, value in values.items() if name not in {"id", "at", "duration_ms"}} == {
        "event": "used", "reason": "", "api_key": key.pk, "key_name": "TTS", "key_prefix": key.prefix, "method": "POST",
        "path": "/guarded/thing/", "endpoint": "guarded-anything", "status": 201, "address": "192.0.2.7",
        "user_agent": "TTS/1.0", "request_id": "r-17", "actor": "", "owner": "", "count": 1, "detail": "",
        "changes": None,
        "ticket": None,
    }  # fmt: skip


def test_a_row_outlives_its_key(key: APIKey) -> None:
    request(key=key.key)
    pk = key.pk
    key.delete()
    assert (row().api_key_id, row().key_name, row().key_prefix) == (pk, "TTS", key.prefix)
    # No field of the key is changed by its use.
    assert not any(field.name.startswith("last") for field in APIKey._meta.concrete_fields)


def everything() -> str:
    """The whole table, as the database holds it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {AuditEvent._meta.db_table}")
        return repr(cursor.fetchall())


@pytest.mark.parametrize("prefix", ["", "auth_live_"])
@pytest.mark.parametrize("kind", ["good", "unknown", "too long", "not ascii", "conflict", "repeated", "typed by hand"])
def test_the_secret_is_nowhere(settings: Settings, caplog: pytest.LogCaptureFixture, prefix: str, kind: str) -> None:
    settings.KEYS = {"PREFIX": prefix}
    caplog.set_level(logging.DEBUG)
    key = APIKey.objects.create(name="TTS")
    secret = {"unknown": prefix + UNKNOWN, "too long": "x" * 150, "not ascii": "geheimnisüber"}.get(kind, key.key)
    if kind == "typed by hand":
        secret = "hunter2"
        APIKey.objects.create(name="old", key=secret)
    headers = {"X_API_Key": secret}
    if kind == "conflict":
        headers["Authorization"] = f"Api-Key {UNKNOWN}"
    if kind == "repeated":
        headers["X_API_Key"] = f"{secret}, {UNKNOWN}"
    forms = {secret, secret.removeprefix(prefix), prefix + secret.removeprefix(prefix)}
    if kind in {"conflict", "repeated"}:
        forms |= {UNKNOWN, prefix + UNKNOWN}
    for form in forms:
        request(
            f"/guarded/{form}/?key={form}",
            User_Agent=f"curl {form}",
            X_Request_Id=form,
            Referer=form,
            Cookie=form,
            **headers,
        )
        request(f"/guarded/{form}{form}/", User_Agent="-" * 240 + form, X_Request_Id="-" * 50 + form, **headers)
        request(f"/guarded/{'-' * 230}{form}/", method=f"GET{form.upper()[:4]}", **headers)
    log = everything() + caplog.text.replace("/guarded/", "")
    assert MASK in log
    for form in forms:
        assert form not in everything()
        # Nor is there a longer piece of it, where a column is cut.
        assert form[:12] not in everything() or len(form) < 13
        assert not [record for record in caplog.records if record.name == "api_keys" and form in record.getMessage()]


def test_masking_does_not_hide_which_view_was_called() -> None:
    # A stranger chooses what is masked: one character must not make the row unreadable.
    for secret in ("a", "e", "/", "guarded"):
        request("/guarded/", secret)
        assert row().endpoint == "guarded"
        assert row().method == "GET"


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\nb\r\n", "\x1b[31mred", "a\u2028b", "\u202eabc", "a\x85b", "\ud800", "\x7f"], ids=ascii
)
def test_control_characters_are_escaped(key: APIKey, text: str, caplog: pytest.LogCaptureFixture) -> None:
    # Names are checked, but some are older than that.
    APIKey._base_manager.filter(pk=key.pk).update(name=text.replace("\x00", "\x01").replace("\ud800", "\x9f"))
    request(f"/guarded/{text}/" if "\ud800" not in text else "/guarded/x/", key.key, User_Agent=text, X_Request_Id=text)
    event = row()
    for value in (event.path, event.user_agent, event.request_id, event.key_name):
        assert value.isprintable()
    assert event.user_agent == "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "api_keys"]
    assert line == f"API Key used: {event.key_name}"
    assert line.isprintable()


def test_what_can_be_read_stays_as_it_is(key: APIKey) -> None:
    request("/guarded/über-😀/", key.key, User_Agent="Grüße 😀 \\n %s {}")
    assert (row().path, row().user_agent) == ("/guarded/über-😀/", "Grüße 😀 \\n %s {}")


@pytest.mark.parametrize("filling", ["x", "ü", "😀", "\x00", "\x1b"], ids=ascii)
def test_values_are_cut_to_their_columns(key: APIKey, filling: str) -> None:
    long = filling * 10_000
    assert request(f"/guarded/{long}/", key.key, User_Agent=long, X_Request_Id=long).status_code == 200
    request(f"/guarded/{long}/", method="ABCDEFGHIJKLMNOPQRSTUVWXYZ", User_Agent=long, X_Request_Id=long)
    event = AuditEvent.objects.get(event="used")
    assert [len(value) for value in (event.path, event.user_agent, event.request_id)] == [255, 255, 64]
    assert row().method == "ABCDEFGHIJKLMNOP"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "10.1.1.1", "192.0.2.7"), (1, "10.1.1.1", "10.1.1.1"), (1, "6.6.6.6, 10.1.1.1", "10.1.1.1"),
        (2, "6.6.6.6", None),
        (1, "nonsense", None), (1, "1" * 10_000, None), (1, "10.1.1.1\x00", None),
        (2, "6.6.6.6, 10.1.1.1, 10.0.0.1", "10.1.1.1"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_forged_address_changes_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture, proxies: int, forwarded: str, address: str | None
) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": proxies}
    key = APIKey.objects.create(name="TTS", allowed_ips=["10.0.0.0/8"])
    allowed = address is not None and address.startswith("10.")
    headers = {
        "X_Forwarded_For": forwarded,
        "Forwarded": "for=10.1.1.1",
        "X_Real_Ip": "10.1.1.1",
        "Client_Ip": "10.1.1.1",
    }
    response = request(key=key.key, address="192.0.2.7", **headers)
    assert response.status_code == (200 if allowed else 401)
    assert (row().address, row().reason) == (address, "" if allowed else "address")
    request(address="192.0.2.7", **headers)
    lines = [record.getMessage() for record in caplog.records if record.name == "api_keys"]
    assert lines[-1] == f"Invalid API key attempt from {address or 'an unknown address'}"


class TestTheLogger:
    def lines(self, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "api_keys"]

    def test_of_a_use(self, caplog: pytest.LogCaptureFixture, key: APIKey) -> None:
        request(key=key.key)
        assert self.lines(caplog) == [("INFO", "API Key used: TTS")]

    def test_of_a_key_of_the_environment(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEST_SHARED_KEY", "s" * 32)
        request("/internal/", X_Internal_Api_Key="s" * 32)
        request("/internal/", X_Internal_Api_Key="t" * 32)
        assert self.lines(caplog) == [
            ("INFO", "API Key used: env:TEST_SHARED_KEY"), ("WARNING", "Invalid API key attempt from 127.0.0.1")
        ]  # fmt: skip

    def test_of_a_refused_key_of_any_kind(self, caplog: pytest.LogCaptureFixture, key: APIKey) -> None:
        key.deactivate()
        request(key=key.key)
        request(key="")
        request(Authorization="Api-Key other")
        request("/plain/", address="2001:db8::1")
        assert self.lines(caplog) == [("WARNING", "Invalid API key attempt from 127.0.0.1")] * 3 + [
            ("WARNING", "Invalid API key attempt from 2001:db8::1")
        ]

    def test_of_a_request_without_a_key(self, caplog: pytest.LogCaptureFixture) -> None:
        Client().get("/guarded/")
        assert self.lines(caplog) == []


def test_a_receiver_that_fails_undoes_the_change() -> None:
    def fail(**kwargs: object) -> None:
        raise RuntimeError("the log is full")

    key_changed.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            APIKey.objects.create(name="never")
    finally:
        key_changed.disconnect(fail)
    assert not APIKey.objects.exists()
    assert not AuditEvent.objects.exists()
