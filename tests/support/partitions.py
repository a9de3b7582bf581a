"""An audit log on PostgreSQL whose partitions were created at another time."""

from datetime import datetime

import pytest
from django.db import connection, transaction
from django.utils import timezone

from keys.audit import partitions
from keys.audit.partitions import log, month_of, present
from tests.support.old_system import execute

needs_partitions = pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has partitions.")


def months_ago(number: int) -> datetime:
    """Return the start of a month, in UTC."""
    return month_of(timezone.now(), -number)


def reset_partitions() -> None:
    """Give the log the partitions of a new one, without events."""
    with transaction.atomic():
        for partition in present():
            execute(f'DROP TABLE "{partition.name}"')
        for statement in log().first():
            execute(statement)


def start_log(months: int) -> None:
    """Turn the log into one that was created so many months ago, with a partition for each month since."""
    table = log()
    execute(table.detach("keys_auditevent_past"))
    execute(table.attach("keys_auditevent_past", f"FOR VALUES FROM (MINVALUE) TO ('{months_ago(months)}')"))
    for number in range(months, 0, -1):
        assert partitions.make(months_ago(number))


def drop_partitions_since(months: int = 0) -> None:
    """Drop the partitions from so many months ago on, which must be empty."""
    for partition in present():
        if partition.since is not None and partition.since >= months_ago(months):
            execute(f'DROP TABLE "{partition.name}"')


def row_counts() -> dict[str, int]:
    """Return the number of events in each partition, by the end of its name."""
    rows = execute("SELECT tableoid::regclass::text, count(*) FROM keys_auditevent GROUP BY 1 ORDER BY 1")
    return {name.removeprefix("keys_auditevent_"): count for name, count in rows}


def suffix(month: datetime) -> str:
    """Return the end of the name of a month's partition."""
    return f"{month:%Y_%m}"
