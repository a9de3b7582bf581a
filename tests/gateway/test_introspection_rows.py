"""What is on record of a question: the caller's use and the other key's, with whoever asked."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import AsyncClient, Client, TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings

from keys import lifecycle, signals
from keys.audit.floods import MOST_ROWS, WHOLE_ROWS, floods
from keys.gateway import IntrospectionView
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring, LegacyKey, LegacyKeyring
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import MANY_NETWORKS
from keys.verification import Guard
from tests.support.callers import UNAVAILABLE
from tests.support.commands import run
from tests.support.introspecting import ADDRESS, FORM, INACTIVE, ask, uses
from tests.support.keys import make_key
from tests.support.log import errors
from tests.support.processes import eventually
from tests.support.redis_servers import RedisServer, redis_server, ship
from tests.support.tables import renamed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]
committed = pytest.mark.django_db(transaction=True)

OURS = "keys.middleware.APIKeyMiddleware"
ASKED, CALLED = "introspection:Orders", "introspect"
ACTIVE = [("used", "", "Orders", "", CALLED, 200), ("used", "", "Billing", "key:Orders", ASKED, 200)]
UNKNOWN = [ACTIVE[0], ("refused", "unknown", "", "key:Orders", ASKED, 401)]


def in_transaction(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Be a project's middleware that puts each request into a transaction."""

    def answer(request: HttpRequest) -> Any:
        with transaction.atomic():
            return get_response(request)

    return answer


def first(settings: Settings) -> list[str]:
    return [f"{__name__}.in_transaction", *settings.MIDDLEWARE]


def last(settings: Settings) -> list[str]:
    return [*settings.MIDDLEWARE, f"{__name__}.in_transaction"]


WORLDS: dict[str, Callable[[Settings], list[str]]] = {
    "with the middleware": lambda settings: settings.MIDDLEWARE,
    "without it": lambda settings: [name for name in settings.MIDDLEWARE if name != OURS],
    "twice": lambda settings: [OURS, *settings.MIDDLEWARE],
    "in a transaction around all": first,
    "in a transaction within": last,
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, settings: Settings) -> str:
    settings.MIDDLEWARE = WORLDS[request.param](settings)
    return str(request.param)


@pytest.fixture
def orders(db: None) -> APIKey:
    return make_key("Orders", scopes=["keys:introspect"])


@pytest.fixture
def billing(db: None) -> APIKey:
    return make_key("Billing")


@pytest.fixture(autouse=True)
def _one_minute() -> Iterator[None]:
    floods.forget()
    with time_machine.travel(datetime(2026, 3, 1, 12, 0, tzinfo=UTC)):
        yield
    floods.forget()


def refused() -> list[tuple[str, str | None, str, int]]:
    """Return reason, address, actor and count of each refusal."""
    rows = AuditEvent.objects.filter(event="refused").order_by("id")
    return list(rows.values_list("reason", "address", "actor", "count"))


@committed
@pytest.mark.parametrize("atomic", [False, True])
def test_one_row_each_in_every_world(
    world: str, atomic: bool, monkeypatch: pytest.MonkeyPatch, orders: APIKey, billing: APIKey
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    assert ask(orders, billing).json()["active"] is True
    assert ask(orders, "0" * 40).content == INACTIVE
    # Only the middleware knows how a request ended.
    known = [(*use[:5], use[5] if world != "without it" or use[3] else None) for use in ACTIVE + UNKNOWN]
    assert uses() == known


@committed
def test_one_statement_for_each_look_up_with_its_row(orders: APIKey, billing: APIKey) -> None:
    ask(orders, billing)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        ask(orders, billing)
    # On PostgreSQL a look-up writes its row; the outcomes are written later.
    own = [query["sql"] for query in queries if "keys_" in query["sql"]]
    looked_up = [sql for sql in own if "keys_apikey" in sql]
    assert len(looked_up) == 2, own
    inserted = [sql for sql in own if "INSERT INTO" in sql]
    assert len(inserted) == 2
    assert (inserted == looked_up) is (connection.vendor == "postgresql")


@committed
def test_under_asgi(orders: APIKey, billing: APIKey) -> None:
    async def both() -> list[Any]:
        client, headers = AsyncClient(), {"X-API-Key": str(orders.key)}
        forms = [f"token={token}" for token in (str(billing.key), "0" * 40)]
        return [await client.post(ADDRESS, form, content_type=FORM, headers=headers) for form in forms]

    active, inactive = asyncio.run(both())
    assert active.json()["active"] is True
    assert inactive.content == INACTIVE
    assert uses() == ACTIVE + UNKNOWN


class TestInATestCase(TestCase):
    def test_one_row_each(self) -> None:
        orders, billing = make_key("Orders", scopes=["keys:introspect"]), make_key("Billing")
        assert ask(orders, billing).json()["active"] is True
        assert ask(orders, "0" * 40).content == INACTIVE
        assert uses() == ACTIVE + UNKNOWN


class TestWhoAsked:
    def test_is_named_whatever_the_token_is(self, orders: APIKey) -> None:
        for token in ("key:Orders", "introspection:Orders", "Orders", ":", "o"):
            assert ask(orders, token).content == INACTIVE
        rows = AuditEvent.objects.filter(event="refused")
        assert {*rows.values_list("actor", "endpoint")} == {("key:Orders", ASKED)}
        assert {*AuditEvent.objects.filter(event="used").values_list("key_name", "endpoint")} == {("Orders", CALLED)}

    @pytest.mark.parametrize("name", ["x" * 100, "Ünïcode 😀", "env:FAKE", "a\u202eb"])
    def test_has_any_name_that_a_key_may_have(self, name: str, billing: APIKey) -> None:
        caller = make_key("Orders", scopes=["keys:introspect"])
        APIKey.objects.filter(pk=caller.pk).update(name=name)
        assert ask(caller, billing).json()["active"] is True
        row = AuditEvent.objects.get(key_name="Billing", event="used")
        assert row.actor.startswith("key:")
        assert row.endpoint.startswith("introspection:")

    def test_may_have_a_key_from_the_environment(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, billing: APIKey
    ) -> None:
        secret = "a-key-from-the-environment-of-32-characters"
        monkeypatch.setenv("TEST_ASKING", secret)
        guard = Guard(keyrings=(EnvironmentKeyring("TEST_ASKING", scopes=("keys:introspect",)),))
        settings.ROOT_URLCONF = (path("ask/", IntrospectionView.as_view(guard=guard), name="ask"),)
        assert ask(secret, billing, path="/ask/").json()["active"] is True
        assert uses() == [
            ("used", "", "env:TEST_ASKING", "", "ask", 200),
            ("used", "", "Billing", "env:TEST_ASKING", "introspection:env:TEST_ASKING", 200),
        ]
        # The keys that open this view are not among those that are asked about here, nor the other way round.
        assert ask(secret, secret, path="/ask/").content == INACTIVE
        assert ask(billing, secret, path="/ask/").status_code == 401

    def test_is_the_key_also_where_it_acts_as_its_owner(self, settings: Settings, billing: APIKey) -> None:
        settings.KEYS = {"OWNERS": ["auth.User"]}
        settings.ROOT_URLCONF = (path("ask/", IntrospectionView.as_view(guard=Guard(acts_as_owner=True)), name="ask"),)
        owner = User.objects.create(username="anna")
        caller = lifecycle.create("Orders", owner=owner, scopes=["keys:introspect"])
        found = ask(caller, caller, path="/ask/").json()
        assert found["sub"] == f"auth.user:{owner.pk}"
        assert AuditEvent.objects.get(endpoint=ASKED).actor == "key:Orders"


class TestOwners:
    @pytest.fixture(autouse=True)
    def _owners_are_on(self, settings: Settings) -> None:
        settings.KEYS = {"OWNERS": ["auth.User"]}

    def test_are_whom_it_is_about(self, orders: APIKey) -> None:
        owner = User.objects.create(username="anna")
        key = lifecycle.create("Billing", owner=owner)
        assert ask(orders, key).json()["sub"] == ask(orders, key.rotate()).json()["sub"] == f"auth.user:{owner.pk}"
        assert {*AuditEvent.objects.filter(endpoint=ASKED).values_list("owner", flat=True)} == {f"auth.user:{owner.pk}"}

    @pytest.mark.parametrize("end", ["gone", "inactive", "not allowed"])
    def test_who_may_have_no_keys_end_them(self, settings: Settings, orders: APIKey, end: str) -> None:
        owner = User.objects.create(username="anna")
        key = lifecycle.create("Billing", owner=owner)
        if end == "not allowed":
            settings.KEYS = {"OWNERS": ["auth.User"], "OWNER_IS_ALLOWED": "tests.ownership.rules.no"}
        elif end == "inactive":
            User.objects.filter(pk=owner.pk).update(is_active=False)
        else:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM auth_user WHERE id = %s", [owner.pk])
        assert ask(orders, key).content == INACTIVE
        assert uses() == [ACTIVE[0], ("refused", "owner", "Billing", "key:Orders", ASKED, 401)]

    @committed
    def test_that_cannot_be_asked_for_are_503(self, orders: APIKey) -> None:
        key = lifecycle.create("Billing", owner=User.objects.create(username="anna"))
        with renamed("auth_user"):
            answer = ask(orders, key)
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


class TestStrangers:
    """What a service asks about is as bounded as what strangers try themselves, and each is counted once."""

    def test_are_counted(self, orders: APIKey) -> None:
        for _ in range(WHOLE_ROWS + 4):
            ask(orders, "0" * 40, address="203.0.113.7")
        assert [count for *_, count in refused()] == [1] * WHOLE_ROWS + [4]
        assert {row[:3] for row in refused()} == {("unknown", "203.0.113.7", "key:Orders")}

    def test_are_counted_for_each_service(self, orders: APIKey) -> None:
        shop = make_key("Shop", scopes=["keys:introspect"])
        for caller in [orders] * 7 + [shop] * 7:
            ask(caller, "0" * 40)
        for name in ("key:Orders", "key:Shop"):
            assert [row[3] for row in refused() if row[2] == name] == [1] * WHOLE_ROWS + [2]

    def test_of_many_networks_share_a_row_that_names_no_service(
        self, orders: APIKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keys.audit.floods.MOST_ROWS", 3)
        for network in range(6):
            ask(orders, "0" * 40, address=f"203.0.{network}.7")
        assert MOST_ROWS > 3
        (shared,) = AuditEvent.objects.filter(detail=MANY_NETWORKS)
        assert (shared.count, shared.actor, shared.endpoint, shared.address) == (3, "", "", None)
        assert sum(row[3] for row in refused()) == 6


@committed
class TestWithoutTheLog:
    def test_nobody_is_told_anything(
        self, world: str, orders: APIKey, billing: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        with renamed(AuditEvent._meta.db_table):
            answers = [ask(orders, token) for token in (billing, "0" * 40, "short")]
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (503, '{"detail": "API keys cannot be checked right now."}')
        }
        assert errors(caplog)

    @pytest.mark.parametrize("token", ["good", "unknown"])
    def test_that_goes_between_the_two_rows(
        self, settings: Settings, orders: APIKey, billing: APIKey, token: str
    ) -> None:
        def forbid(**kwargs: Any) -> None:
            stopped.append(renamed(AuditEvent._meta.db_table))
            stopped[0].__enter__()

        stopped: list[Any] = []
        signals.key_used.connect(forbid)
        try:
            answer = ask(orders, billing if token == "good" else "0" * 40)
        finally:
            signals.key_used.disconnect(forbid)
            stopped[0].__exit__(None, None, None)
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)

    def test_answers_where_it_may_fail_open(self, settings: Settings, orders: APIKey, billing: APIKey) -> None:
        settings.KEYS = {"AUDIT_FAIL_OPEN": True}
        with renamed(AuditEvent._meta.db_table):
            answers = [ask(orders, token) for token in (billing, "0" * 40)]
        assert [answer.json()["active"] for answer in answers] == [True, False]

    def test_nor_without_the_keys(self, orders: APIKey, billing: APIKey) -> None:
        with renamed(APIKey._meta.db_table):
            answer = ask(orders, billing)
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)


class OldTokens(LegacyKeyring):
    source = "old"
    adopts = True
    fails = False

    def look_up(self, token: str) -> LegacyKey | None:
        if self.fails:
            raise ConnectionError(f"https://old.example/?token={token}")
        return LegacyKey(ref=7, name="Old", scopes=["users:read"]) if token == "an-old-token-that-is-good" else None


class TestOtherKeyrings:
    @pytest.fixture(autouse=True)
    def _urls(self, settings: Settings) -> None:
        keyrings = (DatabaseKeyring(), OldTokens(), EnvironmentKeyring("TEST_ASKED", scopes=("users:read",)))
        settings.ROOT_URLCONF = (path("ask/", IntrospectionView.as_view(keyrings=keyrings), name="ask"),)

    def test_adopt_by_a_question(self, orders: APIKey) -> None:
        first, second = (ask(orders, "an-old-token-that-is-good", path="/ask/").json() for _ in range(2))
        key = APIKey.objects.get(name="Old")
        assert first == second
        assert (first["sub"], first["scope"]) == (f"key:{key.pk}", "users:read")
        assert not APIKey.objects.exclude(name__in=["Old", "Orders"]).exists()
        assert AuditEvent.objects.filter(event="used", api_key=key, actor="key:Orders").count() == 2

    @pytest.mark.parametrize("token", ["an-old-token-that-is-good", "an-unknown-token"])
    def test_that_fail_are_503(
        self, monkeypatch: pytest.MonkeyPatch, orders: APIKey, caplog: pytest.LogCaptureFixture, token: str
    ) -> None:
        monkeypatch.setattr(OldTokens, "fails", True)
        answer = ask(orders, token, path="/ask/")
        assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
        assert token not in caplog.text

    def test_of_the_environment(self, monkeypatch: pytest.MonkeyPatch, orders: APIKey) -> None:
        secret = "a-key-from-the-environment-of-32-characters"
        monkeypatch.setenv("TEST_ASKED", secret)
        assert ask(orders, secret, path="/ask/").json() == {
            "active": True, "scope": "users:read", "client_id": "", "username": "env:TEST_ASKED",
            "sub": "env:TEST_ASKED",
        }  # fmt: skip
        assert uses()[-1] == ("used", "", "env:TEST_ASKED", "key:Orders", ASKED, 200)

    def test_that_hold_nothing_are_503(self, settings: Settings, orders: APIKey) -> None:
        keyrings = (EnvironmentKeyring("TEST_NOT_SET"),)
        settings.ROOT_URLCONF = (path("ask/", IntrospectionView.as_view(keyrings=keyrings), name="ask"),)
        assert ask(orders, "x" * 40, path="/ask/").status_code == 503


def test_a_caller_that_is_revoked_between_is_refused_next_time(orders: APIKey, billing: APIKey) -> None:
    def revoke(**kwargs: Any) -> None:
        orders.deactivate()

    signals.key_used.connect(revoke)
    try:
        assert ask(orders, billing).json()["active"] is True
    finally:
        signals.key_used.disconnect(revoke)
    assert ask(orders, billing).status_code == 401


def test_a_key_that_is_revoked_is_inactive_at_once(orders: APIKey, billing: APIKey) -> None:
    assert ask(orders, billing).json()["active"] is True
    APIKey.objects.filter(pk=billing.pk).update(is_active=False)
    assert ask(orders, billing).content == INACTIVE


@committed
class TestTheStream:
    @pytest.fixture
    def server(self, settings: Settings) -> Iterator[RedisServer]:
        with redis_server() as server:
            settings.KEYS = {"AUDIT_SINK": server.address}
            yield server

    def test_takes_both(self, server: RedisServer, orders: APIKey, billing: APIKey) -> None:
        assert ask(orders, billing, address="203.0.113.7").json()["active"] is True
        assert ask(orders, "0" * 40).content == INACTIVE
        named = {(row["key_name"], row.get("actor", ""), row.get("address")) for row in server.rows}
        assert named == {
            ("Orders", "", "127.0.0.1"), ("Billing", "key:Orders", "203.0.113.7"), ("", "key:Orders", None)
        }  # fmt: skip

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL.")
    def test_ships_them(self, server: RedisServer, orders: APIKey, billing: APIKey) -> None:
        for _ in range(WHOLE_ROWS + 3):
            ask(orders, "0" * 40)
        ask(orders, billing)
        # The count goes out a moment later.
        assert eventually(lambda: max(row["count"] for row in server.rows) == 3)
        ship(server.stream)
        kept = sorted(uses())
        assert [row for row in kept if row[3]] == sorted([ACTIVE[1], *[UNKNOWN[1]] * (WHOLE_ROWS + 1)])
        assert sum(AuditEvent.objects.filter(event="refused").values_list("count", flat=True)) == WHOLE_ROWS + 3


def test_the_pages_of_the_log_name_who_asked(admin_client: Client, orders: APIKey, billing: APIKey) -> None:
    ask(orders, billing, address="203.0.113.7")
    page = admin_client.get("/admin/keys/auditevent/").text
    assert "203.0.113.7" in page
    assert "key:Orders" in page
    asked = AuditEvent.objects.get(endpoint=ASKED)
    shown = admin_client.get(f"/admin/keys/auditevent/{asked.pk}/change/").text
    assert "key:Orders" in shown
    assert ASKED in shown
    assert ASKED in admin_client.get("/admin/keys/auditevent/usage/").text
    for form in ("csv", "jsonl"):
        export = b"".join(admin_client.get(f"/admin/keys/auditevent/export/{form}/").streaming_content)  # type: ignore[attr-defined]
        assert b"key:Orders" in export


def test_seals_close_over_who_asked(orders: APIKey, billing: APIKey, seal_key: str, settings: Settings) -> None:
    settings.KEYS = {"SEAL_AFTER": timedelta(0)}
    ask(orders, billing)
    assert run("keys_seal").status == 0
    assert run("keys_verify").status == 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE keys_auditevent SET actor = 'key:Shop' WHERE endpoint = %s", [ASKED])
    assert run("keys_verify").status == 1
