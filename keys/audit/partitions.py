"""PostgreSQL's partitions of the audit log: lists, creates and drops them. Other databases have a plain table.

There is one partition for each month in UTC, one for all time before them (it takes what is kept of dropped months),
and the default one for events of months without a partition.

Each function that changes partitions makes one change in its own transaction. Any process may call it at any time: an
advisory lock serialises the calls. If another transaction has locked the log, they release their locks and retry.
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

from .. import moments
from ..models import AuditEvent
from .places import beside_tables

Result = TypeVar("Result")

AHEAD = 2  # months after this one that have a partition
# How long to retry, and how long one attempt may wait for a lock and so block others, in seconds.
PATIENCE = 30.0
LOCK_TIMEOUT = 0.5
LOCK = 0x6B657973  # the first half of the advisory lock's number: "keys" in ASCII
# SQLSTATEs to retry on: a lock timeout, a deadlock, or an event that came after we looked.
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

# Default privileges of a project give roles rights in each new table, and rights in a partition are asked for in place
# of those in the log. What can be read there can be read in the log: dumps by a role that only reads need that.
CLOSE = """
    DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT part.oid::regclass AS part, log.relowner::regrole AS owner
        FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid JOIN pg_class AS log ON log.oid = inhparent
        WHERE inhparent = '{log}'::regclass AND part.relowner <> log.relowner
    LOOP EXECUTE format('ALTER TABLE %s OWNER TO %s', found.part, found.owner); END LOOP;
    FOR found IN SELECT part.oid::regclass AS part, string_agg(DISTINCT privilege_type, ', ') AS rights,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee
        FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid, LATERAL (
            SELECT * FROM aclexplode(relacl)
            UNION ALL SELECT granted.* FROM pg_attribute, aclexplode(attacl) AS granted WHERE attrelid = part.oid
        ) AS granted
        WHERE inhparent = '{log}'::regclass AND grantee <> relowner AND privilege_type <> 'SELECT'
        GROUP BY part.oid, grantee
    LOOP EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', found.rights, found.part, found.grantee); END LOOP;
    FOR found IN SELECT inhrelid::regclass AS part, tgname AS name, tgfoid::regproc AS function
        FROM pg_inherits JOIN pg_trigger AS ours ON tgrelid = inhparent
        WHERE inhparent = '{log}'::regclass AND tgname = '{name}_no_truncate' AND NOT EXISTS (
            SELECT FROM pg_trigger AS theirs WHERE theirs.tgrelid = inhrelid AND theirs.tgname = ours.tgname)
    LOOP EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
        found.name, found.part, found.function); END LOOP;
    END $$
"""


@dataclass(frozen=True)
class Partition:
    """A part of the log: events from `since` on and before `until` (None: no bound); the default one has neither.

    `rows` is an estimate; `size` is in bytes and includes the indexes.
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
    """The SQL statements that partition a table. `quote` quotes a name."""

    name: str
    quote: Callable[[str], str]

    def first(self) -> Iterator[str]:
        """Yield the statements that create the partitions of a new table."""
        now = month_of(timezone.now())
        bounds = {self.before(): between(None, now), f"{self.name}_default": "DEFAULT"}
        for month in (month_of(now, later) for later in range(AHEAD + 1)):
            bounds[self.of_month(month)] = between(month, month_of(month, 1))
        for partition, limits in bounds.items():
            yield self.create(partition)
            yield self.attach(partition, limits)
        yield self.close()

    def before(self) -> str:
        """Return the name of the partition for all time before the first month."""
        return f"{self.name}_past"

    def of_month(self, month: datetime) -> str:
        """Return the name of a month's partition."""
        return f"{self.name}_{month:%Y_%m}"

    def create(self, partition: str) -> str:
        # ATTACH creates the indexes, and before PostgreSQL 17 a partition has no identity column of its own.
        like = f"LIKE {self.quote(self.name)} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING INDEXES"
        return f"CREATE TABLE {self.quote(partition)} ({like})"

    def attach(self, partition: str, bounds: str) -> str:
        return f"ALTER TABLE {self.quote(self.name)} ATTACH PARTITION {self.quote(partition)} {bounds}"

    def detach(self, partition: str) -> str:
        # Not CONCURRENTLY: PostgreSQL refuses it if there is a default partition.
        return f"ALTER TABLE {self.quote(self.name)} DETACH PARTITION {self.quote(partition)}"

    def close(self, log: str = "") -> str:
        """Return the statement after which no partition is a way around the log. `log` may name it with its schema.

        The partitions belong to the log's owner, no other role has a right in them but that to read, and as PostgreSQL
        gives them the log's triggers on rows alone, they get the one against TRUNCATE too, where the log has it.
        """
        return " ".join(CLOSE.format(log=log or self.quote(self.name), name=self.name).split())


def between(since: datetime | None, until: datetime) -> str:
    """Return the bounds of a partition as SQL."""
    return f"FOR VALUES FROM ({'MINVALUE' if since is None else repr(str(since))}) TO ('{until}')"


def month_of(moment: datetime, later: int = 0) -> datetime:
    """Return the start of the moment's month in UTC, or of the month that is `later` months after it."""
    moment = moments.instant(moment)
    years, month = divmod(moment.month - 1 + later, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)


def log_table() -> PartitionedTable:
    """Return the audit log's table, in the database it is written to."""
    return PartitionedTable(AuditEvent._meta.db_table, connections[router.db_for_write(AuditEvent)].ops.quote_name)


def present() -> list[Partition]:
    """Return the log's partitions, the oldest first and the default one last; none if it is a plain table."""
    if connections[router.db_for_write(AuditEvent)].vendor != "postgresql":
        return []
    table = log_table()
    return [
        Partition(name, is_default, _moment(since), _moment(until), *numbers)
        for name, is_default, since, until, *numbers in execute(PARTITIONS, [table.quote(table.name)])
    ]


def missing(ahead: int = AHEAD) -> list[datetime]:
    """Return the months without a partition, from this month to `ahead` months after it."""
    found, now = present(), timezone.now()
    months = [month_of(now, later) for later in range(ahead + 1)]
    return [month for month in months if not any(partition.covers(month) for partition in found)]


def default_partition() -> str | None:
    """Return the name of the default partition; None if the log is a plain table."""
    return next((partition.name for partition in present() if partition.is_default), None)


def strays() -> dict[datetime, int]:
    """Return the number of events in the default partition, by month."""
    if default_partition() is None:
        return {}
    month = "extract(epoch FROM date_trunc('month', at, 'UTC'))"
    # Not from the partition, which a role may have no right to read. PostgreSQL reads no other for these conditions.
    events = f"{log_table().quote(log_table().name)} WHERE {' OR '.join(_gaps())}"
    rows = execute(f"SELECT {month}, count(*) FROM {events} GROUP BY 1 ORDER BY 1")  # noqa: S608
    return {moment: count for epoch, count in rows if (moment := _moment(epoch)) is not None}


def _gaps() -> Iterator[str]:
    """Yield SQL conditions for the times that no partition covers, up to the end of Python's calendar."""
    begin = "-infinity"
    for partition in present():
        if not partition.is_default:
            if partition.since is not None and begin != str(partition.since):
                yield f"(at >= '{begin}' AND at < '{partition.since}')"
            begin = str(partition.until or "infinity")
    yield f"(at >= '{begin}' AND at < '9999-12-01 00:00:00+00')"


def _moment(epoch: Decimal | None) -> datetime | None:
    # A number: as text it would depend on the session's time zone.
    return None if epoch is None else datetime.fromtimestamp(int(epoch), UTC)


def execute(statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run SQL in the log's database and return its rows."""
    with connections[router.db_for_write(AuditEvent)].cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


class PartitionError(Exception):
    """The partitions could not be changed. The text is a sentence that gives the reason."""


def is_allowed() -> bool:
    """Tell whether the log has partitions and this database user, as an owner of the table, may change them."""
    table = log_table()
    owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
    return bool(present()) and execute(owner, [table.quote(table.name)]) == [(True,)]


def make(month: datetime, patience: float = PATIENCE) -> bool:
    """Create a month's partition; return False if the month has one. Raises PartitionError."""
    return _retry_while_locked(patience, lambda: _make(month))


def _make(month: datetime) -> bool:
    if any(partition.covers(month) for partition in present()):
        return False
    table, name, until = log_table(), log_table().of_month(month), month_of(month, 1)
    execute(table.create(name))
    default = default_partition()
    # Block writers if the month is in use or has events: an insert into the default partition at this moment would
    # fail.
    soon = moments.instant(timezone.now()) + timedelta(days=1)
    is_in_use = default is not None and (month < soon or month in strays())
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
    """Move some of the default partition's events into a partition of their own, and return its name.

    Returns None if there are none; call it until then to empty the default partition. Raises PartitionError.
    """
    return _retry_while_locked(patience, _gather)


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
        return _convert_default(runs[0][0], month_of(runs[0][-1], 1))
    # Copy the shortest run, such as events of a wrong clock, so that the long run need not be copied.
    _make(runs[0][0])
    return log_table().of_month(runs[0][0])


def _convert_default(since: datetime, until: datetime) -> str:
    """Turn the default partition into that of these months, to which all its events belong; add a new default one."""
    table, default, name = log_table(), default_partition() or "", log_table().of_month(since)
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
    """Drop a month's partition with its events of the kinds in `forget` (None: all), and return how many were dropped.

    The other events move to the partition of the time before. `record` is called with the number, in the same
    transaction. Returns None if another process has dropped it. Raises PartitionError.
    """
    return _retry_while_locked(patience, lambda: _drop(partition, forget, record))


def _drop(partition: Partition, forget: Collection[str] | None, record: Callable[[int], None]) -> int | None:
    found, table = present(), log_table()
    bounds = (partition.since, partition.until)
    if partition.until is None or bounds not in [(each.since, each.until) for each in found]:
        return None
    name = table.quote(partition.name)
    # Counted before anything is locked: nobody writes into so old a month.
    is_kept, kinds = ("false", None) if forget is None else ("NOT event = ANY(%s)", [list(forget)])
    ((count, kept),) = execute(f"SELECT count(*), count(*) FILTER (WHERE {is_kept}) FROM {name}", kinds)  # noqa: S608
    ids = execute(f"SELECT id FROM {name} WHERE {is_kept}", kinds) if kept else []  # noqa: S608
    past = next((each.name for each in found if each.since is None and not each.is_default), None)
    # From here on writers are blocked, but briefly: nothing below reads more than the kept rows.
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
    return ", ".join(log_table().quote(str(field.column)) for field in AuditEvent._meta.concrete_fields)


def _retry_while_locked(patience: float, work: Callable[[], Result]) -> Result:
    deadline, alias = monotonic() + patience, router.db_for_write(AuditEvent)
    while True:
        try:
            with beside_tables(alias), transaction.atomic(using=alias):
                execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
                execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK, log_table().name])
                result = work()
                # Also those that were there: what became of their rights since nobody can tell.
                execute(log_table().close())
                return result
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
        sleep(LOCK_TIMEOUT)  # as long as one attempt may have blocked others


class CreatePartitionedModel(CreateModel):
    """CreateModel; PostgreSQL partitions the table by `at`, part of its primary key, which to Django is `id` alone."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        if not self.allow_migrate_model(schema_editor.connection.alias, to_state.apps.get_model(app_label, self.name)):
            return
        # A unique constraint must include the partition key.
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
