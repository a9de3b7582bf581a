"""An old key becomes ours at its first use: once, as it was, and for good."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client, RequestFactory
from pytest_django import Settings
from rest_framework.authtoken.models import Token

from keys import signals
from keys.authentication import KeyringAuthentication
from keys.keyrings import DatabaseKeyring, LegacyKey
from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.models.audit_event import TRAFFIC
from keys.models.key_origin import ref_of, source_of
from keys.verification import Guard, use_of
from tests.keyrings.old_tokens import TOKEN, OldTokens, Orders
from tests.support.callers import get
from tests.support.commands import run
from tests.support.log import all_events, errors, rows
from tests.support.servers import GUNICORN, Server, serving
from tests.support.tables import renamed

FIRST, OTHER = TOKEN, f"{TOKEN}0"


def uses() -> list[tuple[str, int | None]]:
    """Return the event of each request in the log, and the id of the key that it names."""
    return list(AuditEvent.objects.filter(event__in=TRAFFIC).order_by("id").values_list("event", "api_key_id"))


@pytest.mark.django_db
class TestTheFirstUse:
    def test_makes_a_key_of_the_same_secret(self, old: type[OldTokens], settings: Settings) -> None:
        settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User"]}
        user = User.objects.create(username="anna")
        made, end = datetime(2019, 5, 6, 7, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
        old.known = LegacyKey("7", "Billing", ["users:read"], user, True, end, ["127.0.0.0/8"], created_at=made)
        answers = [get("/orders/", TOKEN).json() for _ in range(2)]
        key = APIKey.objects.get()
        assert answers == [{"key": key.pk, "user": f"key:{key.pk}"}] * 2
        assert (key.name, key.scopes, key.owner, key.allowed_ips) == ("Billing", ["users:read"], user, ["127.0.0.0/8"])
        assert (key.created_at, key.expires_at, key.prefix, key.typed_by_hand, key.rate) == (
            made, end, "old_4f9c2b7d", False, "",
        )  # fmt: skip
        assert DatabaseKeyring().find(TOKEN) == key
        assert [*KeyOrigin.objects.values_list("source", "ref", "api_key_id")] == [("tokens.token", "7", key.pk)]
        assert uses() == [("used", key.pk)] * 2
        created = AuditEvent.objects.get(event="created")
        assert (created.detail, created.actor, created.api_key_id) == (
            "adopted from tokens.token", "key:Billing", key.pk,
        )  # fmt: skip
        # From the second use on the old system is not asked.
        assert old.asked == 1

    def test_is_the_keys_own_whoever_is_logged_in_beside(self, old: type[OldTokens]) -> None:
        browser = Client(headers={"X-API-Key": TOKEN})
        browser.force_login(User.objects.create(username="anna"))
        assert browser.get("/orders/").status_code == 200
        assert AuditEvent.objects.get(event="created").actor == "key:Billing"

    def test_leaves_the_secret_with_nobody(self, old: type[OldTokens]) -> None:
        request = RequestFactory().get("/", headers={"X-API-Key": TOKEN})
        use = use_of(request, Guard(keyrings=(old(),)))
        assert use is not None
        assert isinstance(use.holder, APIKey)
        assert TOKEN not in str(vars(use.holder))
        assert use.holder.key == APIKey.objects.get().key

    def test_with_the_projects_prefix_makes_one_key_for_both_forms(
        self, old: type[OldTokens], settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KEYS = {**settings.KEYS, "PREFIX": "auth_"}
        token = "0123456789" * 4
        monkeypatch.setattr(old, "look_up", lambda self, token: LegacyKey(ref=token, name=token))
        for presented in (f"auth_{token}", token):
            assert get("/orders/", presented).status_code == 200
        key = APIKey.objects.get()
        assert (key.prefix, key.name) == (token[:8], token[:8])
        assert token not in str([*KeyOrigin.objects.values_list(), *AuditEvent.objects.values_list()])

    def test_through_a_stream_names_the_key(self, old: type[OldTokens]) -> None:
        class Elsewhere:
            shares_key_database = False

            def __init__(self) -> None:
                self.rows: list[dict[str, Any]] = []

            def insert(self, row: dict[str, Any]) -> None:
                self.rows.append(row)

        from keys.audit import sinks

        sink: Any = Elsewhere()
        with sinks.written_to(sink):
            use_of(RequestFactory().get("/", headers={"X-API-Key": TOKEN}), Guard(keyrings=(DatabaseKeyring(), old())))
        assert [row["api_key_id"] for row in sink.rows] == [APIKey.objects.get().pk]
        assert all_events() == [("created", "adopted from tokens.token")]


@pytest.mark.django_db
class TestWhatIsOursIsNeverTheirsAgain:
    @pytest.mark.parametrize("order", ["ours first", "theirs first"])
    def test_an_adopted_key_ends_here(self, old: type[OldTokens], order: str, monkeypatch: pytest.MonkeyPatch) -> None:
        class Turned(KeyringAuthentication):
            keyrings = (old(), DatabaseKeyring())

        if order == "theirs first":
            monkeypatch.setattr(Orders, "authentication_classes", [Turned])
        assert get("/orders/", TOKEN).status_code == 200
        key = APIKey.objects.get()
        key.deactivate()
        assert get("/orders/", TOKEN).status_code == 401
        assert rows()[-1][:2] == ("refused", "inactive")
        key.delete()
        for old.adopts in (True, False):
            assert get("/orders/", TOKEN).status_code == 401
            assert rows()[-1][:2] == ("refused", "unknown")
        assert not APIKey.objects.exists()

    @pytest.mark.parametrize("order", ["ours first", "theirs first"])
    def test_a_key_of_ours_of_the_same_secret_counts_alone(
        self, old: type[OldTokens], order: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Turned(KeyringAuthentication):
            keyrings = (old(), DatabaseKeyring())

        if order == "theirs first":
            monkeypatch.setattr(Orders, "authentication_classes", [Turned])
        key = APIKey.objects.create(name="Ours", key=TOKEN, scopes=[])
        assert get("/orders/", TOKEN).json()["key"] == key.pk
        key.deactivate()
        assert get("/orders/", TOKEN).status_code == 401
        assert APIKey.objects.count() == 1

    def test_a_record_whose_key_has_come_gets_no_second_one(
        self, old: type[OldTokens], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other system gave the record another token since."""
        monkeypatch.setattr(old, "look_up", lambda self, token: LegacyKey(ref=7, name="A"))
        assert get("/orders/", FIRST).status_code == 200
        assert get("/orders/", OTHER).status_code == 401
        assert APIKey.objects.count() == 1
        APIKey.objects.all().delete()
        assert [get("/orders/", token).status_code for token in (FIRST, OTHER)] == [401, 401]

    def test_what_was_imported_and_deleted_is_not_adopted(
        self, old: type[OldTokens], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = Token.objects.create(user=User.objects.create(username="anna"))
        assert run("keys_import", "authtoken").status == 0
        key = APIKey.objects.get()
        KeyOrigin.objects.get_or_create(
            source=source_of(Token), ref=ref_of(token.pk, token.key), defaults={"api_key": key, "at": key.created_at}
        )
        assert KeyOrigin.objects.count() == 1
        old.source = Token
        old.known = None
        monkeypatch.setattr(old, "look_up", lambda self, token: LegacyKey(ref=token, name="anna"))
        assert get("/orders/", token.key).json()["key"] == key.pk
        key.delete()
        assert get("/orders/", token.key).status_code == 401


@pytest.mark.django_db(transaction=True)
class TestWhatCannotBeAdopted:
    def test_a_database_that_refuses_leaves_the_record_as_it_is(
        self, old: type[OldTokens], caplog: pytest.LogCaptureFixture
    ) -> None:
        table = connection.ops.quote_name(KeyOrigin._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN at TO made_at")
        try:
            assert [get("/orders/", TOKEN).status_code for _ in range(2)] == [200] * 2
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} RENAME COLUMN made_at TO at")
        assert uses() == [("used", None)] * 2
        (told,) = errors(caplog)
        assert told.startswith("Keys of tokens.token are accepted and not adopted; the first of them is Billing. ")
        assert get("/orders/", TOKEN).json()["key"] == APIKey.objects.get().pk
        assert [event for event, _ in all_events()] == ["used", "used", "created", "used"]

    def test_a_receiver_that_raises_leaves_it_too(self, old: type[OldTokens], caplog: pytest.LogCaptureFixture) -> None:
        def refuse(**kwargs: object) -> None:
            raise RuntimeError(f"No {TOKEN} here.")

        signals.key_changed.connect(refuse)
        try:
            assert get("/orders/", TOKEN).status_code == 200
        finally:
            signals.key_changed.disconnect(refuse)
        assert not APIKey.objects.exists()
        assert [TOKEN in text for text in errors(caplog)] == [False]

    def test_without_the_tables_there_is_no_answer(self, old: type[OldTokens]) -> None:
        """Nobody could tell whether the key was deleted here."""
        with renamed(KeyOrigin._meta.db_table):
            assert get("/orders/", TOKEN).status_code == 503


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_middleware", [True, False])
def test_an_adoption_that_the_view_undoes_is_done_again(
    old: type[OldTokens], settings: Settings, monkeypatch: pytest.MonkeyPatch, has_middleware: bool
) -> None:
    """The view asks in its own transaction, which it rolls back."""
    from tests.keyrings import undone

    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    settings.ROOT_URLCONF = "tests.keyrings.undone"
    if not has_middleware:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if not each.startswith("keys.")]
    undone.fails = True
    assert get("/undone/", TOKEN).status_code == 500
    assert not APIKey.objects.exists()
    assert not KeyOrigin.objects.exists()
    # A row that outlives the transaction names no key that there is not, and whose id another one gets.
    assert [(event, key, name) for (event, key), (_, _, name, _) in zip(uses(), rows(), strict=True)] == [
        ("used", None, "Billing")
    ] * has_middleware
    undone.fails = False
    assert get("/undone/", TOKEN).status_code == 200
    key = APIKey.objects.get()
    assert uses()[-1] == ("used", key.pk)


@pytest.fixture(params=["", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("views", "repeatable"))])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Two processes with four threads each; views in transactions without the middleware; and another isolation."""
    if request.param == "repeatable" and connection.vendor == "sqlite":
        pytest.skip("SQLite has one isolation.")
    monkeypatch.setenv("KEYS_TEST_TRANSACTIONS", request.param)
    command = ["2" if before == "--workers" else part for before, part in zip(("", *GUNICORN), GUNICORN, strict=False)]
    with serving(tuple(command), settings="tests.keyrings.server_settings") as server:
        yield server


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_one_key_whoever_else_uses_it_at_the_same_moment(server: Server) -> None:
    url, tokens = "http://{}:{}/orders/".format(*server.address), [f"{TOKEN}{number}" for number in range(8)]

    def send(token: str) -> tuple[int, Any]:
        answer = requests.get(url, headers={"X-API-Key": token, "Connection": "close"}, timeout=60)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(12) as pool:
        answers = [*pool.map(send, [token for token in tokens for _ in range(8)])]
    assert [status for status, _ in answers] == [200] * 64
    assert APIKey.objects.count() == KeyOrigin.objects.count() == len(tokens)
    assert AuditEvent.objects.filter(event="created").count() == len(tokens)
    keys = sorted(APIKey.objects.values_list("pk", flat=True))
    assert sorted(said["key"] for _, said in answers) == sorted(keys * 8)
    assert sorted(key or 0 for _, key in uses()) == sorted(keys * 8)


@pytest.mark.django_db(transaction=True)
def test_an_open_transaction_goes_on_after_an_adoption_that_fails(old: type[OldTokens]) -> None:
    old.known = LegacyKey(name="A", scopes=["nobody:registered"])
    with transaction.atomic():
        request = RequestFactory().get("/", headers={"X-API-Key": TOKEN})
        assert use_of(request, Guard(keyrings=(old(),))) is not None
        User.objects.create(username="anna")
    assert User.objects.exists()
    assert uses() == [("used", None)]
