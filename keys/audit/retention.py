"""How old events are forgotten, and how the log says so itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any, NamedTuple, Self

from django.db import router
from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from ..models import AuditEvent
from ..models.audit_event import TRAFFIC
from . import partitions
from .partitions import Partition

BATCH_SIZE = 2000


class Pruning(NamedTuple):
    """The uses and refusals from before this time are deleted; with `life_cycle` all events are.

    The log keeps it as JSON, in the `detail` of two events: one before the first row goes, so that no row is ever gone
    without a word of it, and one when it is done, with their number.
    """

    before: datetime
    life_cycle: bool
    is_done: bool = False

    def announce(self) -> None:
        """Write that it begins."""
        self._record(0)

    def conclude(self, count: int) -> None:
        """Write that it is done, and how many events are gone."""
        self._replace(is_done=True)._record(count)

    def _record(self, count: int) -> None:
        detail = json.dumps({**self._asdict(), "before": self.before.astimezone(UTC).isoformat()})
        AuditEvent.record_step(AuditEvent.Event.PRUNED, detail, using=router.db_for_write(AuditEvent), count=count)

    @classmethod
    def read(cls, detail: str) -> Self | None:
        """Return what the `detail` of an event says; None for what says nothing of the kind."""
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            said = json.loads(detail)
            before = datetime.fromisoformat(said["before"])
            if timezone.is_aware(before):
                return cls(before.astimezone(UTC), said["life_cycle"] is True, said["is_done"] is True)
        return None

    @property
    def sentence(self) -> str:
        """What is deleted, in words."""
        words = _("events before %(before)s") if self.life_cycle else _("uses and refusals before %(before)s")
        words = words if self.is_done else _("deleting %(events)s") % {"events": words}
        return words % {"before": f"{self.before:%Y-%m-%d %H:%M:%S %Z}"}


def prunings() -> list[Pruning]:
    """Return what the log says of events that were taken out of it."""
    events = AuditEvent.objects.using(router.db_for_write(AuditEvent)).filter(event=AuditEvent.Event.PRUNED)
    details = events.values_list("detail", flat=True)
    return [pruning for detail in details if (pruning := Pruning.read(str(detail))) is not None]


def prunable(before: datetime, *, life_cycle: bool = False) -> QuerySet[AuditEvent]:
    """Return the events that `prune` would delete."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.using(router.db_for_write(AuditEvent)).filter(at__lt=before)
    return events if life_cycle else events.filter(event__in=TRAFFIC)


def prune(
    before: datetime,
    *,
    life_cycle: bool = False,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Delete the uses and refusals from before that time, and with `life_cycle` all other events too.

    Drops whole months first, where the log is partitioned and the database user may. Deletes the rest in batches,
    each a transaction of its own, tells `progress` how many are gone, and returns their number. The log says so before
    the first goes and, also when the work is interrupted, how many went.
    """
    # People read whole seconds, and no row may be gone that the event does not speak of.
    before = before.replace(microsecond=0)
    pruning, dropped = Pruning(before, life_cycle), 0
    if partitions.is_allowed():
        for _, count in drop_months(before, life_cycle=life_cycle):
            dropped += count
            if progress is not None:
                progress(dropped)
    events = prunable(before, life_cycle=life_cycle)
    remaining, deleted = events, 0
    try:
        while (batch := _oldest(remaining, batch_size))["until"] is not None:
            started = monotonic()
            if not deleted:
                pruning.announce()
            deleted += remaining.filter(at__lte=batch["until"], pk__range=(batch["first"], batch["last"])).delete()[0]
            # What is deleted stays in PostgreSQL's index until it is vacuumed: the next batch begins behind it.
            remaining = events.filter(at__gte=batch["until"])
            if progress is not None:
                progress(dropped + deleted)
            # SQLite has one writer at a time, and whoever waits for its turn only looks now and then: leave
            # the requests, which write too, as much time as this batch has taken.
            sleep(monotonic() - started)
    finally:
        pruning.conclude(deleted)
    return dropped + deleted


def droppable(before: datetime) -> list[Partition]:
    """Return the partitions that hold only events from before that time, the oldest first, but for the first of all."""
    return [
        partition for partition in partitions.present()
        if partition.since is not None and partition.until is not None and partition.until <= before
    ]  # fmt: skip


def drop_months(
    before: datetime, *, life_cycle: bool = False, patience: float = partitions.PATIENCE
) -> Iterator[tuple[Partition, int]]:
    """Drop the log's partitions of whole months before that time; yield each with how many of its events went.

    As with `prune`, what was done to keys is kept unless `life_cycle`, and the log gets an event that says so.
    Raises PartitionError when the log cannot be changed within `patience` seconds, or not by this database user.
    """
    kinds = None if life_cycle else TRAFFIC
    while droppable(before) and partitions.gather(patience):
        pass  # An event of those months in the default partition would be in the way.
    for partition in droppable(before):
        pruning = Pruning(partition.until or before, life_cycle)
        count = partitions.drop(partition, kinds, pruning.conclude, patience)
        if count is not None:
            yield partition, count


def _oldest(events: QuerySet[AuditEvent], count: int) -> dict[str, Any]:
    """Return the range of primary keys that the oldest events have, and the time of the last of them.

    A range is deleted ten times as fast as the same number of single rows.
    """
    return events.order_by("at")[:count].aggregate(first=Min("pk"), last=Max("pk"), until=Max("at"))
