"""What may reach the audit log a moment late: outcomes of uses whose rows are there, and counts of a flood.

Each costs a commit, which would double the price of a request. So one is written at once only where the last
was written a while ago; in a burst the others wait for the next that may, or for a timer, and are written together.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

from django.db import connections

logger = logging.getLogger("api_keys")

# What waits at the most, should the database be out of reach; the oldest outcomes are dropped then.
LIMIT = 10_000
# How long to wait before what could not be written is tried again without another request, in seconds.
RETRY_DELAY = 1.0


class RowName(NamedTuple):
    """What names a row of the log: on SQLite the id of a row that was rolled back goes to another."""

    id: int
    at: datetime


class SharedRow(RowName):
    """The name of a row that stands for many refusals, and what is known of it here."""

    row: dict[str, Any]
    counted_at: float = float("-inf")


class Outcome(NamedTuple):
    """How a use ended, and the row that records it."""

    event: str
    reason: str
    status: int
    duration_ms: int
    id: int
    at: datetime


@dataclass
class Batch:
    """Outcomes, and how often the row of each flood is to be counted once more."""

    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[RowName, int] = field(default_factory=dict)

    def followed_by(self, later: "Batch") -> "Batch":
        """Return one batch of both, in their order."""
        counts = dict(self.counts)
        for row, count in later.counts.items():
            counts[row] = counts.get(row, 0) + count
        return Batch([*self.outcomes, *later.outcomes], counts)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.counts)


class Backlog:
    """A process's writes that wait."""

    # Whether a batch can be put into the database right here, and what does it or raises. Set by `audit`.
    may_write: Callable[[], bool]
    write: Callable[[Batch], None]

    def __init__(self) -> None:
        self._begin()
        # A child of a fork begins with nothing: what waits is its parent's to write.
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self._settle_alone)

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
        self._settle_within(delay)

    def add_count(self, row: RowName, delay: float) -> None:
        """Count the row of a flood once more, to be written within about `delay` seconds."""
        with self._adding:
            self._batch.counts[row] = self._batch.counts.get(row, 0) + 1
        self._settle_within(delay)

    def forget(self) -> None:
        """Drop what waits."""
        with self._adding:
            self._batch = Batch()

    def settle(self) -> None:
        """Write what waits, or wait for the thread that is at it, unless another thread has to do it later.

        Raises the database's errors, and loses nothing by them.
        """
        # The last is asked before the lock: a transaction may keep the database from the thread that holds it.
        if not (self._batch or self._writing.locked()) or not self.may_write():
            return
        with self._writing:
            with self._adding:
                batch, self._batch = self._batch, Batch()
            try:
                if batch:
                    self.write(batch)
            except BaseException:
                with self._adding:
                    self._batch = batch.followed_by(self._batch)
                raise
            finally:
                self._written_at = monotonic()

    def _settle_within(self, delay: float) -> None:
        try:
            if monotonic() - self._written_at >= delay:
                self.settle()
        except BaseException:
            self._wake_up(RETRY_DELAY)
            raise
        self._wake_up(2 * delay)

    def _wake_up(self, delay: float) -> None:
        """Look again after a while: at the end of a burst no further request may come to write what waits."""
        if self._batch and self._timer is None:
            self._timer = threading.Timer(delay, self._settle_later, [delay])
            self._timer.daemon = True
            self._timer.start()

    def _settle_later(self, delay: float) -> None:
        self._timer = None
        if monotonic() - self._written_at < delay / 2:
            self._wake_up(delay)
        elif not self._settle_alone():
            self._wake_up(RETRY_DELAY)

    def _settle_alone(self) -> bool:
        """Write what waits from a thread that has no request, and so a connection that nobody else would close.

        Returns whether it could.
        """
        try:
            if self._batch:
                self.settle()
        except Exception:
            logger.exception(
                "The outcome of %d requests could not be added to the audit log.", len(self._batch.outcomes)
            )
            return False
        finally:
            connections.close_all()
        return True


backlog = Backlog()
