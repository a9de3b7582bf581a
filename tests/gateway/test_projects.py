"""A door in projects of all kinds: any request, other middleware, others' settings; and what it costs."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from keys.testing import APIKeyClient, unrecorded
from tests.gateway.asking import NAMED, Answer, Unread, ask
from tests.keyrings.old_tokens import OldTokens
from tests.support import commands
from tests.support.callers import UNKNOWN
from tests.support.log import rows
from tests.support.statements import capture
from tests.support.tables import renamed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.gateway.asking")]

Ask = Callable[..., Answer]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MADE-UP", "get"]
FIRST = {
    "gzip": "django.middleware.gzip.GZipMiddleware",
    "conditional": "django.middleware.http.ConditionalGetMiddleware",
    "login": "django.contrib.auth.middleware.LoginRequiredMiddleware",
}


@pytest.mark.parametrize("method", METHODS)
def test_any_method(recorded_way: Ask, key: APIKey, method: str) -> None:
    for token, status in ((key.key, 200), (UNKNOWN, 401)):
        answer = recorded_way("/door/?scope=orders:read", method, X_API_Key=token)
        assert answer.status == status
    assert AuditEvent.objects.filter(method=method.upper()).count() == 2


def test_any_request(recorded_way: Ask, settings: Settings, key: APIKey) -> None:
    settings.MIDDLEWARE = [FIRST["gzip"], FIRST["conditional"], *settings.MIDDLEWARE]
    headers = [
        {"Accept": accept} for accept in ("text/html", "application/xml", "nonsense", "image/*;q=0", "*/*, , ;")
    ] + [
        {"If_None_Match": "*"}, {"If_None_Match": 'W/"1", "2"'}, {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If_Match": '"1"'}, {"If_Unmodified_Since": "Fri, 01 Jan 1999 00:00:00 GMT"}, {"Range": "bytes=0-0"},
        {"Accept_Encoding": "gzip"}, {"Expect": "100-continue"}, {"Upgrade": "websocket"},
        {"Content_Type": "nonsense; ="},
        {"Content_Length": "-1"}, {"Origin": "https://elsewhere.example", "Access_Control_Request_Method": "GET"},
        {"X_HTTP_Method_Override": "GET"}, {"Accept_Language": "xx"}, {"Authorization": "Bearer x.y.z"},
    ]  # fmt: skip
    for sent in headers:
        assert recorded_way("/door/", X_API_Key=key.key, **sent).status == 200, sent
        answer = recorded_way("/door/?scope=users:read", X_API_Key=key.key, **sent)
        assert (answer.status, "lacks the scope" in answer["X-Key-Refusal"]) == (403, True), sent
    assert len(rows()) == 2 * len(headers)


def test_no_body_is_read(key: APIKey) -> None:
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"):
        for token, status in ((key.key, 200), (UNKNOWN, 401)):
            answer = ask("/door/", "POST", Unread(), X_API_Key=token, Content_Type=content_type)
            assert answer.status == status


def test_no_cookie_is_set_and_none_opens(way: Ask, settings: Settings, key: APIKey) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    user = User.objects.create_superuser("boss", "boss@example.org", "secret")
    client = Client()
    client.force_login(user)
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    for token, status in ((key.key, 200), (UNKNOWN, 401), (None, 401)):
        sent = {} if token is None else {"X_API_Key": token}
        answer = way("/door/", "POST", Cookie=cookie, **sent)
        assert (answer.status, answer.all("Set-Cookie")) == (status, [])


@pytest.mark.parametrize("answered_by", ["", "tests.gateway.asking.envelope", "tests.gateway.asking.broken"])
def test_refusals_in_the_form_of_the_project(way: Ask, settings: Settings, answered_by: str) -> None:
    settings.KEYS = {"REFUSAL_RESPONSE": answered_by, "SCOPES": {}}
    poor = APIKey.objects.create(name="Poor", scopes=[], rate="1/day")
    cases = [(None, "", 401), (UNKNOWN, "", 401), (f"{UNKNOWN},{UNKNOWN}", "", 400), (poor.key, "?scope=a:b", 403),
             (poor.key, "?wrong", 403), (poor.key, "", 200), (poor.key, "", 429)]  # fmt: skip
    for token, query, status in cases:
        answer = way(f"/door/{query}", **({} if token is None else {"X_API_Key": token}))
        assert answer.status == status
        assert not answer.all("Set-Cookie") + answer.all("Location")
        if status != 200:
            assert '"detail"' in answer["X-Key-Refusal"]
            assert answer.body.startswith(b"refused: " if "envelope" in answered_by else b"{")
            assert not any(answer.all(name) for name in NAMED)


def test_login_is_not_asked_for(way: Ask, settings: Settings, key: APIKey) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, FIRST["login"]]
    assert [way(path, X_API_Key=key.key).status for path in ("/door/", "/watched/")] == [200, 200]
    assert [way(path).status for path in ("/door/", "/watched/")] == [401, 401]


@pytest.mark.parametrize("address", ["/hidden/", "/watched/", "/within/door/"])
def test_behind_decorators_and_namespaces(recorded_way: Ask, address: str) -> None:
    key = APIKey.objects.create(name="Billing", scopes=["orders:read"], rate="1/day")
    statuses = [
        recorded_way(f"{address}?{query}", X_API_Key=token).status
        for token, query in ((key.key, "scope=users:read"), (UNKNOWN, ""), (key.key, ""), (key.key, ""))
    ]
    assert statuses == [403, 401, 200, 429]
    assert [row[:2] for row in rows()] == [
        ("refused", "scope"), ("refused", "unknown"), ("used", ""), ("refused", "rate")
    ]  # fmt: skip
    assert {*AuditEvent.objects.exclude(method="").values_list("endpoint", flat=True)} == {"gateway:testserver"}


class TestOwners:
    @pytest.fixture(autouse=True)
    def owners(self, settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}

    @pytest.mark.parametrize("address", ["/door/", "/owner/"])
    def test_the_owner_is_told_and_has_to_be_active(self, recorded_way: Ask, address: str) -> None:
        user = User.objects.create_user("ann")
        key = APIKey.objects.create(name="Ann's", owner=user)  # type: ignore[misc]
        assert recorded_way(address, X_API_Key=key.key)["X-Key-Owner"] == f"auth.user:{user.pk}"
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert recorded_way(address, X_API_Key=key.key).status == 401
        assert [row[:2] for row in rows()] == [("used", ""), ("refused", "owner")]


class TestAnotherSystem:
    """A guard that leaves unknown keys to others refuses them at a gateway, where nobody follows."""

    TOKEN = "old_0123456789abcdef"

    def test_unknown_keys_are_refused_and_recorded(self, way: Ask, key: APIKey) -> None:
        for token in (UNKNOWN, "nonsense", f"{UNKNOWN},{UNKNOWN}"):
            assert way("/leaving/", X_API_Key=token).status in {400, 401}
        assert way("/leaving/").status == 401
        assert way("/leaving/", X_API_Key=key.key).status == 200
        assert [row[0] for row in rows()] == ["refused"] * 3 + ["used"]

    @pytest.mark.parametrize("adopts", [True, False])
    def test_known_ones_are_let_through(
        self, recorded_way: Ask, old_tokens: type[OldTokens], monkeypatch: pytest.MonkeyPatch, adopts: bool
    ) -> None:
        monkeypatch.setattr(OldTokens, "adopts", adopts)
        for _ in range(2):
            answer = recorded_way("/leaving/", X_API_Key=self.TOKEN)
            assert (answer.status, answer["X-Key-Name"]) == (200, "Billing")
        assert rows() == [("used", "", "Billing", 200)] * 2
        assert APIKey.objects.count() == adopts

    @pytest.fixture
    def old_tokens(self, monkeypatch: pytest.MonkeyPatch) -> type[OldTokens]:
        for name in ("known", "asked", "adopts"):
            monkeypatch.setattr(OldTokens, name, vars(OldTokens)[name])
        return OldTokens


class TestWhatItCosts:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("address", ["/door/?scope=orders:read", "/captured/a", "/watched/"])
    def test_a_good_key(self, recorded_way: Ask, key: APIKey, address: str) -> None:
        recorded_way(address, X_API_Key=key.key)
        with capture() as statements:
            assert recorded_way(address, X_API_Key=key.key).status == 200
        before_the_answer = [sql for sql in statements if not sql.startswith("UPDATE")]
        assert len(before_the_answer) <= (1 if connection.vendor == "postgresql" else 2), statements
        assert not any(sql.startswith(("SAVEPOINT", "BEGIN")) for sql in statements)

    def test_what_cannot_be_a_key_or_was_not_sent(self, key: APIKey) -> None:
        with capture() as statements:
            assert ask("/door/").status == 401
        assert statements == []
        with capture() as statements:
            assert ask("/door/", X_API_Key="é").status == 401
        assert not [sql for sql in statements if APIKey._meta.db_table in sql]


class TestTools:
    def test_testing(self, settings: Settings) -> None:
        client = APIKeyClient(["orders:read"])
        with unrecorded():
            assert client.get(reverse("door"), {"scope": "orders:read"})["X-Key-Name"] == "Test"
            assert client.get(reverse("door"), {"scope": "users:read"}).status_code == 403
        assert rows() == []

    def test_explain_and_usage(self, key: APIKey, behind_proxy: None) -> None:
        asked = {"X_Forwarded_Method": "PUT", "X_Forwarded_Uri": "/orders/7", "X_Forwarded_Host": "orders.example"}
        ask("/door/?scope=orders:read", X_API_Key=key.key, **asked)
        ask("/door/?scope=users:read", X_API_Key=key.key, **asked)
        said = commands.run("keys_explain", stdin=f"{key.key}\n")
        assert (said.status, "Billing" in said.out + said.err) == (0, True), said
        usage = commands.run("keys_usage", "--json")
        assert '"/orders/7"' in usage.out

    def test_the_log_lines(self, key: APIKey, behind_proxy: None, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "api_keys")
        asked = {"X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/?q=s3cret", "X_Forwarded_For": "203.0.113.7"}
        ask("/door/", X_API_Key=key.key, **asked)
        ask("/door/", X_API_Key=UNKNOWN, **asked)
        lines = [record.getMessage() for record in caplog.records if record.name == "api_keys"]
        assert lines == ["API Key used: Billing", "Invalid API key attempt from 203.0.113.7"]
        assert "s3cret" not in caplog.text

    def test_the_schema_leaves_them_out(self) -> None:
        generator: Any = SchemaGenerator
        schema = generator(urlconf="tests.gateway.asking").get_schema(request=None, public=True)
        assert schema["paths"] == {}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_cannot_be_finished_is_no_reason_to_refuse(recorded_way: Ask, key: APIKey) -> None:
    """The use is on record before the answer; only its outcome is missing."""
    assert recorded_way("/door/", X_API_Key=key.key).status == 200
    with renamed(AuditEvent._meta.db_table):
        assert recorded_way("/door/", X_API_Key=key.key).status == 503
    assert [row[:3] for row in rows()] == [("used", "", "Billing")]
