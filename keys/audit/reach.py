"""How far back the audit log reaches: what came before, no report knows, and so none may say "never" of it.

Retention has taken the rows, as the log itself says; or there were none, as of a key that is older than the log.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import moments
from ..models import AuditEvent
from .retention import Pruning

# No row is older than this app: one that says so has the time of a dead clock, and tells nothing of the time since.
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
# How much later than the creation of a key its first row may be.
SLACK = timedelta(minutes=1)
LATELY = timedelta(days=40)
AHEAD = timedelta(hours=1)  # by so much clocks may differ


@dataclass(frozen=True)
class Reach:
    """The time since which the log knows each use of a key; None if it is empty. `is_pruned`: retention took more."""

    since: datetime | None
    is_pruned: bool = False

    def knows(self, moment: datetime) -> bool:
        """Tell whether the log knows the uses of keys since that moment."""
        return self.since is not None and moments.instant(self.since) - SLACK <= moments.instant(moment)

    def older_keys(self) -> Q:
        """Return the condition of the keys that are older than what the log knows."""
        return Q(created_at__lt=moments.after(self.since, -SLACK)) if self.since is not None else Q()

    def last_use(self, last_used: datetime | None) -> datetime | None:
        """Return a key's last use on record; None if there may have been a later one, which the log has lost.

        One with the time of a dead clock is returned: nobody knows when it was.
        """
        is_told = last_used is not None and (has_dead_clock(last_used) or self.knows(last_used))
        return last_used if is_told else None

    def unused(self, made: datetime) -> str:
        """Return in words that no use is on record of what was made at that time."""
        return _("never") if self.knows(made) else self.not_since

    @property
    def not_since(self) -> str:
        """The same of what may be older than the log."""
        if self.since is None:
            return _("not known: the log is empty")
        return _("not since %(date)s, where the log begins") % {"date": day(self.since)}


def has_dead_clock(moment: datetime) -> bool:
    """Tell whether no event can have been at that time."""
    return moments.instant(moment) < FIRST


def reach() -> Reach:
    """Return how far back the log reaches now. Reads few rows, however many there are."""
    begins, taken = _begins(), pruned_before()
    if begins is None or taken is None or moments.instant(taken) <= moments.instant(begins):
        return Reach(begins)
    return Reach(taken, is_pruned=True)


def _begins() -> datetime | None:
    first = moments.kept(FIRST)
    oldest = AuditEvent.objects.written().filter(at__gte=first).order_by("at").values_list("at", flat=True)
    begins: datetime | None = oldest.first()
    return begins


def pruned_before() -> datetime | None:
    """Return the time before which retention has taken uses and refusals; None if it never has."""
    # Not ordered, as PostgreSQL would read the log by its times to find them: they are life-cycle events without a key,
    # which an index holds. What is deleted is older than its deletion, so one found says which older ones to read.
    prunings = AuditEvent.objects.written().filter(method="", api_key=None, event=AuditEvent.Event.PRUNED).order_by()
    lately = moments.after(timezone.now(), -LATELY)
    latest, older = _latest(prunings.filter(at__gte=lately)), prunings.filter(at__lt=lately)
    if latest is not None and moments.instant(latest) >= moments.instant(lately):
        return latest
    earlier = _latest(older if latest is None else older.filter(at__gte=latest))
    return max(filter(None, (latest, earlier)), key=moments.instant, default=None)


def _latest(events: QuerySet[AuditEvent]) -> datetime | None:
    read = (Pruning.read(str(detail)) for detail in events.values_list("detail", flat=True))
    said = [moments.kept(pruning.before) for pruning in read if pruning is not None]
    return max(said, key=moments.instant, default=None)


def ahead() -> int:
    """Return how many events have a time that is yet to come: a clock was wrong, and no retention reaches them."""
    return int(AuditEvent.objects.written().filter(at__gt=moments.after(timezone.now(), AHEAD)).count())


def day(moment: datetime) -> str:
    """Return the day of the moment, where people read it."""
    return f"{moments.local(moment):%Y-%m-%d}"
