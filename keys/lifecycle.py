"""What people do to keys and to the log: make a key, remind of those that need a look, forget old events."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from time import monotonic, sleep
from typing import Any

from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import Max, Min, QuerySet
from django.dispatch import Signal
from django.utils import timezone

from . import audit
from .models import APIKey, AuditEvent

Event = AuditEvent.Event

# Written with each request. The other events tell the lives of the keys, are few, and are kept unless asked for.
TRAFFIC = (Event.USED, Event.REFUSED)
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

    Deletes in batches, each a transaction of its own, tells `progress` how many are gone, and returns their
    number. The log gets an event that says so, also when the work is interrupted.
    """
    events = prunable(before, life_cycle=life_cycle)
    remaining, deleted = events, 0
    try:
        while (batch := _oldest(remaining, batch_size))["until"] is not None:
            started = monotonic()
            deleted += remaining.filter(at__lte=batch["until"], pk__range=(batch["first"], batch["last"])).delete()[0]
            # What is deleted stays in PostgreSQL's index until it is vacuumed: the next batch begins behind it.
            remaining = events.filter(at__gte=batch["until"])
            if progress is not None:
                progress(deleted)
            # SQLite has one writer at a time, and whoever waits for its turn only looks now and then: leave
            # the requests, which write too, as much time as this batch has taken.
            sleep(monotonic() - started)
    finally:
        what = "events" if life_cycle else "uses and refusals"
        audit.record_step(Event.PRUNED, f"{what} before {before:%Y-%m-%d %H:%M:%S %Z}", count=deleted)
    return deleted


def _oldest(events: QuerySet[AuditEvent], count: int) -> dict[str, Any]:
    """Return the range of primary keys that the oldest events have, and the time of the last of them.

    A range is deleted ten times as fast as the same number of single rows.
    """
    return events.order_by("at")[:count].aggregate(first=Min("pk"), last=Max("pk"), until=Max("at"))
