"""The tables past the models: made anew, and on PostgreSQL with the partitions of another time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from keys.audit import partitions
from keys.audit.partitions import log_table, month_of, present

needs_partitions = pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has partitions.")


def execute(statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run SQL past the models, and return the rows that it gives."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def renamed(table: str, using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Let there be no such table for a while."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO away")
    try:
        yield
    finally:
        with connections[using].cursor() as cursor:
            cursor.execute(f"ALTER TABLE away RENAME TO {table}")


def migrate(target: str = "") -> None:
    call_command("migrate", "keys", *([target] if target else []), verbosity=0)


def drop_tables() -> None:
    for table in ("keys_keyorigin", "keys_auditlog", "keys_auditseal", "keys_auditevent", "keys_apikey"):
        execute(f"DROP TABLE IF EXISTS {table}")
    MigrationRecorder.Migration.objects.filter(app="keys").delete()


def months_ago(number: int) -> datetime:
    """Return the beginning of a month, in UTC."""
    return month_of(timezone.now(), -number)


def reset_partitions() -> None:
    """Give the log the partitions of a new one, and no events."""
    with transaction.atomic():
        for partition in present():
            execute(f'DROP TABLE "{partition.name}"')
        for statement in log_table().first():
            execute(statement)


def start_log(months: int) -> None:
    """Make it a log that was begun so many months ago, with a partition for each month since."""
    table = log_table()
    execute(table.detach("keys_auditevent_past"))
    execute(table.attach("keys_auditevent_past", f"FOR VALUES FROM (MINVALUE) TO ('{months_ago(months)}')"))
    for number in range(months, 0, -1):
        assert partitions.make(months_ago(number))


def drop_partitions_since(months: int = 0) -> None:
    """Take away the partitions of so many months ago and of all since, which must be empty."""
    for partition in present():
        if partition.since is not None and partition.since >= months_ago(months):
            execute(f'DROP TABLE "{partition.name}"')


def row_counts() -> dict[str, int]:
    """Return how many events lie in which partition."""
    rows = execute("SELECT tableoid::regclass::text, count(*) FROM keys_auditevent GROUP BY 1 ORDER BY 1")
    return {name.removeprefix("keys_auditevent_"): count for name, count in rows}


def suffix(month: datetime) -> str:
    """Return the name of a month's partition as `row_counts` has it."""
    return f"{month:%Y_%m}"
