"""Limits the rows that refusals of unknown keys add, and counts each refusal once.

In each minute, place and process the first five refusals from a network (/24 or /64) for a reason get rows of their
own, and the others share a row with their `count`. Each service that asks about keys has such rows of its own, as they
name it. When there are 500 of all these, whatever needs another row is counted in one row for its place and reason,
which names neither a network nor a service: so a botnet fills neither the disk nor the memory.
"""

import os
import threading
from dataclasses import dataclass, field
from datetime import datetime
from time import time
from typing import NamedTuple

from ..models.audit_event import BLANK, MANY_NETWORKS, OF_ONE_REQUEST, Row
from ..networks import Address, neighbourhood
from .outcomes import CountedRow, RowHandle, Sink
from .places import Place

WHOLE_ROWS = 5
MOST_ROWS = 500  # of a minute and process, whole ones and such that count, before strangers share one for all networks


class Log(NamedTuple):
    """Where refusals go, and why. In a transaction the rows are others: they may be rolled back, others must not be."""

    place: Place
    may_be_rolled_back: bool
    reason: str


Name = tuple[Log, str, str]  # of a bucket: its log, the network, and the service that asked


class Room:
    """How many rows may still be added in a minute."""

    def __init__(self) -> None:
        self._lock, self._left = threading.Lock(), MOST_ROWS

    @property
    def is_empty(self) -> bool:
        return self._left <= 0

    def take(self) -> bool:
        """Take the room of one row; return False if there is none."""
        with self._lock:
            self._left -= 1 if (is_there := self._left > 0) else 0
            return is_there

    def give_back(self, rows: int = 1) -> None:
        with self._lock:
            self._left += rows


@dataclass
class Bucket:
    """The refusals of one place, network, asking service, reason and minute; or those of all networks, without `room`
    and whole rows.

    Its lock is held while a thread decides what to write, never while it writes: whoever waits for the lock may hold
    the connection that the write would need.
    """

    room: Room | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: list[RowHandle] = field(default_factory=list)
    counted: CountedRow | None = None
    inserting: int = 0  # whole rows that threads insert now
    is_inserting_counted: bool = False
    owed: int = 0  # refusals to add to the counted row once it is inserted
    unwritten: CountedRow | None = None  # takes what is owed where that row could not be inserted

    @property
    def rows(self) -> int:
        """How many rows it has, or is about to have."""
        return len(self.whole) + self.inserting + (self.counted is not None or self.is_inserting_counted)

    def record(self, row: Row, sink: Sink) -> bool:
        """Insert the row, or add one to the count of the shared row. Return False if there is no room for a row."""
        while True:
            with self.lock:
                whole, counted = [*self.whole], self.counted
                if counted is not None:
                    counted.total += 1
            if counted is not None:
                if sink.count_again(counted):
                    return True
                self._forget_counted(counted)
            elif self.room is not None and self.room.is_empty and not self.is_inserting_counted:
                return False
            elif len(whole) == WHOLE_ROWS and (gone := {*whole} - sink.existing(whole)):
                self._forget_whole(gone)
            elif (is_recorded := self._insert(row, sink)) is not None:
                return is_recorded

    def _forget_counted(self, counted: CountedRow) -> None:
        """Forget the row, which was rolled back or deleted, unless another thread has done so."""
        with self.lock:
            if self.counted is counted:
                self.counted = None
                self._give_back(1)

    def _forget_whole(self, gone: set[RowHandle]) -> None:
        with self.lock:
            before = len(self.whole)
            self.whole = [handle for handle in self.whole if handle not in gone]
            self._give_back(before - len(self.whole))

    def _give_back(self, rows: int) -> None:
        if self.room is not None:
            self.room.give_back(rows)

    def _insert(self, row: Row, sink: Sink) -> bool | None:
        """Insert a whole row or the counted one. Return False without room, None if another thread was faster."""
        with self.lock:
            if self.counted is not None:
                return None
            is_whole = self.room is not None and len(self.whole) + self.inserting < WHOLE_ROWS
            # What is owed is written by another thread, which sees no row of an open transaction.
            if not is_whole and self.is_inserting_counted and not sink.may_be_rolled_back():
                self.owed += 1
                return True
            if self.room is not None and not self.room.take():
                return False
            if is_whole:
                self.inserting += 1
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
                if handle is None:
                    self._give_back(1)
                else:
                    self.whole.append(handle)

    def _insert_counted(self, row: Row, sink: Sink) -> None:
        counted = None
        try:
            counted = CountedRow.written(sink.insert(row), row)
        finally:
            with self.lock:
                self.is_inserting_counted = False
                self.counted = counted
                if counted is None:
                    self._give_back(1)
                grown = self._grown(row, sink.place())
            if grown is not None:
                sink.count_later(grown)

    def _grown(self, row: Row, place: Place) -> CountedRow | None:
        """Return the row that has taken what other threads left to this one, which is counted in any case."""
        owed, self.owed = self.owed, 0
        if not owed:
            return None
        grown = self.counted or self.unwritten
        if grown is None:
            grown = self.unwritten = CountedRow.unwritten(row, place)
        grown.total += owed
        return grown


class Minute:
    """The buckets of one minute: those of networks, as many as there is room for, and one for all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = Room()
        self._buckets: dict[Name, Bucket] = {}
        self._of_all: dict[Log, Bucket] = {}

    def record(self, row: Row, address: Address | None, log: Log, sink: Sink) -> None:
        """Insert the row into the sink, or add one to the count of a shared row."""
        name = log, neighbourhood(address), row["actor"]
        bucket = self._bucket(name)
        try:
            is_recorded = bucket is not None and bucket.record(row, sink)
        finally:
            if bucket is not None and not bucket.rows:
                self._drop_if_empty(name, bucket)
        if not is_recorded:
            with self._lock:
                of_all = self._of_all.setdefault(log, Bucket(None))
            of_all.record({**row, **{name: BLANK[name] for name in OF_ONE_REQUEST}, "detail": MANY_NETWORKS}, sink)

    def _bucket(self, name: Name) -> Bucket | None:
        """Return a network's bucket; None if it has none and there is no room for its rows."""
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None and not self._room.is_empty:
                bucket = self._buckets[name] = Bucket(self._room)
            return bucket

    def _drop_if_empty(self, name: Name, bucket: Bucket) -> None:
        """Drop a bucket whose row could not be inserted: those are as many as strangers have networks."""
        with self._lock, bucket.lock:
            if not bucket.rows and self._buckets.get(name) is bucket:
                del self._buckets[name]

    def forget(self, place: Place) -> None:
        """Drop the buckets of a place, and have the room of their rows again."""
        with self._lock:
            for name, bucket in [*self._buckets.items()]:
                if name[0].place == place:
                    self._room.give_back(bucket.rows)
                    del self._buckets[name]
            self._of_all = {log: bucket for log, bucket in self._of_all.items() if log.place != place}


class Floods:
    """The current minute, and the neighbouring ones for threads that are late and for clocks that differ."""

    def __init__(self) -> None:
        self._reset()
        # Another thread may hold the lock at a fork. The child counts in rows of its own.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._minutes: dict[int, Minute] = {}

    def forget(self, place: Place | None = None) -> None:
        """Drop the buckets of a place, or all: the next refusals get rows of their own."""
        with self._lock:
            if place is None:
                self._minutes = {}
            else:
                for minute in self._minutes.values():
                    minute.forget(place)

    def _minute(self, at: datetime) -> Minute:
        now = int(time() // 60)
        # A row of any other time is counted in the nearest: nobody gets more rows with slow requests.
        number = min(max(int(at.timestamp() // 60), now - 1), now + 1)
        with self._lock:
            if number not in self._minutes:
                self._minutes = {other: kept for other, kept in self._minutes.items() if abs(other - now) <= 1}
                self._minutes[number] = Minute()
            return self._minutes[number]

    def record(self, row: Row, address: Address | None, sink: Sink) -> None:
        """Insert the row into the sink, or add one to the count of a row that it shares with others."""
        log = Log(sink.place(), sink.may_be_rolled_back(), row["reason"])
        self._minute(row["at"]).record(row, address, log, sink)


floods = Floods()
