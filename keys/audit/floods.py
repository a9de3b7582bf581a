"""How many rows the refusals of strangers may leave in the log.

The first five from one network (/24 or /64) for one reason in one minute are whole rows; the rest of them
share a sixth, with their number in its `count`. Each process counts for itself, so the bound is six rows for
each network, reason, minute and process.
"""

import threading
from dataclasses import dataclass, field

from django.db.models.signals import post_migrate
from django.dispatch import receiver

from ..models.audit_event import Row
from ..networks import Address, neighbourhood
from .outcomes import CountedRow, RowHandle, Sink

WHOLE_ROWS = 5


@dataclass
class Bucket:
    """The refusals that are counted together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    whole: list[RowHandle] = field(default_factory=list)
    counted: CountedRow | None = None


class Floods:
    """The buckets of the current minute, and of the one before it for threads that are late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._buckets: dict[tuple[int, str, str], Bucket] = {}

    def forget(self) -> None:
        """Begin anew, with whole rows."""
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
        """Write the row into the sink, or add it to the count of the one that stands for the rest of its bucket."""
        bucket = self._bucket(row, address)
        with bucket.lock:
            if bucket.counted is not None and sink.count_again(bucket.counted):
                return
            if bucket.counted is not None or not sink.all_exist(bucket.whole):
                # Rows that were rolled back or deleted stand for nothing: the bucket begins anew.
                bucket.whole, bucket.counted = [], None
            handle = sink.insert(row)
            if len(bucket.whole) < WHOLE_ROWS:
                bucket.whole.append(handle)
            else:
                bucket.counted = CountedRow(*handle)
                bucket.counted.row = {**row}


floods = Floods()


@receiver(post_migrate)
def forget(**kwargs: object) -> None:
    """Begin anew when the tables did, as `flush` makes them between two tests."""
    floods.forget()
