"""The owner of a key is asked for at each use: one query more, one row in the log, and the answer of any refusal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from ninja import NinjaAPI
from pytest_django import Settings

from keys import lifecycle
from keys.audit import triggers
from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent
from keys.ninja import APIKeyAuth
from tests.ownership import LISTED
from tests.ownership.models import Company, Hotel, Project, Shop
from tests.support.callers import UNAVAILABLE, get
from tests.support.log import errors, rows
from tests.support.redis_servers import redis_server, ship
from tests.support.tables import renamed

keys: Any = APIKey.objects  # types do not know that a key is made with an owner

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = {"detail": "Invalid API key."}
OURS = "keys.middleware.APIKeyMiddleware"
RULES = "tests.ownership.rules"

api = NinjaAPI(urls_namespace="owners")


@api.get("/any", auth=APIKeyAuth())
def any_key(request: HttpRequest) -> dict[str, Any]:
    return {}


@contextmanager
def locked(table: str) -> Iterator[None]:
    """Let somebody else have the table."""
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"LOCK TABLE {table}")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
            other.close()


@pytest.fixture(autouse=True)
def _owners_are_on(settings: Settings) -> None:
    settings.ROOT_URLCONF = (path("", include("tests.urls")), path("ninja/", api.urls))
    settings.KEYS = {**settings.KEYS, "OWNERS": LISTED}


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create(username="anna")


@pytest.fixture
def owned(anna: User) -> APIKey:
    return lifecycle.create("TTS", owner=anna)


@pytest.fixture(params=["with the middleware", "without it"])
def middleware(request: pytest.FixtureRequest, settings: Settings) -> None:
    if request.param == "without it":
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]


def refusals() -> list[tuple[str, str, str, int | None, str]]:
    log = AuditEvent.objects.exclude(method="").order_by("id")
    return list(log.values_list("event", "reason", "key_name", "status", "owner"))


def deleted_by_sql(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM auth_user WHERE id = %s", [user.pk])


def inactive(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


# What ends the keys of a person, and nobody has saved an instance.
ENDS: dict[str, Callable[[User, Any], Any]] = {
    "inactive": lambda user, settings: inactive(user),
    "deleted by SQL": lambda user, settings: deleted_by_sql(user),
    "not listed": lambda user, settings: set_keys(settings, OWNERS=["auth.Group"]),
    "owners off": lambda user, settings: set_keys(settings, OWNERS=[]),
    "not allowed": lambda user, settings: set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.no"),
    "None": lambda user, settings: set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.says_nothing"),
}


def set_keys(settings: Any, **options: Any) -> None:
    settings.KEYS = {**settings.KEYS, **options}


@pytest.mark.parametrize("end", ENDS)
def test_whoever_leaves_takes_the_keys_along(owned: APIKey, anna: User, settings: Settings, end: str) -> None:
    assert get("/guarded/", owned).status_code == 200
    ENDS[end](anna, settings)
    response = get("/guarded/", owned)
    assert (response.status_code, response.json()) == (401, REFUSED)
    owner = f"auth.user:{anna.pk}"
    assert refusals() == [("used", "", "TTS", 200, owner), ("refused", "owner", "TTS", 401, owner)]
    assert response.content == get("/guarded/", "0" * 40).content


def test_whoever_comes_back_has_them_again(owned: APIKey, anna: User, settings: Settings) -> None:
    inactive(anna)
    assert get("/guarded/", owned).status_code == 401
    User.objects.update(is_active=True)
    set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.named_anna")
    assert get("/guarded/", owned).status_code == 200


def test_a_refusal_is_one_row_by_every_way_in(
    owned: APIKey, anna: User, atomic_requests: bool, middleware: None
) -> None:
    other = keys.create(name="Other", is_active=False)
    inactive(anna)
    for address in ("/guarded/", "/plain/", "/by-method/", "/ninja/any", "/after-session/"):
        AuditEvent.objects.all().delete()
        response = get(address, owned)
        assert (response.status_code, response.json()) == (401, REFUSED)
        left = rows()
        get(address, other)
        # Without the middleware, a transaction of the view's takes it along, as it does every refusal.
        assert [row[1] for row in rows()] == (["owner", "inactive"] if left else []), address
        assert left in ([("refused", "owner", "TTS", 401)], []), address


def test_it_is_in_an_async_view(owned: APIKey, anna: User) -> None:
    get_it = partial(async_to_sync(AsyncClient().get), "/plain-async/", headers={"X-API-Key": owned.key})
    assert get_it().status_code == 200
    inactive(anna)
    assert get_it().status_code == 401
    assert rows() == [("used", "", "TTS", 200), ("refused", "owner", "TTS", 401)]


@pytest.mark.parametrize(
    "changes",
    [{"name": "T\u200bTS"}, {"allowed_ips": ["127.0.0.0/8"]}, {"scopes": []}, {"note": "x\ny"}],
    ids=str,
)
def test_whatever_the_statement_of_the_look_up_leaves_to_others(
    owned: APIKey, anna: User, changes: dict[str, Any]
) -> None:
    APIKey.objects.update(**changes)
    assert get("/guarded/", owned).status_code == 200
    inactive(anna)
    assert get("/guarded/", owned).status_code == 401
    assert [row[:2] for row in rows()] == [("used", ""), ("refused", "owner")]


@pytest.mark.parametrize("code", ["Müller", "ru\u2066de", "a'b\"c\\d", "100%"])
def test_an_owner_of_any_name(code: str) -> None:
    key = keys.create(name="TTS")
    Shop.objects.create(code=code)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE keys_apikey SET owner_ref = %s", [f"ownership.shop:{code}"])
    is_plain = code != "ru\u2066de"
    assert get("/guarded/", key).status_code == (200 if is_plain else 401)
    assert refusals()[0][4] == f"ownership.shop:{code}".replace("\u2066", "\\u2066")


def test_other_reasons_come_first(owned: APIKey, anna: User) -> None:
    """Nobody is asked whether the owner of a key may have it that is refused in any case."""
    inactive(anna)
    APIKey.objects.update(allowed_ips=["10.0.0.0/8"])
    get("/guarded/", owned)
    owned.deactivate()
    get("/guarded/", owned)
    assert [reason for _, reason, _, _ in rows()] == ["address", "inactive"]


def test_it_fails_open_for_the_log_alone(owned: APIKey, anna: User, settings: Settings) -> None:
    set_keys(settings, AUDIT_FAIL_OPEN=True)
    with renamed("keys_auditevent"):
        assert get("/guarded/", owned).status_code == 200
        inactive(anna)
        assert get("/guarded/", owned).status_code == 401


def test_a_stream_takes_it(owned: APIKey, anna: User, settings: Settings) -> None:
    with redis_server() as server:
        set_keys(settings, AUDIT_SINK=server.address)
        assert get("/guarded/", owned).status_code == 200
        inactive(anna)
        assert get("/guarded/", owned).status_code == 401
        if connection.vendor == "postgresql":
            ship(server.stream)
            owner = f"auth.user:{anna.pk}"
            assert refusals() == [("used", "", "TTS", 200, owner), ("refused", "owner", "TTS", 401, owner)]


@pytest.mark.skipif(connection.vendor == "mysql", reason="There are no triggers.")
def test_the_guards_of_the_log_let_it_be_written(owned: APIKey, anna: User) -> None:
    triggers.install()
    try:
        inactive(anna)
        assert get("/guarded/", owned).status_code == 401
        assert rows() == [("refused", "owner", "TTS", 401)]
    finally:
        triggers.remove()


def test_methods_and_managers_decide(settings: Settings) -> None:
    odd, even = (Hotel.objects.create(pk=pk) for pk in (7, 8))
    hidden = Project.objects.create()
    Project.objects.update(is_deleted=True)
    company = Company.objects.create()
    set_keys(settings, OWNERS=["ownership.Hotel", "ownership.Project", "ownership.Company"])
    made = [keys.create(name="A", owner=owner) for owner in (odd, even, company)]
    made.append(keys.create(name="A", owner_ref=f"ownership.project:{hidden.pk}"))
    assert [get("/guarded/", key).status_code for key in made] == [401, 200, 200, 401]


@api_key_required()
def whose(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"owner": request.auth.owner.username})  # type: ignore[attr-defined]


class TestQueries:
    """One more for a key that has an owner; for any other all is as it was."""

    LOOK_UP = {"postgresql": 1, "sqlite": 2, "mysql": 2}[connection.vendor]

    def statements(self, key: APIKey, address: str = "/guarded/") -> int:
        get(address, key)
        with CaptureQueriesContext(connection) as queries:
            assert get(address, key).status_code == 200
        return len([query for query in queries if not query["sql"].startswith("UPDATE")])

    def test_their_number(self, owned: APIKey, key: APIKey) -> None:
        assert (self.statements(key), self.statements(owned)) == (self.LOOK_UP, self.LOOK_UP + 1)

    def test_with_owners_off(self, key: APIKey, settings: Settings) -> None:
        set_keys(settings, OWNERS=[])
        assert self.statements(key) == self.LOOK_UP

    def test_the_view_has_the_owner_without_another(self, owned: APIKey, anna: User, settings: Settings) -> None:
        settings.ROOT_URLCONF = (path("whose/", whose),)
        assert self.statements(owned, "/whose/") == self.LOOK_UP + 1


class TestUnavailable:
    """Nobody can say whether the owner may have keys: 503, and nothing says that the key was used."""

    def test_by_the_function(
        self, owned: APIKey, key: APIKey, settings: Settings, middleware: None, atomic_requests: bool
    ) -> None:
        for rule in ("fails", "has_no_database", "asynchronous", "no_such_function"):
            set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.{rule}")
            for address in ("/guarded/", "/plain/", "/ninja/any"):
                response = get(address, owned)
                assert (response.status_code, response.json()) == (503, UNAVAILABLE), (rule, address)
                assert get(address, key).status_code == 200
        assert {(row[2], row[3]) for row in refusals() if row[4]} <= {("TTS", 503)}

    def test_it_is_asked_once(self, owned: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
        set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.fails")
        get("/guarded/", owned)
        assert errors(caplog) == [
            "It cannot be told whether the owner of a key may have keys.",
            "The key store cannot be reached: OwnerUnknownError",
        ]

    def test_by_settings_that_are_wrong(self, owned: APIKey, key: APIKey, settings: Settings) -> None:
        set_keys(settings, OWNERS=["auth.Nobody"])
        assert (get("/guarded/", owned).status_code, get("/guarded/", key).status_code) == (503, 200)

    def test_by_a_table_that_is_away(
        self, key: APIKey, middleware: None, atomic_requests: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        owned = keys.create(name="Owned", owner=Company.objects.create())
        with renamed("ownership_company"):
            for address in ("/guarded/", "/plain/", "/ninja/any"):
                response = get(address, owned)
                assert (response.status_code, response.json()) == (503, UNAVAILABLE)
                assert get(address, key).status_code == 200
        assert get("/guarded/", owned).status_code == 200
        *unavailable, used = [row for row in rows() if row[2] == "Owned"]
        assert {row[3] for row in unavailable} <= {503}
        assert used[:2] == ("used", "")

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="Only there a statement can be given so little time.")
    def test_by_a_lock(self, key: APIKey, middleware: None, atomic_requests: bool) -> None:
        owned = keys.create(name="Owned", owner=Company.objects.create())
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '200ms'")
        with locked("ownership_company"):
            assert get("/guarded/", owned).status_code == 503
            assert get("/guarded/", key).status_code == 200
        assert get("/guarded/", owned).status_code == 200
        connection.close()

    @pytest.mark.parametrize("rule", ["breaks_a_transaction", "fails"])
    def test_an_open_transaction_outlives_it(self, owned: APIKey, settings: Settings, rule: str) -> None:
        set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.{rule}")
        with transaction.atomic():
            assert get("/guarded/", owned).status_code == 503
            assert User.objects.exists()

    def test_a_row_that_the_look_up_wrote_has_its_answer(self, owned: APIKey, settings: Settings) -> None:
        set_keys(settings, OWNER_IS_ALLOWED=f"{RULES}.fails")
        get("/guarded/", owned)
        is_one_statement = connection.vendor == "postgresql"
        assert rows() == [("used", "", "TTS", 503)] * is_one_statement
        assert not AuditEvent.objects.died().exists()


def test_the_client_is_told_nothing(owned: APIKey, anna: User) -> None:
    inactive(anna)
    response = Client(headers={"X-API-Key": owned.key}).get("/guarded/")
    assert "owner" not in response.content.decode().lower()
    assert "anna" not in str(response.headers)
