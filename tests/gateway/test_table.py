"""The answers to a proxy, each row of the contract's table, with one row in the log."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache.backends.dummy import DummyCache
from django.utils import timezone
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.gateway.asking import NAMED, Answer, ask
from tests.support.callers import UNKNOWN
from tests.support.log import errors, rows
from tests.support.tables import execute, renamed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.gateway.asking")]

Ask = Callable[..., Answer]
CHALLENGE = 'Api-Key realm="api"'
INVALID, MISSING = "Invalid API key.", "Authentication credentials were not provided."
UNAVAILABLE = "API keys cannot be checked right now."


class Broken(DummyCache):
    """A cache that cannot be reached."""

    def add(self, *args: Any, **kwargs: Any) -> bool:
        raise ConnectionError


@pytest.fixture
def no_cache(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Broken"}}


def refused(answer: Answer, status: int, detail: str) -> None:
    """Assert that it is a refusal, complete, and that it names no key."""
    assert (answer.status, json.loads(answer.body)) == (status, {"detail": detail})
    assert json.loads(answer["X-Key-Refusal"]) == {"detail": detail}
    assert answer["X-Key-Refusal"].isascii()
    assert answer.all("WWW-Authenticate") == ([CHALLENGE] if status == 401 else [])
    assert not any(answer.all(name) for name in NAMED)
    is_for_no_cache(answer)


def is_for_no_cache(answer: Answer) -> None:
    assert answer["Cache-Control"] == "no-store"
    assert {"X-API-Key", "Authorization"} <= {name.strip() for name in answer["Vary"].split(",")}
    assert not answer.all("Set-Cookie")
    assert not answer.all("Location")


def test_no_key(way: Ask) -> None:
    refused(way("/door/"), 401, MISSING)
    refused(way("/door/", Authorization="Bearer abc"), 401, MISSING)
    refused(way(f"/door/?scope=orders:read&api_key={UNKNOWN}", Cookie=f"X-API-Key={UNKNOWN}"), 401, MISSING)
    assert rows() == []


def test_a_good_key(way: Ask, key: APIKey) -> None:
    for headers in ({"X_API_Key": key.key}, {"Authorization": f"aPI-key {key.key}"},
                    {"X_API_Key": key.key, "Authorization": f"Api-Key {key.key}"}):  # fmt: skip
        answer = way("/door/?scope=orders:read", **headers)
        assert (answer.status, answer.body) == (200, b"")
        assert [answer[name] for name in NAMED] == ["Billing", key.prefix, "orders:*", ""]
        is_for_no_cache(answer)
    assert [row[:3] for row in rows()] == [("used", "", "Billing")] * 3


def test_one_answer_to_every_key_that_is_refused(way: Ask, key: APIKey) -> None:
    past = timezone.now() - timedelta(seconds=1)
    made: list[dict[str, Any]] = [{"is_active": False}, {"expires_at": past}, {"allowed_ips": ["10.0.0.0/8"]}]
    tokens = [APIKey.objects.create(name="refused", scopes=["*"], **fields).key for fields in made]
    tokens += [UNKNOWN, "", "é", "a" * 129, "a" * 1_000_000, "a\x00b", "\x80", "\x7f", " a b ", key.key.upper()]
    answers = [way("/door/?scope=orders:read", X_API_Key=token) for token in tokens]
    for answer in answers:
        refused(answer, 401, INVALID)
        assert (answer.body, answer.headers) == (answers[0].body, answers[0].headers)
    counted: Counter[str] = Counter()
    for reason, count in AuditEvent.objects.filter(event="refused").values_list("reason", "count"):
        counted[reason] += count
    assert counted == {"inactive": 1, "expired": 1, "address": 1, "unknown": 3, "malformed": 7}


@pytest.mark.parametrize(
    "value", ["😀" * 40, "a\nb", "a\r\nX-Evil: 1", "\udcff"], ids=["emoji", "line", "header", "surrogate"]
)
def test_what_no_server_hands_on(key: APIKey, value: str) -> None:
    refused(ask("/door/", X_API_Key=value), 401, INVALID)
    assert [row[:2] for row in rows()] == [("refused", "malformed")]


def test_two_keys_and_a_repeated_header(way: Ask, key: APIKey) -> None:
    conflict = "More than one API key was presented."
    for headers in ({"X_API_Key": key.key, "Authorization": f"Api-Key {UNKNOWN}"},
                    {"X_API_Key": f"{key.key},{key.key}"}, {"X_API_Key": f"{UNKNOWN}, {key.key}"},
                    {"Authorization": f"Api-Key {key.key},Api-Key {key.key}"}):  # fmt: skip
        refused(way("/door/", **headers), 400, conflict)
    assert {row[:2] for row in rows()} == {("refused", "conflict")}
    assert len(rows()) == 4


def test_outside_its_networks_behind_a_proxy(way: Ask, behind_proxy: None) -> None:
    key = APIKey.objects.create(name="Near", allowed_ips=["203.0.113.0/24"])
    asked = {"X_API_Key": key.key, "X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/"}
    for forwarded, status in (("203.0.113.7", 200), ("198.51.100.1", 401), ("203.0.113.7, 198.51.100.1", 401),
                              ("203.0.113.7\t", 200), ("nonsense", 401), ("", 401)):  # fmt: skip
        assert way("/door/", X_Forwarded_For=forwarded, **asked).status == status, forwarded
    assert way("/door/", **asked).status == 401  # it is the proxy's own address
    assert [row[:2] for row in rows()].count(("refused", "address")) == 5


class TestScopes:
    @pytest.mark.parametrize(
        ("address", "held", "missing"),
        [
            ("/door/", [], None),
            ("/door/?scope=orders:read", ["orders:read"], None),
            ("/door/?scope=orders:read", ["orders:*"], None),
            ("/door/?scope=orders:read&scope=users:read", ["*"], None),
            ("/door/?scope=orders:read&scope=users:read", ["orders:read"], "users:read"),
            ("/door/?scope=users:read&scope=orders:read", ["orders:read"], "users:read"),
            ("/door/?scope=orders:*", ["orders:read"], "orders:*"),
            ("/door/?scope=*", ["orders:*"], "*"),
            ("/orders-door/", ["orders:read"], None),
            ("/orders-door/", [], "orders:read"),
            ("/orders-door/?scope=users:read", ["users:read"], "orders:read"),
            ("/orders-door/?scope=users:read", ["orders:read"], "users:read"),
            ("/orders-door/?scope=users:read", ["orders:read", "users:read"], None),
            ("/both-doors/", ["orders:read"], "orders:write"),
            ("/both-doors/", ["orders:*"], None),
            ("/captured/a", [], "orders:read"),
            ("/captured/a?scope=users:read&x=1", ["orders:read"], None),
            ("/watched/?scope=orders:read", [], "orders:read"),
        ],
    )  # fmt: skip
    def test_all_are_asked_for(
        self, recorded_way: Ask, settings: Settings, address: str, held: list[str], missing: str | None
    ) -> None:
        settings.KEYS = {"SCOPES": {}}
        key = APIKey.objects.create(name="Billing", scopes=held)
        answer = recorded_way(address, X_API_Key=key.key)
        if missing is None:
            assert (answer.status, answer["X-Key-Scopes"]) == (200, " ".join(held))
            assert rows() == [("used", "", "Billing", 200)]
        else:
            refused(answer, 403, f"This API key lacks the scope “{missing}”.")
            assert rows() == [("refused", "scope", "Billing", 403)]

    @pytest.mark.parametrize(
        "query",
        ["scope=", "scope", "scope=orders", "scope=orders:read+users:read", "scope=orders:read,users:read",
         "scope=orders:read&x=1", "x=1", "scope[]=orders:read", "Scope=orders:read", "scope=orders%3Aread%00",
         "scope=%FF", "scope=orders:red", "&".join(["scope=orders:read"] * 2000)],
    )  # fmt: skip
    def test_a_mistake_of_the_proxy_opens_nothing(
        self, recorded_way: Ask, query: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        key = APIKey.objects.create(name="Boss", scopes=["*"])
        for _ in range(2):
            answer = recorded_way(f"/door/?{query}", X_API_Key=key.key)
            refused(answer, 403, "The gateway does not say which scope it asks for.")
        assert rows() == [("refused", "scope", "Boss", 403)] * 2
        assert len(errors(caplog)) == 1

    @pytest.mark.parametrize("kind", ["none", "empty", "number", "inside"])
    def test_a_mistake_of_the_project_opens_nothing(self, recorded_way: Ask, kind: str) -> None:
        key = APIKey.objects.create(name="Boss", scopes=["*"])
        assert recorded_way(f"/wrong/{kind}/", X_API_Key=key.key).status == 403
        assert rows() == [("refused", "scope", "Boss", 403)]

    def test_the_log_shows_nothing_of_a_query_that_may_be_a_clients(
        self, key: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        for query in ("scope=s3cret", "s3cret=1", "scope=orders:read&password=s3cret"):
            assert ask(f"/door/?{query}", X_API_Key=key.key).status == 403
        assert "s3cret" not in caplog.text
        assert "not registered" not in caplog.text

    def test_what_raw_sql_wrote_as_scopes_is_not_told(self, key: APIKey) -> None:
        for held in ("orders:read", ["a b:c", "x\r\nX-Key-Name: Boss", 7, "users:read"], {"*": 1}):
            execute("UPDATE keys_apikey SET scopes = %s WHERE id = %s", [json.dumps(held), key.pk])
            answer = ask("/door/", X_API_Key=key.key)
            assert (answer.status, answer["X-Key-Scopes"]) == (200, "users:read" if isinstance(held, list) else "")


class TestRates:
    def test_over_its_rate(self, recorded_way: Ask) -> None:
        key = APIKey.objects.create(name="Busy", scopes=["orders:read"], rate="1/day")
        assert recorded_way("/door/?scope=users:read", X_API_Key=key.key).status == 403  # which takes nothing from it
        assert recorded_way("/door/", X_API_Key=key.key).status == 200
        answer = recorded_way("/door/", X_API_Key=key.key)
        assert 86_000 < int(answer["Retry-After"]) <= 86_400
        refused(answer, 429, json.loads(answer.body)["detail"])
        assert [row[:2] for row in rows()] == [("refused", "scope"), ("used", ""), ("refused", "rate")]

    def test_by_a_throttle_of_the_project(self, recorded_way: Ask, key: APIKey) -> None:
        answer = recorded_way("/throttled/", X_API_Key=key.key)
        refused(answer, 429, json.loads(answer.body)["detail"])
        assert rows() == [("refused", "rate", "Billing", 429)]

    def test_the_cache_is_away(self, recorded_way: Ask, no_cache: None, settings: Settings) -> None:
        key = APIKey.objects.create(name="Busy", rate="1/day")
        refused(recorded_way("/door/", X_API_Key=key.key), 503, UNAVAILABLE)
        settings.KEYS = {"RATE_FAIL_OPEN": True}
        assert recorded_way("/door/", X_API_Key=key.key).status == 200
        assert rows() == [("used", "", "Busy", 503), ("used", "", "Busy", 200)]


@pytest.mark.django_db(transaction=True)
class TestOutages:
    @pytest.mark.parametrize("answered_by", ["", "tests.gateway.asking.envelope", "tests.gateway.asking.broken"])
    @pytest.mark.parametrize("model", [APIKey, AuditEvent])
    def test_nobody_is_let_through_or_called_wrong(
        self, way: Ask, settings: Settings, key: APIKey, model: Any, answered_by: str
    ) -> None:
        settings.KEYS = {"REFUSAL_RESPONSE": answered_by}
        with renamed(model._meta.db_table):
            for address in ("/door/", "/hidden/", "/watched/"):
                answer = way(address, X_API_Key=key.key)
                assert answer.status == 503
                assert json.loads(answer["X-Key-Refusal"]) == {"detail": UNAVAILABLE}
                is_for_no_cache(answer)
                assert way(address, X_API_Key=UNKNOWN).status == 503

    def test_the_log_may_fail_open(self, way: Ask, settings: Settings, key: APIKey) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        with renamed(AuditEvent._meta.db_table):
            assert way("/door/?scope=orders:read", X_API_Key=key.key).status == 200
            assert way("/door/?scope=users:read", X_API_Key=key.key).status == 403
            refused(way("/door/", X_API_Key=UNKNOWN), 401, INVALID)


def test_a_revoked_key_is_refused_by_the_next_question(way: Ask, key: APIKey) -> None:
    for change, status in ({"is_active": False}, 401), ({"is_active": True}, 200), ({"scopes": []}, 403):
        # Past all signals.
        APIKey.objects.filter(pk=key.pk).update(**change)
        assert way("/door/?scope=orders:read", X_API_Key=key.key).status == status


class TestPlaces:
    def test_other_headers_and_words(self, way: Ask, key: APIKey) -> None:
        basic = b64encode(f"anybody:{key.key}".encode()).decode()
        for headers in ({"X_Service": key.key}, {"X_API_Key": key.key}, {"Authorization": f"Token {key.key}"},
                        {"Authorization": f"Basic {basic}"}):  # fmt: skip
            answer = way("/places/", **headers)
            assert (answer.status, answer["X-Key-Name"]) == (200, "Billing")
            assert answer["Vary"].startswith("X-Service, X-API-Key, Authorization")
        answer = way("/places/", Authorization=f"Api-Key {key.key}")
        assert (answer.status, answer["WWW-Authenticate"]) == (
            401, 'Basic realm="api", charset="UTF-8", Token realm="api"'
        )  # fmt: skip

    def test_keys_of_variables(self, way: Ask, key: APIKey, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GATEWAY_KEY", "v" * 40)
        answer = way("/variable/?scope=orders:read", X_API_Key="v" * 40)
        assert [answer[name] for name in NAMED] == ["env%3AGATEWAY_KEY", "", "orders:read", ""]
        assert way("/variable/?scope=users:read", X_API_Key="v" * 40).status == 403
        assert way("/variable/", X_API_Key=key.key).status == 200
        assert [row[2] for row in rows()] == ["env:GATEWAY_KEY", "env:GATEWAY_KEY", "Billing"]

    def test_nothing_that_is_not_ascii_gets_into_a_header(self, key: APIKey) -> None:
        APIKey.objects.filter(pk=key.pk).update(name="Buchhaltung: Straße 7 / 😀")
        assert ask("/door/", X_API_Key=key.key)["X-Key-Name"] == "Buchhaltung%3A%20Stra%C3%9Fe%207%20%2F%20%F0%9F%98%80"
