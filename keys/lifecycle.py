"""What people do to keys and to the log: make a key, remind of those that need a look, forget old events."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from time import monotonic, sleep
from typing import Any

from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Max, Min, QuerySet
from django.dispatch import Signal
from django.utils import timezone

from . import audit, partitioning
from .events import TRAFFIC
from .models import APIKey, AuditEvent
from .partitions import Partition, partitions

BATCH_SIZE = 2000


def create(
    name: str,
    *,
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    allowed_ips: Sequence[str] = (),
    rate: str = "",
) -> APIKey:
    """Make a key and return it, with its secret. Without `scopes` it gets `KEYS["DEFAULT_SCOPES"]`.

    Raises ValidationError, for a name that is empty or too long, and an expiry in the past, too.
    """
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": f"{expires_at:%Y-%m-%d %H:%M %Z} is in the past."})
    key = APIKey(name=name.strip(), expires_at=expires_at, allowed_ips=list(allowed_ips), rate=rate)
    if scopes is not None:
        key.scopes = list(scopes)
    key.full_clean()
    key.save()
    return key


def remind(signal: Signal, keys: Iterable[APIKey]) -> list[Exception]:
    """Send one of the reminders for each of the keys, and return what its receivers raised."""
    answers = [answer for key in keys for _, answer in signal.send_robust(sender=APIKey, key=key)]
    return [answer for answer in answers if isinstance(answer, Exception)]


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
    # The event names a whole second, and no row may be gone that it does not speak of.
    before = before.replace(microsecond=0)
    dropped = 0
    if partitioning.is_allowed():
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
                audit.record_pruning(before, life_cycle)
            deleted += remaining.filter(at__lte=batch["until"], pk__range=(batch["first"], batch["last"])).delete()[0]
            # What is deleted stays in PostgreSQL's index until it is vacuumed: the next batch begins behind it.
            remaining = events.filter(at__gte=batch["until"])
            if progress is not None:
                progress(dropped + deleted)
            # SQLite has one writer at a time, and whoever waits for its turn only looks now and then: leave
            # the requests, which write too, as much time as this batch has taken.
            sleep(monotonic() - started)
    finally:
        audit.record_pruning(before, life_cycle, deleted)
    return dropped + deleted


def droppable(before: datetime) -> list[Partition]:
    """Return the partitions that hold only events from before that time, the oldest first, but for the first of all."""
    return [
        partition for partition in partitions()
        if partition.since is not None and partition.until is not None and partition.until <= before
    ]  # fmt: skip


def drop_months(
    before: datetime, *, life_cycle: bool = False, patience: float = partitioning.PATIENCE
) -> Iterator[tuple[Partition, int]]:
    """Drop the log's partitions of whole months before that time; yield each with how many of its events went.

    As with `prune`, what was done to keys is kept unless `life_cycle`, and the log gets an event that says so.
    Raises PartitionError when the log cannot be changed within `patience` seconds, or not by this database user.
    """
    kinds = None if life_cycle else TRAFFIC
    while droppable(before) and partitioning.gather(patience):
        pass  # An event of those months in the default partition would be in the way.
    for partition in droppable(before):
        record = partial(audit.record_pruning, partition.until or before, life_cycle)
        count = partitioning.drop(partition, kinds, record, patience)
        if count is not None:
            yield partition, count


def _oldest(events: QuerySet[AuditEvent], count: int) -> dict[str, Any]:
    """Return the range of primary keys that the oldest events have, and the time of the last of them.

    A range is deleted ten times as fast as the same number of single rows.
    """
    return events.order_by("at")[:count].aggregate(first=Min("pk"), last=Max("pk"), until=Max("at"))
