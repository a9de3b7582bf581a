"""Batches what may be written to the audit log a moment late: outcomes of uses, and counts of floods.

Each write costs a commit, which would double the cost of a request. So a write is made at once only if the last one was
some time ago. During a burst the writes stay pending, and the next write or a timer flushes them in one batch.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from django.db import connections

if TYPE_CHECKING:
    from ..models.audit_event import Row

logger = logging.getLogger("api_keys")

LIMIT = 10_000  # of pending outcomes, while the database cannot be reached; the oldest are dropped first
RETRY_DELAY = 1.0  # seconds before a failed write is retried without another request


class RowHandle(NamedTuple):
    """A row's id, in a stream its ticket, and its time: SQLite reuses the id of a row that was rolled back."""

    number: int
    at: datetime


class CountedRow(RowHandle):
    """The handle of a row that counts many refusals, with the row's values as this process knows them."""

    row: Row
    counted_at: float = float("-inf")


class Outcome(NamedTuple):
    """How a use ended, in the order of `models.audit_event.OUTCOME`, and then the handle of its row."""

    event: str
    reason: str
    status: int
    duration_ms: int
    number: int
    at: datetime


class Sink(Protocol):
    """Where rows are written. Each method raises `django.db.Error` if it cannot write."""

    @property
    def shares_key_database(self) -> bool:
        """Whether rows and keys are in one database, so that one statement can find a key and record its use."""

    def insert(self, row: Row) -> RowHandle:
        """Write a row, as durably as this sink can, and return its handle."""

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        """Add the outcome of a request to its row; `may_be_gone` if the row may have been rolled back since."""

    def count_again(self, counted: CountedRow) -> bool:
        """Add one to the row's count; return False if the row no longer exists."""

    def all_exist(self, handles: Sequence[RowHandle]) -> bool:
        """Tell whether none of these rows was rolled back or deleted."""


@dataclass
class Batch:
    """Pending outcomes, and for each row of a flood how much to add to its count."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[RowHandle, int] = field(default_factory=dict)

    def followed_by(self, later: Batch) -> Batch:
        """Return one batch with the contents of both, in their order."""
        counts = dict(self.counts)
        for row, count in later.counts.items():
            counts[row] = counts.get(row, 0) + count
        return Batch([*self.outcomes, *later.outcomes], counts)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.counts)


class Backlog:
    """The pending writes of this process. `write` writes a batch or raises; `may_write` tells if this thread may."""

    def __init__(self, may_write: Callable[[], bool], write: Callable[[Batch], None]) -> None:
        self._may_write, self._write = may_write, write
        self._reset()
        # A forked child starts empty: the parent writes what was pending.
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._flush_and_close)

    def _reset(self) -> None:
        self._batch_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._batch = Batch()
        self._written_at = float("-inf")
        self._timer: threading.Timer | None = None

    def add_outcome(self, outcome: Outcome, delay: float) -> None:
        """Add one outcome, to be written within about `delay` seconds."""
        with self._batch_lock:
            self._batch.outcomes.append(outcome)
            del self._batch.outcomes[:-LIMIT]
        self._flush_within(delay)

    def add_count(self, row: RowHandle, delay: float) -> None:
        """Add one to the count of a flood's row, to be written within about `delay` seconds."""
        with self._batch_lock:
            self._batch.counts[row] = self._batch.counts.get(row, 0) + 1
        self._flush_within(delay)

    def forget(self) -> None:
        """Drop what is pending."""
        with self._batch_lock:
            self._batch = Batch()

    def flush(self) -> None:
        """Write what is pending, or wait for the thread that is writing it. Does nothing if this thread may not write.

        Raises the errors of the database; what could not be written stays pending.
        """
        # Called before taking the lock: the thread that holds it may wait for this thread's transaction.
        if not (self._batch or self._write_lock.locked()) or not self._may_write():
            return
        with self._write_lock:
            with self._batch_lock:
                batch, self._batch = self._batch, Batch()
            try:
                if batch:
                    self._write(batch)
            except BaseException:
                with self._batch_lock:
                    self._batch = batch.followed_by(self._batch)
                raise
            finally:
                self._written_at = monotonic()

    def _flush_within(self, delay: float) -> None:
        try:
            if monotonic() - self._written_at >= delay:
                self.flush()
        except BaseException:
            self._start_timer(RETRY_DELAY)
            raise
        self._start_timer(2 * delay)

    def _start_timer(self, delay: float) -> None:
        """Start the timer: after a burst no further request may come to flush what is pending."""
        if self._batch and self._timer is None:
            self._timer = threading.Timer(delay, self._on_timer, [delay])
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self, delay: float) -> None:
        self._timer = None
        if monotonic() - self._written_at < delay / 2:
            self._start_timer(delay)
        elif not self._flush_and_close():
            self._start_timer(RETRY_DELAY)

    def _flush_and_close(self) -> bool:
        """Flush, and close this thread's connections, as it has no request to do that. Return whether it worked."""
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
