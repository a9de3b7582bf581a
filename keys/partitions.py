"""PostgreSQL's partitions of the audit log: which there are, which are missing, and the SQL that makes them.

There is a partition for each month in UTC, one for all time before them, which holds what is kept of months that
were dropped, and the default one, which takes an event whose month has none. Other databases have a plain table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connections, router
from django.utils import timezone

from .models import AuditEvent

# How many months after this one have partitions.
AHEAD = 2

PARTITIONS = r"""
    SELECT relname, bounds = 'DEFAULT',
           extract(epoch FROM substring(bounds FROM 'FROM \(''([^'']+)''\)')::timestamptz),
           extract(epoch FROM substring(bounds FROM 'TO \(''([^'']+)''\)')::timestamptz),
           greatest(pg_stat_get_live_tuples(oid), reltuples::bigint, 0), pg_total_relation_size(oid)
    FROM (SELECT oid, relname, reltuples, pg_get_expr(relpartbound, oid) AS bounds FROM pg_class WHERE oid IN
             (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%s))) AS partition
    ORDER BY 2, 3 NULLS FIRST
"""


@dataclass(frozen=True)
class Partition:
    """A part of the log: its events from `since` on and before `until`, where None is no bound.

    The default partition has neither, and holds what no other does. `rows` is an estimate; `size` is in bytes,
    with the indexes.
    """

    name: str
    is_default: bool
    since: datetime | None
    until: datetime | None
    rows: int
    size: int

    def covers(self, moment: datetime) -> bool:
        begins_before = self.since is None or self.since <= moment
        return not self.is_default and begins_before and (self.until is None or moment < self.until)


@dataclass(frozen=True)
class PartitionedTable:
    """The SQL that gives a table its partitions. `quote` quotes a name."""

    name: str
    quote: Callable[[str], str]

    def first(self) -> Iterator[str]:
        """Return the statements for a new table."""
        now = month_of(timezone.now())
        bounds = {self.before(): between(None, now), f"{self.name}_default": "DEFAULT"}
        for month in (month_of(now, later) for later in range(AHEAD + 1)):
            bounds[self.of_month(month)] = between(month, month_of(month, 1))
        for partition, those in bounds.items():
            yield self.create(partition)
            yield self.attach(partition, those)

    def before(self) -> str:
        """Return the name of the partition for all time before the first month."""
        return f"{self.name}_past"

    def of_month(self, month: datetime) -> str:
        """Return the name of a month's partition."""
        return f"{self.name}_{month:%Y_%m}"

    def create(self, partition: str) -> str:
        # It gets its indexes when it is attached, and before PostgreSQL 17 a partition has no identity of its own.
        like = f"LIKE {self.quote(self.name)} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING INDEXES"
        return f"CREATE TABLE {self.quote(partition)} ({like})"

    def attach(self, partition: str, bounds: str) -> str:
        return f"ALTER TABLE {self.quote(self.name)} ATTACH PARTITION {self.quote(partition)} {bounds}"

    def detach(self, partition: str) -> str:
        # Not CONCURRENTLY, which PostgreSQL refuses where there is a default partition.
        return f"ALTER TABLE {self.quote(self.name)} DETACH PARTITION {self.quote(partition)}"


def between(since: datetime | None, until: datetime) -> str:
    """Return the bounds of a partition."""
    return f"FOR VALUES FROM ({'MINVALUE' if since is None else repr(str(since))}) TO ('{until}')"


def month_of(moment: datetime, later: int = 0) -> datetime:
    """Return the beginning of the moment's month in UTC, or of the month so many months later."""
    moment = moment.astimezone(UTC)
    years, month = divmod(moment.month - 1 + later, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)


def log() -> PartitionedTable:
    """Return the audit log's table in the database that it is written to."""
    return PartitionedTable(AuditEvent._meta.db_table, connections[router.db_for_write(AuditEvent)].ops.quote_name)


def partitions() -> list[Partition]:
    """Return the log's partitions, the oldest first and the default one last; none where it is a plain table."""
    if connections[router.db_for_write(AuditEvent)].vendor != "postgresql":
        return []
    table = log()
    return [
        Partition(name, is_default, _moment(since), _moment(until), *numbers)
        for name, is_default, since, until, *numbers in execute(PARTITIONS, [table.quote(table.name)])
    ]


def missing(ahead: int = AHEAD) -> list[datetime]:
    """Return the months, from this one to so many after it, that have no partition."""
    present, now = partitions(), timezone.now()
    months = [month_of(now, later) for later in range(ahead + 1)]
    return [month for month in months if not any(partition.covers(month) for partition in present)]


def default_partition() -> str | None:
    """Return the name of the default partition; None where the log is a plain table."""
    return next((partition.name for partition in partitions() if partition.is_default), None)


def strays() -> dict[datetime, int]:
    """Return how many events of which months lie in the default partition."""
    if default_partition() is None:
        return {}
    month = "extract(epoch FROM date_trunc('month', at, 'UTC'))"
    # Asked of the whole log, of which PostgreSQL reads this one: a role may not be allowed to read a partition itself.
    events = f"{log().quote(log().name)} WHERE {' OR '.join(_holes())}"
    rows = execute(f"SELECT {month}, count(*) FROM {events} GROUP BY 1 ORDER BY 1")  # noqa: S608
    return {moment: count for epoch, count in rows if (moment := _moment(epoch)) is not None}


def _holes() -> Iterator[str]:
    """Yield the conditions for the times that no partition covers, as far as Python's calendar goes."""
    begin = "-infinity"
    for partition in partitions():
        if not partition.is_default:
            if partition.since is not None and begin != str(partition.since):
                yield f"(at >= '{begin}' AND at < '{partition.since}')"
            begin = str(partition.until or "infinity")
    yield f"(at >= '{begin}' AND at < '9999-12-01 00:00:00+00')"


def _moment(epoch: Decimal | None) -> datetime | None:
    # A number and not a text, which the session's time zone would change.
    return None if epoch is None else datetime.fromtimestamp(int(epoch), UTC)


def execute(statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run SQL in the database that the log is written to, and return the rows that it gives."""
    with connections[router.db_for_write(AuditEvent)].cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []
