"""Limits the rows that refusals of unknown keys add: six for each network, reason, minute, place and process.

The first five refusals from a network (/24 or /64) get rows of their own; the others share a row with their `count`.
"""

import os
import threading
from dataclasses import dataclass, field

from ..models.audit_event import Row
from ..networks import Address, neighbourhood
from .outcomes import UNWRITTEN, CountedRow, RowHandle, Sink
from .places import Place

WHOLE_ROWS = 5


@dataclass
class Bucket:
    """The refusals of one place, network, reason and minute.

    Its lock is held while a thread decides what to write, never while it writes: whoever waits for the lock may hold
    the connection that the write would need.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: list[RowHandle] = field(default_factory=list)
    counted: CountedRow | None = None
    inserting: int = 0  # whole rows that threads insert now
    is_inserting_counted: bool = False
    owed: int = 0  # refusals to add to the counted row once it is inserted

    def record(self, row: Row, sink: Sink) -> None:
        """Insert the row into the sink, or add one to the count of the shared row."""
        while True:
            with self.lock:
                whole, counted = [*self.whole], self.counted
            if counted is not None:
                if sink.count_again(counted):
                    return
                self._forget_counted(counted)
            elif len(whole) == WHOLE_ROWS and (gone := {*whole} - sink.existing(whole)):
                self._forget_whole(gone)
            elif self._insert(row, sink):
                return

    def _forget_counted(self, counted: CountedRow) -> None:
        """Forget the row, which was rolled back or deleted, unless another thread has done so."""
        with self.lock:
            if self.counted is counted:
                self.counted = None

    def _forget_whole(self, gone: set[RowHandle]) -> None:
        with self.lock:
            self.whole = [handle for handle in self.whole if handle not in gone]

    def _insert(self, row: Row, sink: Sink) -> bool:
        """Insert a whole row or the counted one; return False if another thread has inserted the counted one."""
        with self.lock:
            if self.counted is not None:
                return False
            is_whole = len(self.whole) + self.inserting < WHOLE_ROWS
            if is_whole:
                self.inserting += 1
            elif self.is_inserting_counted:
                self.owed += 1
                return True
            else:
                self.is_inserting_counted = True
        if is_whole:
            self._insert_whole(row, sink)
        else:
            self._insert_counted(row, sink)
        return True

    def _insert_whole(self, row: Row, sink: Sink) -> None:
        handle = None
        try:
            handle = sink.insert(row)
        finally:
            with self.lock:
                self.inserting -= 1
                if handle is not None:
                    self.whole.append(handle)

    def _insert_counted(self, row: Row, sink: Sink) -> None:
        # What other threads leave to this one is counted in any case: if the row fails, in one that is inserted later.
        counted, is_inserted = CountedRow(UNWRITTEN, row["at"], sink.place()), False
        try:
            counted, is_inserted = CountedRow(*sink.insert(row)), True
        finally:
            counted.row = {**row}
            with self.lock:
                self.counted = counted if is_inserted else None
                self.is_inserting_counted = False
                owed, self.owed = self.owed, 0
            if owed:
                sink.count_later(counted, owed)


class Floods:
    """The buckets of the current minute, and of the neighbouring minutes for threads that are late."""

    def __init__(self) -> None:
        self._reset()
        # Another thread may hold the lock at a fork. The child counts in rows of its own.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._buckets: dict[tuple[int, Place, str, str], Bucket] = {}

    def forget(self, place: Place | None = None) -> None:
        """Drop the buckets of a place, or all: the next refusals get rows of their own."""
        with self._lock:
            self._buckets = {
                name: bucket for name, bucket in self._buckets.items() if place is not None and name[1] != place
            }

    def _bucket(self, row: Row, address: Address | None, place: Place) -> Bucket:
        minute = int(row["at"].timestamp() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._buckets = {name: kept for name, kept in self._buckets.items() if abs(name[0] - minute) <= 1}
            return self._buckets.setdefault((minute, place, neighbourhood(address), row["reason"]), Bucket())

    def record(self, row: Row, address: Address | None, sink: Sink) -> None:
        """Insert the row into the sink, or add one to the count of its bucket's shared row."""
        self._bucket(row, address, sink.place()).record(row, sink)


floods = Floods()
