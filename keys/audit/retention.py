"""Deletes old events, and records the deletion in the log itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any, NamedTuple, Self

from django.db import connections, router
from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import moments
from ..models import AuditEvent
from ..models.audit_event import TRAFFIC
from . import partitions
from .partitions import Partition

BATCH_SIZE = 2000


class Pruning(NamedTuple):
    """A deletion of the uses and refusals before this time, or with `life_cycle` of all events.

    The log keeps it as JSON in the `detail` of two events. The first is written before the first row is deleted, so
    that every deletion is announced; the second when it is done, with the number of rows.
    """

    before: datetime
    life_cycle: bool
    is_done: bool = False

    def announce(self) -> None:
        """Record that the deletion starts."""
        self._record(0)

    def conclude(self, count: int) -> None:
        """Record that the deletion is done, and how many events were deleted."""
        self._replace(is_done=True)._record(count)

    def _record(self, count: int) -> None:
        detail = json.dumps({**self._asdict(), "before": moments.written(self.before)})
        AuditEvent.record_step(AuditEvent.Event.PRUNED, detail, using=router.db_for_write(AuditEvent), count=count)

    @classmethod
    def read(cls, detail: str) -> Self | None:
        """Return the pruning that the `detail` of an event holds; None if it holds none."""
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            said = json.loads(detail)
            before = datetime.fromisoformat(said["before"])
            if timezone.is_aware(before):
                return cls(before, said["life_cycle"] is True, said["is_done"] is True)
        return None

    def as_stored(self) -> datetime:
        """Return the time that was compared with the rows, in UTC; local time counts as UTC where it was stored so."""
        # The offset is that of what was stored when the deletion was recorded.
        keeps_instants = connections[router.db_for_write(AuditEvent)].features.supports_timezones
        return self.before if keeps_instants else self.before.replace(tzinfo=UTC)

    @property
    def sentence(self) -> str:
        """What is deleted, in words."""
        words = _("events before %(before)s") if self.life_cycle else _("uses and refusals before %(before)s")
        words = words if self.is_done else _("deleting %(events)s") % {"events": words}
        return words % {"before": f"{moments.instant(self.before):%Y-%m-%d %H:%M:%S %Z}"}


def prunings() -> list[Pruning]:
    """Return the prunings that the log records."""
    events = AuditEvent.objects.written().filter(event=AuditEvent.Event.PRUNED)
    details = events.values_list("detail", flat=True)
    return [pruning for detail in details if (pruning := Pruning.read(str(detail))) is not None]


def prunable(before: datetime, *, life_cycle: bool = False) -> QuerySet[AuditEvent]:
    """Return the events that `prune` would delete."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.written().filter(at__lt=before)
    return events if life_cycle else events.filter(event__in=TRAFFIC)


def prune(
    before: datetime,
    *,
    life_cycle: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Delete the uses and refusals from before that time, with `life_cycle` all events, and return their number.

    First drops whole months, if the log is partitioned and this database user may. Deletes the rest in batches,
    each in its own transaction, and calls `progress` with the number so far. `before` is rounded down to a second.
    The log records the deletion before the first row is deleted, and afterwards the number, also after an
    interruption.
    """
    # Whole seconds, as the event's sentence shows them: no row may be deleted that it does not cover.
    before = before.replace(microsecond=0)
    dropped = 0
    if partitions.is_allowed():
        for _, count in drop_months(before, life_cycle=life_cycle):
            dropped += count
            if progress is not None:
                progress(dropped)

    def tell(deleted: int) -> None:
        if progress is not None:
            progress(dropped + deleted)

    return dropped + _delete(Pruning(before, life_cycle), before, batch_size, tell)


def _delete(pruning: Pruning, before: datetime, batch_size: int, progress: Callable[[int], None]) -> int:
    """Delete the events from before that time, which the pruning covers, in batches, and return their number."""
    events = prunable(before, life_cycle=pruning.life_cycle)
    remaining, deleted = events, 0
    try:
        while (batch := _oldest(remaining, batch_size))["until"] is not None:
            started = monotonic()
            if not deleted:
                pruning.announce()
            deleted += remaining.filter(at__lte=batch["until"], pk__range=(batch["first"], batch["last"])).delete()[0]
            # Deleted rows stay in PostgreSQL's index until a vacuum, so the next batch starts after them.
            remaining = events.filter(at__gte=batch["until"])
            progress(deleted)
            # SQLite has one writer at a time, and waiting writers only poll: leave them as much time as this batch
            # took, because requests write too.
            sleep(monotonic() - started)
    finally:
        pruning.conclude(deleted)
    return deleted


def outside_months(before: datetime, *, life_cycle: bool = False) -> QuerySet[AuditEvent]:
    """Return the events that `delete_outside_months` would delete."""
    end = _end_of_past()
    events = prunable(before, life_cycle=life_cycle)
    return events.none() if end is None else events.filter(at__lt=end)


def delete_outside_months(before: datetime, *, life_cycle: bool = False, batch_size: int = BATCH_SIZE) -> int:
    """Delete what is older and lies in no month, in batches, and return the number of events. The log records it.

    That are events of a dead clock, or of another system: they are in the partition of the time before all months.
    What was done to keys stays there unless `life_cycle`.
    """
    before, end = before.replace(microsecond=0), _end_of_past()
    if end is None or not outside_months(before, life_cycle=life_cycle).exists():
        return 0
    before = min(end, before)
    return _delete(Pruning(before, life_cycle), before, batch_size, lambda deleted: None)


def _end_of_past() -> datetime | None:
    """Return the time until which events lie in no month; None if the log is a plain table."""
    ends = [each.until for each in partitions.present() if each.since is None and each.until is not None]
    return moments.kept(ends[0]) if ends else None


def droppable(before: datetime) -> list[Partition]:
    """Return the partitions that end before that time, the oldest first, without the one for the past."""
    end = moments.instant(before)
    return [
        partition for partition in partitions.present()
        if partition.since is not None and partition.until is not None and partition.until <= end
    ]  # fmt: skip


def drop_months(
    before: datetime, *, life_cycle: bool = False, patience: float = partitions.PATIENCE
) -> Iterator[tuple[Partition, int]]:
    """Drop the partitions of whole months before that time; yield each with the number of its events that were deleted.

    As in `prune`, life-cycle events are kept unless `life_cycle`, and the log records the deletion. Raises
    PartitionError if the log stays locked for `patience` seconds, or if this database user may not change it.
    """
    kinds = None if life_cycle else TRAFFIC
    while droppable(before) and partitions.gather(patience):
        pass  # An event of those months in the default partition would block the drop.
    for partition in droppable(before):
        pruning = Pruning(partition.until or before, life_cycle)
        count = partitions.drop(partition, kinds, pruning.conclude, patience)
        if count is not None:
            yield partition, count


def _oldest(events: QuerySet[AuditEvent], count: int) -> dict[str, Any]:
    """Return the oldest events' range of ids, ten times as fast to delete as single rows, and their last time."""
    return events.order_by("at")[:count].aggregate(first=Min("pk"), last=Max("pk"), until=Max("at"))
