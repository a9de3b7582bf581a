"""Where the rows of uses and refusals go. The steps of a key's life are written with the step, in its transaction."""

from collections.abc import Sequence
from time import monotonic
from typing import Protocol

from . import statements
from .backlog import Outcome, RowName, SharedRow, backlog
from .conf import conf
from .models import AuditEvent
from .statements import Row

backlog.may_write, backlog.write = statements.may_write_batch, statements.write_batch


class Sink(Protocol):
    """Takes the rows. Its methods raise `django.db.Error` for what could not be written."""

    def insert(self, row: Row) -> int:
        """Write a row and return its id; it is as safe as this sink can make it when the call returns."""

    def add_outcome(self, event_id: int, row: Row, may_be_gone: bool) -> None:
        """Add to a row how its request ended; `may_be_gone` where the row may have been rolled back since."""

    def count_again(self, shared: SharedRow) -> bool:
        """Add one to the row's count; False if the row is not there any more."""

    def are_there(self, rows: Sequence[RowName]) -> bool:
        """Tell whether none of these rows was rolled back or deleted."""


class DatabaseSink:
    """The table itself. A row is committed when `insert` returns; in a burst the rest is written a moment later."""

    def insert(self, row: Row) -> int:
        return statements.insert(row)

    def add_outcome(self, event_id: int, row: Row, may_be_gone: bool) -> None:
        outcome = Outcome(row["event"], row["reason"], row["status"], row["duration_ms"], event_id, row["at"])
        if not (may_be_gone or statements.is_in_transaction()):
            backlog.add_outcome(outcome, conf.OUTCOME_DELAY.total_seconds())
        elif not statements.write_outcome(outcome):
            statements.insert(row)

    def count_again(self, shared: SharedRow) -> bool:
        delay = conf.OUTCOME_DELAY.total_seconds()
        if monotonic() - shared.counted_at < delay and not statements.is_in_transaction():
            backlog.add_count(shared, delay)
            return True
        # Now and then at once, which shows whether the row is still there.
        is_there = statements.count_again(shared)
        shared.counted_at = monotonic()
        return is_there

    def are_there(self, rows: Sequence[RowName]) -> bool:
        ids, times = [row.id for row in rows], [row.at for row in rows]
        return not rows or AuditEvent.objects.filter(pk__in=ids, at__in=times).count() == len(rows)


_database = DatabaseSink()


def sink() -> Sink:
    """Return where the rows go now."""
    return _database
