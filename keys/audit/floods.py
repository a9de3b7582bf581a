"""Limits the rows that refusals of unknown keys add: six for each network, reason, minute and process.

The first five refusals from a network (/24 or /64) get rows of their own; the others share a row with their `count`.
"""

import threading
from dataclasses import dataclass, field

from ..models.audit_event import Row
from ..networks import Address, neighbourhood
from .outcomes import CountedRow, RowHandle, Sink

WHOLE_ROWS = 5


@dataclass
class Bucket:
    """The refusals of one network, reason and minute."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: list[RowHandle] = field(default_factory=list)
    counted: CountedRow | None = None


class Floods:
    """The buckets of the current minute, and of the neighbouring minutes for threads that are late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._buckets: dict[tuple[int, str, str], Bucket] = {}

    def forget(self) -> None:
        """Drop all buckets: the next refusals get rows of their own."""
        with self._lock:
            self._buckets = {}

    def _bucket(self, row: Row, address: Address | None) -> Bucket:
        minute = int(row["at"].timestamp() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._buckets = {name: kept for name, kept in self._buckets.items() if abs(name[0] - minute) <= 1}
            return self._buckets.setdefault((minute, neighbourhood(address), row["reason"]), Bucket())

    def record(self, row: Row, address: Address | None, sink: Sink) -> None:
        """Insert the row into the sink, or add one to the count of its bucket's shared row."""
        bucket = self._bucket(row, address)
        with bucket.lock:
            if bucket.counted is not None and sink.count_again(bucket.counted):
                return
            if bucket.counted is not None or not sink.all_exist(bucket.whole):
                # The rows were rolled back or deleted, so they no longer count: start the bucket again.
                bucket.whole, bucket.counted = [], None
            handle = sink.insert(row)
            if len(bucket.whole) < WHOLE_ROWS:
                bucket.whole.append(handle)
            else:
                bucket.counted = CountedRow(*handle)
                bucket.counted.row = {**row}


floods = Floods()
