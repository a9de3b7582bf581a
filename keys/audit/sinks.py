"""Where the rows of uses and refusals are written: `KEYS["AUDIT_SINK"]`.

Either the table, or a Redis stream from which `keys_ship` writes them into the table. Life-cycle events use no sink:
each is written in the transaction of its change.
"""

from collections.abc import Sequence
from time import monotonic

from ..conf import DATABASE, conf
from ..models import AuditEvent
from ..models.audit_event import AuditEventManager, Row
from . import statements
from .outcomes import Backlog, CountedRow, Outcome, RowHandle, Sink

backlog = Backlog(statements.may_write_batch, statements.write_batch)
AuditEventManager.flush = backlog.flush


class DatabaseSink:
    """The table itself. `insert` commits its row; during a burst the rest is written a moment later."""

    shares_key_database = True

    def insert(self, row: Row) -> RowHandle:
        return statements.insert(row)

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        outcome = Outcome(row["event"], row["reason"], row["status"], row["duration_ms"], *handle)
        if not (may_be_gone or statements.is_in_transaction()):
            backlog.add_outcome(outcome, conf.OUTCOME_DELAY.total_seconds())
        elif not statements.write_outcome(outcome):
            statements.insert(row)

    def count_again(self, counted: CountedRow) -> bool:
        delay = conf.OUTCOME_DELAY.total_seconds()
        if monotonic() - counted.counted_at < delay and not statements.is_in_transaction():
            backlog.add_count(counted, delay)
            return True
        # Once per delay it is written at once, which shows whether the row still exists.
        is_there = statements.count_again(counted)
        counted.counted_at = monotonic()
        return is_there

    def all_exist(self, handles: Sequence[RowHandle]) -> bool:
        numbers, times = [handle.number for handle in handles], [handle.at for handle in handles]
        # Where it was written: a replica that lags would let a flood begin again.
        return not handles or AuditEvent.objects.written().filter(pk__in=numbers, at__in=times).count() == len(handles)


_database = DatabaseSink()


def sink() -> Sink:
    """Return the current sink."""
    if conf.AUDIT_SINK == DATABASE:
        return _database
    from .stream import sink_at

    return sink_at(conf.AUDIT_SINK)
