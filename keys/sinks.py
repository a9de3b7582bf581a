"""Where the rows of uses and refusals go: `KEYS["AUDIT_SINK"]`.

Either into the table, or through a Redis stream, from which `keys_ship` brings them there. The steps of a key's life
are not among them: they are written with the step itself, in its transaction.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Protocol

from . import statements
from .backlog import Outcome, RowName, SharedRow, backlog
from .conf import conf
from .models import AuditEvent
from .statements import Row

DATABASE = "database"
SCHEMES = ("redis", "rediss", "unix")

backlog.may_write, backlog.write = statements.may_write_batch, statements.write_batch


class Sink(Protocol):
    """Takes the rows. Its methods raise `django.db.Error` for what could not be written."""

    @property
    def is_key_store(self) -> bool:
        """Whether the rows lie beside the keys, so that one statement finds a key and records its use."""

    def insert(self, row: Row) -> int:
        """Write a row, as safe as this sink can make it, and return what names it here, together with its time."""

    def add_outcome(self, event_id: int, row: Row, may_be_gone: bool) -> None:
        """Add to a row how its request ended; `may_be_gone` where the row may have been rolled back since."""

    def count_again(self, shared: SharedRow) -> bool:
        """Add one to the row's count; False if the row is not there any more."""

    def are_there(self, rows: Sequence[RowName]) -> bool:
        """Tell whether none of these rows was rolled back or deleted."""


class DatabaseSink:
    """The table itself. A row is committed when `insert` returns; in a burst the rest is written a moment later."""

    is_key_store = True

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


def is_stream(address: object) -> bool:
    """Tell whether that is how the address of a Redis stream begins."""
    return isinstance(address, str) and address.partition("://")[0] in SCHEMES


def sink() -> Sink:
    """Return where the rows go now."""
    if conf.AUDIT_SINK == DATABASE:
        return _database
    from .stream import sink_at

    return sink_at(conf.AUDIT_SINK)
