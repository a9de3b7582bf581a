"""PostgreSQL's partitions of the audit log: which there are, which are missing, and how they are made and dropped.

There is a partition for each month in UTC, one for all time before them, which holds what is kept of months that
were dropped, and the default one, which takes an event whose month has none. Other databases have a plain table.

Each function that changes partitions makes one change, in a transaction of its own, and may be called at any time by
any number of processes: they take turns, and each looks anew when it is its turn. Where another transaction holds the
log, they let go and try again.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic, sleep
from typing import Any, TypeVar

from django.db import Error, connections, models, router, transaction
from django.db.migrations.operations import CreateModel
from django.utils import timezone

from ..models import AuditEvent

Result = TypeVar("Result")

# How many months after this one have partitions.
AHEAD = 2
# For how many seconds to try, and for how many one try may hold up those that come after it.
PATIENCE = 30.0
LOCK_TIMEOUT = 0.5
# One half of the name of the lock that makes turns: "keys", as a number.
LOCK = 0x6B657973
# Somebody holds the log, or an event has come where none was when we looked.
TRY_AGAIN = {"55P03", "40P01", "23514"}
NOT_ALLOWED = "42501"

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


def present() -> list[Partition]:
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
    found, now = present(), timezone.now()
    months = [month_of(now, later) for later in range(ahead + 1)]
    return [month for month in months if not any(partition.covers(month) for partition in found)]


def default_partition() -> str | None:
    """Return the name of the default partition; None where the log is a plain table."""
    return next((partition.name for partition in present() if partition.is_default), None)


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
    for partition in present():
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


class PartitionError(Exception):
    """The partitions could not be changed; the text is a sentence that says why."""


def is_allowed() -> bool:
    """Tell whether the log has partitions that this database user may change: whoever owns the table may."""
    table = log()
    owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
    return bool(present()) and execute(owner, [table.quote(table.name)]) == [(True,)]


def make(month: datetime, patience: float = PATIENCE) -> bool:
    """Make the partition of a month; False if the month has one already."""
    return _patiently(patience, lambda: _make(month))


def _make(month: datetime) -> bool:
    if any(partition.covers(month) for partition in present()):
        return False
    table, name, until = log(), log().of_month(month), month_of(month, 1)
    execute(table.create(name))
    default = default_partition()
    # An event that is on its way into the default partition would fail: it does not belong there any more. So nobody
    # may write while a month is made that is written to, or of which there are events.
    is_in_use = default is not None and (month < timezone.now() + timedelta(days=1) or month in strays())
    if default is not None and is_in_use:
        execute(table.detach(default))
        events = f"{table.quote(default)} WHERE at >= '{month}' AND at < '{until}'"
        execute(
            f"WITH moved AS (DELETE FROM {events} RETURNING {_columns()})"  # noqa: S608
            f" INSERT INTO {table.quote(name)} ({_columns()}) SELECT {_columns()} FROM moved"
        )
    execute(table.attach(name, between(month, until)))
    if default is not None and is_in_use:
        execute(table.attach(default, "DEFAULT"))
    return True


def gather(patience: float = PATIENCE) -> str | None:
    """Give some of the events that lie in the default partition one of their own, and return its name.

    Returns None where there are none; whoever calls it until then leaves an empty default partition.
    """
    return _patiently(patience, _gather)


def _gather() -> str | None:
    counts = strays()
    runs: list[list[datetime]] = []
    for month in counts:
        if runs and month_of(runs[-1][-1], 1) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    runs.sort(key=lambda run: sum(counts[month] for month in run))
    if not runs:
        return None
    if len(runs) == 1:
        return _adopt(runs[0][0], month_of(runs[0][-1], 1))
    # Those of a wrong clock, say. They are few and are copied, so that the many need not be.
    _make(runs[0][0])
    return log().of_month(runs[0][0])


def _adopt(since: datetime, until: datetime) -> str:
    """Make the default partition that of these months, to which all of its events belong; a new one takes its place."""
    table, default, name = log(), default_partition() or "", log().of_month(since)
    execute(table.detach(default))
    indexes = "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = to_regclass(%s)"
    for (index,) in execute(indexes, [table.quote(default)]):
        execute(f"ALTER INDEX {table.quote(index)} RENAME TO {table.quote(index.replace(default, name))}")
    execute(f"ALTER TABLE {table.quote(default)} RENAME TO {table.quote(name)}")
    execute(table.attach(name, between(since, until)))
    execute(table.create(default))
    execute(table.attach(default, "DEFAULT"))
    return name


def drop(
    partition: Partition,
    forget: Collection[str] | None,
    record: Callable[[int], None],
    patience: float = PATIENCE,
) -> int | None:
    """Drop a month with its events of the kinds in `forget` (None: with all), and return how many they were.

    The others go into the partition of the time before. `record` is called with the number in the transaction that
    drops them. Returns None if somebody else has dropped it.
    """
    return _patiently(patience, lambda: _drop(partition, forget, record))


def _drop(partition: Partition, forget: Collection[str] | None, record: Callable[[int], None]) -> int | None:
    found, table = present(), log()
    bounds = (partition.since, partition.until)
    if partition.until is None or bounds not in [(each.since, each.until) for each in found]:
        return None
    name = table.quote(partition.name)
    # Counted before anything is locked: nobody writes into a month that long ago.
    is_kept, kinds = ("false", None) if forget is None else ("NOT event = ANY(%s)", [list(forget)])
    ((count, kept),) = execute(f"SELECT count(*), count(*) FILTER (WHERE {is_kept}) FROM {name}", kinds)  # noqa: S608
    ids = execute(f"SELECT id FROM {name} WHERE {is_kept}", kinds) if kept else []  # noqa: S608
    past = next((each.name for each in found if each.since is None and not each.is_default), None)
    # From here on writers wait, for a moment: nothing below reads more than what is kept.
    if past is not None:
        execute(table.detach(past))
    else:
        execute(table.create(past := table.before()))
    if ids:
        events = f"SELECT {_columns()} FROM {name} WHERE id = ANY(%s)"  # noqa: S608
        execute(f"INSERT INTO {table.quote(past)} ({_columns()}) {events}", [[number for (number,) in ids]])
    execute(f"DROP TABLE {name}")
    execute(table.attach(past, between(None, partition.until)))
    dropped = int(count) - len(ids)
    record(dropped)
    return dropped


def _columns() -> str:
    return ", ".join(log().quote(str(field.column)) for field in AuditEvent._meta.concrete_fields)


def _patiently(patience: float, work: Callable[[], Result]) -> Result:
    deadline = monotonic() + patience
    while True:
        try:
            with transaction.atomic(using=router.db_for_write(AuditEvent)):
                execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
                execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK, log().name])
                return work()
        except Error as error:
            state = getattr(getattr(error.__cause__, "diag", None), "sqlstate", None)
            if state == NOT_ALLOWED:
                text = "Only the database user that owns the audit log, which ran migrate, may change its partitions."
                raise PartitionError(text) from error
            if state not in TRY_AGAIN:
                raise
            if monotonic() > deadline:
                text = f"Another transaction has held the audit log for {patience:g} s; try again when it has ended."
                raise PartitionError(text) from error
        # As long as a try may have held up others.
        sleep(LOCK_TIMEOUT)


class CreatePartitionedModel(CreateModel):
    """CreateModel, and on PostgreSQL a table that is partitioned by its column `at`, whose primary key holds it too.

    To Django it is the table of the model, with `id` for its primary key.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        if not self.allow_migrate_model(schema_editor.connection.alias, to_state.apps.get_model(app_label, self.name)):
            return
        # What is unique across partitions must hold the column that they are made by.
        state = to_state.clone()
        state.models[app_label, self.name_lower].fields["pk"] = models.CompositePrimaryKey("id", "at")
        state.reload_model(app_label, self.name_lower)
        model = state.apps.get_model(app_label, self.name)
        model._meta.get_field("id").primary_key = False
        schema_editor.sql_create_table += " PARTITION BY RANGE (at)"
        try:
            schema_editor.create_model(model)
        finally:
            del schema_editor.sql_create_table
        for statement in PartitionedTable(model._meta.db_table, schema_editor.quote_name).first():
            schema_editor.execute(statement, None)
