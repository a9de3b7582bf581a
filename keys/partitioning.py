"""Changes the audit log's partitions on PostgreSQL, while others write.

Each function makes one change, in a transaction of its own, and may be called at any time by any number of processes:
they take turns, and each looks anew when it is its turn. Where somebody holds the log they let go and try again.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import TypeVar

from django.db import Error, router, transaction
from django.utils import timezone

from .models import AuditEvent
from .partitions import Partition, between, default_partition, execute, log, month_of, partitions, strays

Result = TypeVar("Result")

# For how many seconds to try, and for how many one try may hold up those that come after it.
PATIENCE = 30.0
LOCK_TIMEOUT = 0.5
# One half of the name of the lock that makes turns: "keys", as a number.
LOCK = 0x6B657973
# Somebody holds the log, or an event has come where none was when we looked.
TRY_AGAIN = {"55P03", "40P01", "23514"}
NOT_ALLOWED = "42501"


class PartitionError(Exception):
    """The partitions could not be changed; the text is a sentence that says why."""


def is_allowed() -> bool:
    """Tell whether the log has partitions that this database user may change: whoever owns the table may."""
    table = log()
    owner = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
    return bool(partitions()) and execute(owner, [table.quote(table.name)]) == [(True,)]


def make(month: datetime, patience: float = PATIENCE) -> bool:
    """Make the partition of a month; False if the month has one already."""
    return _patiently(patience, lambda: _make(month))


def _make(month: datetime) -> bool:
    if any(partition.covers(month) for partition in partitions()):
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
    present, table = partitions(), log()
    bounds = (partition.since, partition.until)
    if partition.until is None or bounds not in [(each.since, each.until) for each in present]:
        return None
    name = table.quote(partition.name)
    # Counted before anything is locked: nobody writes into a month that long ago.
    is_kept, kinds = ("false", None) if forget is None else ("NOT event = ANY(%s)", [list(forget)])
    ((count, kept),) = execute(f"SELECT count(*), count(*) FILTER (WHERE {is_kept}) FROM {name}", kinds)  # noqa: S608
    ids = execute(f"SELECT id FROM {name} WHERE {is_kept}", kinds) if kept else []  # noqa: S608
    past = next((each.name for each in present if each.since is None and not each.is_default), None)
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
