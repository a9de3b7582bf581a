"""Why rows could not be written: an entry that is the reason is set aside, and otherwise nothing is."""

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connection, transaction

from keys.audit.shipping import Shipped, Shipper, retry
from keys.audit.stream import Stream
from keys.models import AuditEvent
from tests.support.commands import run
from tests.support.log import ticketed
from tests.support.redis_servers import RedisServer, ship
from tests.support.tables import execute

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."),
]

TABLE = AuditEvent._meta.db_table
# Data, a constraint, an expression of a trigger, a right, a type, a limit, a feature, the server itself.
STATES = ["22000", "23514", "23505", "P0001", "42501", "42804", "54000", "0A000", "XX000"]
# Full disk, no memory, no connection, cancelled, shut down, a deadlock, a serialization, a lock, a standby, a file.
AWAY = ["53100", "53200", "53300", "57014", "57P01", "40P01", "40001", "55P03", "25006", "58030"]


def refuse(state: str, condition: str) -> None:
    """Let the table refuse the rows that meet a condition, with an error of that SQLSTATE."""
    execute(
        "CREATE FUNCTION refuse_some() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
    )
    execute(
        f"CREATE TRIGGER refuse_some BEFORE INSERT ON {TABLE} FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION refuse_some()"
    )


def refuse_none() -> None:
    execute(f"DROP TRIGGER refuse_some ON {TABLE}")
    execute("DROP FUNCTION refuse_some")


def append(stream: Stream) -> None:
    for path in ("/1", "/2", "/poison", "/3", "/4", "/5"):
        stream.append(ticketed(path=path), 1000)


def paths() -> list[str]:
    return sorted(AuditEvent.objects.values_list("path", flat=True))


@pytest.mark.parametrize("state", STATES)
def test_an_entry_that_the_database_refuses_is_set_aside_alone(server: RedisServer, stream: Stream, state: str) -> None:
    append(stream)
    refuse(state, "NEW.path = '/poison'")
    assert ship(stream).shipped == Shipped(written=5, set_aside=1)
    assert (paths(), server.entries) == (["/1", "/2", "/3", "/4", "/5"], [])
    refuse_none()
    assert retry(stream) == 1
    assert ship(stream).shipped == Shipped(written=1)
    assert "/poison" in paths()


@pytest.mark.parametrize("state", [*STATES, *AWAY])
def test_nothing_is_set_aside_where_no_row_can_be_written(server: RedisServer, stream: Stream, state: str) -> None:
    append(stream)
    refuse(state, "true")
    with pytest.raises(DatabaseError) as raised:
        ship(stream)
    assert getattr(raised.value.__cause__, "sqlstate", None) == state
    assert (len(server.entries), server.client.xlen(stream.set_aside), paths()) == (6, 0, [])
    refuse_none()
    assert ship(stream).shipped == Shipped(written=6)


@pytest.mark.parametrize("state", AWAY)
def test_an_error_that_is_about_no_row_is_waited_for(server: RedisServer, stream: Stream, state: str) -> None:
    append(stream)
    refuse(state, "NEW.path = '/poison'")
    ended = run("keys_ship", "--once")
    assert ended.status == 1
    assert ended.err.startswith("The database answered: no ")
    assert (len(server.entries), server.client.xlen(stream.set_aside)) == (6, 0)


@pytest.mark.parametrize(("condition", "kept"), [("NEW.path = '/poison'", 5), ("true", 0)])
def test_a_row_that_the_database_swallows_is_not_taken_for_written(
    server: RedisServer, stream: Stream, condition: str, kept: int
) -> None:
    append(stream)
    execute("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    execute(
        f"CREATE TRIGGER swallow BEFORE INSERT ON {TABLE} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION swallow()"
    )
    assert run("keys_ship", "--once").status == 1
    # What is nowhere else is kept in Redis.
    assert (len(paths()), server.client.xlen(stream.set_aside)) == (kept, 1 if kept else 0)
    assert len(server.entries) == (0 if kept else 6)


@pytest.fixture
def read_only() -> Iterator[None]:
    execute("SET default_transaction_read_only TO on")
    yield
    execute("SET default_transaction_read_only TO off")


@pytest.mark.django_db(transaction=True)
def test_a_standby_is_waited_for(server: RedisServer, stream: Stream, read_only: None) -> None:
    append(stream)
    ended = run("keys_ship", "--once", "--claim-after", "0")
    assert ended.status == 1
    assert "read-only transaction" in ended.err
    assert (len(server.entries), server.client.xlen(stream.set_aside)) == (6, 0)


def test_a_good_row_that_was_tried_is_taken_back(stream: Stream) -> None:
    append(stream)
    refuse("P0001", "NEW.path = '/poison'")
    with transaction.atomic():
        Shipper(stream).run_once()
    assert paths() == ["/1", "/2", "/3", "/4", "/5"]
