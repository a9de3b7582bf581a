"""Plans that PostgreSQL keeps of our statements, and tables that change meanwhile."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from keys.audit import statements
from keys.audit.outcomes import Batch, CountedRow, Outcome
from keys.models import APIKey, AuditEvent, fields
from tests.support.callers import get
from tests.support.log import row, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL's plans are kept."),
]


def sql(*statements: str) -> None:
    """Run the statements on a connection of another process, as it were."""
    other = connection.copy()
    with other.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    other.close()


def plans() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        return int(cursor.fetchone()[0])


@pytest.fixture
def prepared(key: APIKey) -> Iterator[None]:
    """Plans of the look-up and of outcomes are kept."""
    connection.close()
    statements._database.cache_clear()
    assert get("/guarded/", key.key).status_code == 200
    assert plans() > 0
    yield
    connection.close()


CHANGES = {
    # "cached plan must not change result type"
    "type of a column that is read": (
        ["ALTER TABLE keys_apikey ALTER COLUMN name TYPE text"],
        ["ALTER TABLE keys_apikey ALTER COLUMN name TYPE varchar(100)"],
    ),
    # "column is of type integer but expression is of type smallint" and the like
    "type of a column that is written": (
        ["ALTER TABLE keys_auditevent ALTER COLUMN request_id TYPE text COLLATE \"C\""],
        ["ALTER TABLE keys_auditevent ALTER COLUMN request_id TYPE varchar(64) COLLATE \"default\""],
    ),
    "another table of the same name": (
        ["ALTER TABLE keys_apikey RENAME TO away", "CREATE TABLE keys_apikey (LIKE away INCLUDING ALL)",
         "INSERT INTO keys_apikey SELECT * FROM away", "ALTER TABLE keys_apikey ALTER COLUMN rate TYPE text"],
        ["DROP TABLE keys_apikey", "ALTER TABLE away RENAME TO keys_apikey"],
    ),
    "a type that is dropped": (
        ["CREATE DOMAIN texts AS varchar(20)", "ALTER TABLE keys_apikey ALTER COLUMN rate TYPE texts",
         "ALTER TABLE keys_apikey ALTER COLUMN rate TYPE varchar(20)", "DROP DOMAIN texts"],
        ["SELECT 1"],
    ),
}  # fmt: skip


@pytest.fixture(params=CHANGES)
def changed_tables(request: pytest.FixtureRequest, prepared: None) -> Iterator[None]:
    there, back = CHANGES[request.param]
    sql(*there)
    yield
    connection.close()
    sql(*back)


@pytest.mark.parametrize("around", [nullcontext, transaction.atomic], ids=["autocommit", "in a transaction"])
def test_no_request_fails_when_another_process_changes_the_tables(
    changed_tables: None, key: APIKey, around: type[AbstractContextManager[None]]
) -> None:
    with around():
        for _ in range(3):
            assert get("/guarded/", key.key).status_code == 200
            assert get("/guarded/", "0" * 40).status_code == 401
    assert rows() == [("used", "", "TTS", 200), *[("used", "", "TTS", 200), ("refused", "unknown", "", 401)] * 3]


def test_plans_are_kept_again_after_the_change(prepared: None, key: APIKey) -> None:
    sql(*CHANGES["type of a column that is read"][0])
    try:
        for _ in range(2):
            assert get("/guarded/", key.key).status_code == 200
        assert plans() > 0
    finally:
        connection.close()
        sql(*CHANGES["type of a column that is read"][1])


def test_a_batch_that_must_be_planned_again_is_written_once(prepared: None) -> None:
    first, second = (statements.insert(row()) for _ in range(2))
    counted = CountedRow.written(second, row())
    statements.write_batch(Batch([Outcome("used", "", 200, 1, *first)], {counted: 2}))
    sql("ALTER TABLE keys_auditevent ALTER COLUMN reason TYPE text")
    try:
        statements.write_batch(Batch([Outcome("used", "", 201, 1, *first)], {counted: 2}))
    finally:
        connection.close()
        sql("ALTER TABLE keys_auditevent ALTER COLUMN reason TYPE varchar(16)")
    assert AuditEvent.objects.get(pk=first.number).status == 201
    assert AuditEvent.objects.get(pk=second.number).count == 2


def test_an_error_of_the_statement_itself_is_told(prepared: None, settings: Settings, key: APIKey) -> None:
    sql("ALTER TABLE keys_apikey RENAME TO away")
    try:
        assert get("/guarded/", key.key).status_code == 503
    finally:
        sql("ALTER TABLE away RENAME TO keys_apikey")
    assert get("/guarded/", key.key).status_code == 200
    assert statements.find(fields.digests(key.key)) == key
