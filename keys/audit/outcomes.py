"""What may reach the audit log a moment late: outcomes of uses whose rows are there, and counts of a flood.

Each costs a commit, which would double the price of a request. So one is written at once only where the last was
written a while ago. In a burst the others wait for the next one, or for a timer, and are written together.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple, Protocol

from django.db import connections

logger = logging.getLogger("api_keys")

# The values of one row of the log, by the names of its columns.
Row = dict[str, Any]

# What waits at the most, should the database be out of reach; the oldest outcomes are dropped then.
LIMIT = 10_000
# How long to wait before what could not be written is tried again without another request, in seconds.
RETRY_DELAY = 1.0


class RowHandle(NamedTuple):
    """What names a row: its id in the table or its ticket in a stream, and its time.

    The time is needed because on SQLite the id of a row that was rolled back goes to another row.
    """

    number: int
    at: datetime


class CountedRow(RowHandle):
    """The handle of a row that stands for many refusals, with its values as far as this process knows them."""

    row: Row
    counted_at: float = float("-inf")


class Outcome(NamedTuple):
    """How a use ended, in the order of `models.audit_event.OUTCOME`, and the handle of its row."""

    event: str
    reason: str
    status: int
    duration_ms: int
    number: int
    at: datetime


class Sink(Protocol):
    """Takes the rows. Its methods raise `django.db.Error` for what could not be written."""

    @property
    def shares_key_database(self) -> bool:
        """Whether the rows lie beside the keys, so that one statement can find a key and record its use."""

    def insert(self, row: Row) -> RowHandle:
        """Write a row, as durably as this sink can, and return its handle."""

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        """Add to a row how its request ended; `may_be_gone` where the row may have been rolled back since."""

    def count_again(self, counted: CountedRow) -> bool:
        """Add one to the row's count; False if the row is not there any more."""

    def all_exist(self, handles: Sequence[RowHandle]) -> bool:
        """Tell whether none of these rows was rolled back or deleted."""


@dataclass
class Batch:
    """Outcomes, and how often the row of each flood is to be counted once more."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[RowHandle, int] = field(default_factory=dict)

    def followed_by(self, later: "Batch") -> "Batch":
        """Return one batch of both, in their order."""
        counts = dict(self.counts)
        for row, count in later.counts.items():
            counts[row] = counts.get(row, 0) + count
        return Batch([*self.outcomes, *later.outcomes], counts)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.counts)


class Backlog:
    """The writes of this process that wait.

    `may_write` tells whether a batch can be written by this thread at this moment; `write` does it, or raises.
    """

    def __init__(self, may_write: Callable[[], bool], write: Callable[[Batch], None]) -> None:
        self._may_write, self._write = may_write, write
        self._begin()
        # A child of a fork begins with nothing: what waits is its parent's to write.
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self._flush_alone)

    def _begin(self) -> None:
        self._adding, self._writing = threading.Lock(), threading.Lock()
        self._batch = Batch()
        self._written_at = float("-inf")
        self._timer: threading.Timer | None = None

    def add_outcome(self, outcome: Outcome, delay: float) -> None:
        """Take one outcome, to be written within about `delay` seconds."""
        with self._adding:
            self._batch.outcomes.append(outcome)
            del self._batch.outcomes[:-LIMIT]
        self._flush_within(delay)

    def add_count(self, row: RowHandle, delay: float) -> None:
        """Count the row of a flood once more, to be written within about `delay` seconds."""
        with self._adding:
            self._batch.counts[row] = self._batch.counts.get(row, 0) + 1
        self._flush_within(delay)

    def forget(self) -> None:
        """Drop what waits."""
        with self._adding:
            self._batch = Batch()

    def flush(self) -> None:
        """Write what waits, or wait for the thread that is writing it. Does nothing where this thread may not write.

        Raises the errors of the database; what could not be written goes on waiting.
        """
        # `may_write` is asked before the lock: a transaction may keep the database from the thread that holds it.
        if not (self._batch or self._writing.locked()) or not self._may_write():
            return
        with self._writing:
            with self._adding:
                batch, self._batch = self._batch, Batch()
            try:
                if batch:
                    self._write(batch)
            except BaseException:
                with self._adding:
                    self._batch = batch.followed_by(self._batch)
                raise
            finally:
                self._written_at = monotonic()

    def _flush_within(self, delay: float) -> None:
        try:
            if monotonic() - self._written_at >= delay:
                self.flush()
        except BaseException:
            self._wake_up(RETRY_DELAY)
            raise
        self._wake_up(2 * delay)

    def _wake_up(self, delay: float) -> None:
        """Look again after a while: at the end of a burst no further request may come to write what waits."""
        if self._batch and self._timer is None:
            self._timer = threading.Timer(delay, self._flush_later, [delay])
            self._timer.daemon = True
            self._timer.start()

    def _flush_later(self, delay: float) -> None:
        self._timer = None
        if monotonic() - self._written_at < delay / 2:
            self._wake_up(delay)
        elif not self._flush_alone():
            self._wake_up(RETRY_DELAY)

    def _flush_alone(self) -> bool:
        """Write what waits from a thread that has no request, and so a connection that nobody else would close.

        Returns whether it could.
        """
        try:
            if self._batch:
                self.flush()
        except Exception:
            logger.exception(
                "The outcome of %d requests could not be added to the audit log.", len(self._batch.outcomes)
            )
            return False
        finally:
            connections.close_all()
        return True
