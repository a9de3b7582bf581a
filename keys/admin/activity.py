"""What the log says about the keys on a page: each question is one query, however many keys there are.

Every query names the keys and a span of time, which the index `keys_event_key_at` serves.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import Coalesce, TruncDate
from django.utils import timezone

from ..models import AuditEvent

Event = AuditEvent.Event

# How many of one key's rows PostgreSQL counts in a fraction of a second.
COUNTED = 100_000
# How many of a key's latest requests tell where it comes from and what it calls.
SAMPLE = 1000


@dataclass
class Day:
    """The requests of one key on one day."""

    day: date
    allowed: int = 0
    refused: int = 0


@dataclass
class Recent:
    """What one key did in the last days, the oldest day first."""

    days: list[Day]
    last_used: datetime | None = None

    @property
    def uses(self) -> int:
        return sum(day.allowed for day in self.days)

    @property
    def refusals(self) -> int:
        return sum(day.refused for day in self.days)


def start_of(day: date) -> datetime:
    """Return the moment at which a day begins in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def first_day(key: int, days: int) -> date:
    """Return the first of the last days; a later one for a key so busy that these are more rows than are counted."""
    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    latest = AuditEvent.objects.filter(api_key=key, at__gte=start_of(first)).order_by("-at")
    for at in latest.values_list("at", flat=True)[COUNTED : COUNTED + 1]:
        return min(timezone.localdate(at) + timedelta(days=1), today)
    return first


def by_day(keys: Collection[int], first: date) -> dict[int, Recent]:
    """Return the uses and refusals of each key on each day from the first until today, in one query."""
    span = [first + timedelta(days=one) for one in range((timezone.localdate() - first).days + 1)]
    recent = {key: Recent([Day(day) for day in span]) for key in keys}
    counted = (
        AuditEvent.objects.filter(api_key__in=keys, at__gte=start_of(first), event__in=[Event.USED, Event.REFUSED])
        .order_by()
        .values("api_key", day=TruncDate("at"))
        .annotate(
            allowed=Count("pk", filter=Q(event=Event.USED)),
            refused=Coalesce(Sum("count", filter=Q(event=Event.REFUSED)), 0),
        )
    )
    for row in counted:
        # A row of a clock that runs ahead belongs to no day that is shown.
        if 0 <= (position := (row["day"] - first).days) < len(span):
            recent[row["api_key"]].days[position] = Day(row["day"], row["allowed"], row["refused"])
    return recent


@dataclass
class Client:
    """One address and program that used a key."""

    address: str | None
    user_agent: str
    uses: int
    last_at: datetime


def clients(keys: Collection[int], since: datetime) -> dict[int, list[Client]]:
    """Return who used each key since that time, the latest first, in one query."""
    found = defaultdict(list)
    used = AuditEvent.objects.filter(api_key__in=keys, at__gte=since, event=Event.USED).order_by()
    groups = used.values("api_key", "address", "user_agent").annotate(uses=Count("pk"), last_at=Max("at"))
    for row in groups.order_by("-last_at"):
        found[row["api_key"]].append(Client(row["address"], row["user_agent"], row["uses"], row["last_at"]))
    return dict(found)


@dataclass
class Sample:
    """Where a key's latest requests came from and what they called, the most frequent first."""

    size: int
    addresses: list[tuple[str, int]] = field(default_factory=list)
    endpoints: list[tuple[str, int]] = field(default_factory=list)


def sample(key: int, since: datetime, most: int = 8) -> Sample:
    """Return the places and endpoints of a key's latest requests: a bounded number of rows, in one query."""
    requests = AuditEvent.objects.filter(api_key=key, at__gte=since, event__in=[Event.USED, Event.REFUSED])
    rows = list(requests.order_by("-at").values_list("address", "method", "endpoint", "path")[:SAMPLE])
    addresses = Counter(address or "-" for address, *_ in rows)
    endpoints = Counter(f"{method} {endpoint or path}" for _, method, endpoint, path in rows)
    return Sample(len(rows), addresses.most_common(most), endpoints.most_common(most))
