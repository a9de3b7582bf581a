"""A pooler that gives each transaction another of its connections, between Django and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.db import connection, connections, transaction

from keys.audit import statements
from keys.audit.outcomes import Batch, Outcome
from keys.models import APIKey, AuditEvent, fields
from tests.cluster.processes import workspace
from tests.cluster.requirements import require_servers
from tests.cluster.stores import PgBouncer
from tests.support.log import row

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Poolers are PostgreSQL's."),
]


@pytest.fixture
def keys() -> list[APIKey]:
    return [APIKey.objects.create(name=f"key {number}") for number in range(8)]


@pytest.fixture
def pooler(keys: list[APIKey], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Django's connections go through PgBouncer, in transaction pooling, and nobody told Django so."""
    require_servers()
    options = connection.settings_dict
    server = {
        "host": options["HOST"],
        "port": options["PORT"],
        "user": options["USER"],
        "password": options["PASSWORD"],
    }
    with workspace() as folder, monkeypatch.context() as patch, ExitStack() as end:
        bouncer = PgBouncer(folder, " ".join(f"{name}={value}" for name, value in server.items() if value))
        end.callback(bouncer.kill)
        bouncer.begin()
        patch.setitem(options, "HOST", "127.0.0.1")
        patch.setitem(options, "PORT", str(bouncer.port))
        for forget in (connection.close, statements._database.cache_clear):
            forget()
            end.callback(forget)
        yield


@pytest.fixture
def another_client() -> Iterator[Executor]:
    """A thread, and so a connection, of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        pool.submit(connections.close_all).result()


def use_of(key: APIKey) -> int:
    """Use a key as a request does, check all that came of it, and return its row's id."""
    use = row(api_key_id=None, key_name="", key_prefix="")
    found, handle = statements.find_and_record(fields.digests(key.key), use, lambda key: True)
    assert found == key
    assert handle is not None
    assert statements.find(fields.digests(key.key)) == key
    statements.write_batch(Batch([Outcome("used", "", 200, 1, *handle)]))
    assert statements.write_outcome(Outcome("used", "", 201, 1, *handle))
    return handle.number


def test_another_client_s_statements_are_never_taken_for_one_s_own(
    pooler: None, keys: list[APIKey], another_client: Executor
) -> None:
    digests = fields.digests(keys[0].key)
    assert another_client.submit(statements.find, digests).result() == keys[0]
    with ThreadPoolExecutor(1) as third, transaction.atomic():
        # Holds the connection on which the other client ran its first statement; the third gets a second one.
        assert APIKey.objects.count() == len(keys)
        third.submit(statements.insert, row()).result()
        assert another_client.submit(statements.find, digests).result() == keys[0]
        third.submit(connections.close_all).result()


def test_many_clients_share_few_connections(pooler: None, keys: list[APIKey]) -> None:
    def client(key: APIKey) -> list[int]:
        try:
            return [use_of(key) for _ in range(25)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(keys)) as pool:
        written = dict(zip(keys, pool.map(client, keys), strict=True))
    for key, event_ids in written.items():
        uses = AuditEvent.objects.filter(event="used", api_key=key, key_name=key.name, status=201)
        assert sorted(uses.values_list("pk", flat=True)) == sorted(event_ids)


def plans() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        return int(cursor.fetchone()[0])


def test_plans_are_kept_where_no_pooler_stands_before_the_server(keys: list[APIKey]) -> None:
    connection.close()
    statements._database.cache_clear()
    assert statements.find(["", ""]) is None
    assert plans() == 1


def test_no_plan_is_made_through_a_pooler(pooler: None) -> None:
    assert statements.find(["", ""]) is None
    assert plans() == 0


def test_a_plan_that_the_project_threw_away_is_made_again(keys: list[APIKey]) -> None:
    for _ in range(2):
        assert statements.find(fields.digests(keys[0].key)) == keys[0]
        with connection.cursor() as cursor:
            cursor.execute("DISCARD ALL")


def test_a_plan_thrown_away_breaks_no_transaction(keys: list[APIKey]) -> None:
    with transaction.atomic():
        statements.insert(row())
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        statements.insert(row())
    assert AuditEvent.objects.filter(event="used").count() == 2
