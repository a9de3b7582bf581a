"""Batches what may be written to the audit log a moment late: outcomes of uses, and counts of floods.

Each write costs a commit, which would double the cost of a request. So a write is made at once only if the last one was
some time ago. During a burst the writes stay pending, and the next write or a timer flushes them in one batch.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

from django.db import connections

from .. import moments
from .places import Place

if TYPE_CHECKING:
    from ..models.audit_event import Row

logger = logging.getLogger("api_keys")

LIMIT = 10_000  # of pending outcomes, shared by the places, while one cannot be reached; the oldest are dropped first
RETRY_DELAY = 1.0  # seconds before a failed write is retried without another request


CHECK_BITS = 20  # of a ticket: they fit the row's time and no other
RANDOM_BITS = 63 - CHECK_BITS


def new_ticket(at: datetime) -> int:
    """Return a random ticket for a row of that time."""
    return secrets.randbits(RANDOM_BITS) << CHECK_BITS | _check_of(at)


def is_ticket_of(ticket: int, at: datetime) -> bool:
    """Tell whether the ticket is that of a row of that time, and not of the same row with another one."""
    return ticket & (1 << CHECK_BITS) - 1 == _check_of(at)


def _check_of(at: datetime) -> int:
    return zlib.crc32(moments.instant(at).isoformat().encode()) >> (32 - CHECK_BITS)


class RowHandle(NamedTuple):
    """A row's id, in a stream its ticket, and its time: SQLite reuses the id of a row that was rolled back.

    `place` is where the row is; None: where keys are written at the moment of asking.
    """

    number: int
    at: datetime
    place: Place | None = None


class CountedRow(RowHandle):
    """The handle of a row that counts many refusals, and the row itself.

    `total` is its whole count, which only this process adds to: writing it again, after a write whose reply was lost,
    counts nobody twice. Until `is_written` its number is a random ticket, by which it is found again.
    """

    row: Row
    total: int
    is_written: bool
    counted_at: float

    @classmethod
    def written(cls, handle: RowHandle, row: Row) -> CountedRow:
        """Return the handle of a row that was inserted, for one refusal."""
        counted = cls(*handle)
        counted.row, counted.total, counted.is_written, counted.counted_at = {**row}, 1, True, float("-inf")
        return counted

    @classmethod
    def unwritten(cls, row: Row, place: Place) -> CountedRow:
        """Return the handle of a row that has yet to be inserted, for nobody so far."""
        counted = cls.written(RowHandle(new_ticket(row["at"]), row["at"], place), row)
        counted.total, counted.is_written = 0, False
        return counted


class Outcome(NamedTuple):
    """How a use ended, in the order of `models.audit_event.OUTCOME`, and then the handle of its row."""

    event: str
    reason: str
    status: int
    duration_ms: int
    number: int
    at: datetime
    place: Place | None = None


class Sink(Protocol):
    """Where rows are written. Each method raises `django.db.Error` if it cannot write."""

    def place(self) -> Place:
        """Return where a row that is inserted now will be. Needs no query."""

    def may_be_rolled_back(self) -> bool:
        """Tell whether what is written now may be rolled back. Needs no query."""

    @property
    def shares_key_database(self) -> bool:
        """Whether rows and keys are in one database, so that one statement can find a key and record its use."""

    def insert(self, row: Row) -> RowHandle:
        """Write a row, as durably as this sink can, and return its handle."""

    def add_outcome(self, handle: RowHandle, row: Row, may_be_gone: bool) -> None:
        """Add the outcome of a request to its row; `may_be_gone` if the row may have been rolled back since."""

    def count_again(self, counted: CountedRow) -> bool:
        """Write the row's count, which has grown by one; return False if the row no longer exists."""

    def count_later(self, counted: CountedRow) -> None:
        """Write the row's count, or the row with its count if it is not written yet, a moment later."""

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        """Return those of these rows, all of one place, that were neither rolled back nor deleted."""


@dataclass
class Batch:
    """Pending outcomes of one place, and the whole count of each row of a flood that has grown."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[CountedRow, int] = field(default_factory=dict)

    @property
    def place(self) -> Place | None:
        """Where its rows are."""
        row: Outcome | RowHandle = self.outcomes[0] if self.outcomes else next(iter(self.counts))
        return row.place

    def followed_by(self, later: Batch) -> Batch:
        """Return both as one batch."""
        return Batch([*self.outcomes, *later.outcomes], {**self.counts, **later.counts})


class Backlog:
    """The pending writes of this process, one batch for each place.

    `write` writes a batch or raises. `get_ready` is called before it, and before any lock is taken: it connects to the
    place, or returns False if this thread may not write there. So nobody waits for a thread that waits for a connection
    of a pool.
    """

    def __init__(self, get_ready: Callable[[Place | None], bool], write: Callable[[Batch], None]) -> None:
        self._get_ready, self._write = get_ready, write
        self._reset()
        # A forked child starts empty: the parent writes what was pending.
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._on_exit)

    def _reset(self) -> None:
        self._batch_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._batches: dict[Place | None, Batch] = {}
        self._is_writing: set[Place | None] = set()  # never more than one
        self._written_at: dict[Place | None, float] = {}
        self._timer: threading.Timer | None = None

    def add_outcome(self, outcome: Outcome, delay: float) -> None:
        """Add one outcome, to be written within about `delay` seconds."""
        with self._batch_lock:
            outcomes = self._batches.setdefault(outcome.place, Batch()).outcomes
            outcomes.append(outcome)
            del outcomes[: -(LIMIT // len(self._batches))]
        self._flush_within(outcome.place, delay)

    def add_count(self, row: CountedRow, delay: float) -> None:
        """Add the count of a flood's row, to be written within about `delay` seconds."""
        self._add_count(row)
        self._flush_within(row.place, delay)

    def _add_count(self, row: CountedRow) -> None:
        with self._batch_lock:
            # Read here, so that no lower count replaces a higher one.
            self._batches.setdefault(row.place, Batch()).counts[row] = row.total

    def retry(self, outcome: Outcome) -> None:
        """Add one outcome that could not be written, to be written by the timer."""
        with self._batch_lock:
            self._batches.setdefault(outcome.place, Batch()).outcomes.append(outcome)
        self._start_timer(RETRY_DELAY)

    def retry_count(self, row: CountedRow) -> None:
        """Add the count of a row that could not be written, to be written by the timer."""
        self._add_count(row)
        self._start_timer(RETRY_DELAY)

    def forget(self, place: Place | None = None) -> None:
        """Drop what is pending in a place; without one, in all."""
        with self._batch_lock:
            for each in [*self._batches] if place is None else [place]:
                self._batches.pop(each, None)

    def flush(self) -> None:
        """Write what is pending, or wait for the thread that is writing it. Leaves out where this thread may not write.

        Raises the first error of the databases; what could not be written stays pending.
        """
        failures = []
        for place in dict.fromkeys([*self._batches.copy(), *self._is_writing.copy()]):
            try:
                self._flush(place)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _flush(self, place: Place | None, *, waits: bool = True) -> None:
        try:
            # The thread that holds the lock may wait for this thread's transaction.
            if not self._get_ready(place):
                return
        except BaseException:
            self._written_at[place] = monotonic()
            raise
        if not self._write_lock.acquire(blocking=waits):
            return
        self._is_writing.add(place)
        try:
            with self._batch_lock:
                batch = self._batches.pop(place, None)
            if batch is not None:
                self._write_or_keep(place, batch)
        finally:
            self._is_writing.discard(place)
            self._write_lock.release()

    def _write_or_keep(self, place: Place | None, batch: Batch) -> None:
        try:
            self._write(batch)
        except BaseException:
            with self._batch_lock:
                self._batches[place] = batch.followed_by(self._batches.get(place, Batch()))
            raise
        finally:
            if len(self._written_at) > LIMIT:
                self._written_at = {}
            self._written_at[place] = monotonic()

    def _flush_within(self, place: Place | None, delay: float) -> None:
        """Flush the place if its last write was long enough ago, unless somebody is writing: then the timer will."""
        try:
            if self._is_due(place, delay):
                self._flush(place, waits=False)
        except BaseException:
            self._start_timer(RETRY_DELAY)
            raise
        self._start_timer(2 * delay)

    def _is_due(self, place: Place | None, delay: float) -> bool:
        return monotonic() - self._written_at.get(place, float("-inf")) >= delay

    def _start_timer(self, delay: float) -> None:
        """Start the timer: after a burst no further request may come to flush what is pending."""
        if self._batches and self._timer is None:
            self._timer = threading.Timer(delay, self._on_timer, [delay])
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self, delay: float) -> None:
        self._timer = None
        is_due = any(self._is_due(place, delay / 2) for place in self._batches.copy())
        if is_due and not self._flush_and_close():
            delay = RETRY_DELAY
        self._start_timer(delay)

    def _on_exit(self) -> None:
        # A child's connections may be its parent's, which must not be closed.
        if self._batches or self._is_writing:
            self._flush_and_close()

    def _flush_and_close(self) -> bool:
        """Flush, and close this thread's connections, as it has no request to do that. Return whether it worked."""
        try:
            self.flush()
        except Exception:
            pending = sum(len(batch.outcomes) + len(batch.counts) for batch in self._batches.copy().values())
            logger.exception("The outcomes or counts of %d rows could not be added to the audit log.", pending)
            return False
        finally:
            connections.close_all()
        return True
