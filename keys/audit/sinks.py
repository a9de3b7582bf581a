"""Where the rows of uses and refusals are written: `KEYS["AUDIT_SINK"]`.

Either the table, or a Redis stream from which `keys_ship` writes them into the table. Life-cycle events use no sink:
each is written in the transaction of its change.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from django.db import Error

from ..conf import DATABASE, conf
from ..models import AuditEvent
from ..models.audit_event import AuditEventManager, Row
from . import statements
from .outcomes import Backlog, CountedRow, Outcome, RowHandle, Sink
from .places import Place, at

ASK_SECONDS = 1.0  # between two looks whether a row that counts is still there: each is a write beside the batches

backlog = Backlog(statements.get_ready, statements.write_batch)
AuditEventManager.flush = backlog.flush


class DatabaseSink:
    """The table itself. `insert` commits its row; during a burst the rest is written a moment later.

    With an `OUTCOME_DELAY` of 0 each thread writes all that is its own at once, on its own connection.
    """

    shares_key_database = True

    def place(self) -> Place:
        return statements.current_place()

    def may_be_rolled_back(self) -> bool:
        return statements.is_in_transaction()

    def insert(self, row: Row) -> RowHandle:
        return statements.insert(row)

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        outcome = Outcome(row["event"], row["reason"], row["status"], row["duration_ms"], *handle)
        delay, may_wait = conf.OUTCOME_DELAY.total_seconds(), not may_be_gone and statements.may_wait(handle.place)
        if delay and may_wait:
            backlog.add_outcome(outcome, delay)
            return
        try:
            is_there = statements.write_outcome(outcome)
        except Error:
            if may_wait:
                backlog.retry(outcome)
            raise
        if not is_there and (may_be_gone or statements.is_in_transaction(handle.place)):
            statements.insert(row, handle.place)

    def count_again(self, counted: CountedRow) -> bool:
        if statements.is_in_transaction(counted.place):
            return statements.count_one_more(counted)
        delay, now = conf.OUTCOME_DELAY.total_seconds(), monotonic()
        may_wait = statements.may_wait(counted.place)
        if may_wait and delay and now - counted.counted_at < max(delay, ASK_SECONDS):
            backlog.add_count(counted, delay)
            return True
        # Now and then it is written at once, by one thread, which shows whether the row still exists.
        counted.counted_at = now
        try:
            return statements.write_count(counted)
        except Error:
            if may_wait:
                backlog.retry_count(counted)
            raise

    def count_later(self, counted: CountedRow) -> None:
        backlog.add_count(counted, conf.OUTCOME_DELAY.total_seconds())

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        by_number = {handle.number: handle for handle in handles}
        # Where they were written: a replica that lags would let a flood begin again.
        with at(handles[0].place or self.place()) as connection:
            rows = AuditEvent._base_manager.using(connection.alias)
            rows = rows.filter(pk__in=by_number, at__in=[handle.at for handle in handles])
            return {by_number[pk] for pk in rows.values_list("pk", flat=True)}


_database = DatabaseSink()


def sink() -> Sink:
    """Return the current sink."""
    if _instead is not None:
        return _instead
    if conf.AUDIT_SINK == DATABASE:
        return _database
    from .stream import sink_at

    return sink_at(conf.AUDIT_SINK)


_instead: Sink | None = None


@contextmanager
def written_to(other: Sink) -> Iterator[None]:
    """Write rows of uses and refusals of this whole process to another sink. For tests."""
    global _instead
    before, _instead = _instead, other
    try:
        yield
    finally:
        _instead = before
