"""What the log says about the keys on a page: few queries, however many keys there are.

Each query names the keys and a span of time, which the index `keys_event_key_at` serves, and reads a limited number of
rows, however busy the keys are.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

from django.db.models import Count, Max, OuterRef, Q, Subquery
from django.db.models.functions import TruncDate
from django.utils import timezone

from .. import moments
from ..audit.reports import REFUSALS, USES
from ..models import APIKey, AuditEvent
from ..models.audit_event import TRAFFIC

Event = AuditEvent.Event

COUNTED = 100_000  # rows of one key, which PostgreSQL counts in a fraction of a second
SAMPLE = 1000  # latest requests of a key, to tell where they come from and what they call


@dataclass
class Day:
    """The requests of one key on one day; only the latest if `has_more`."""

    day: date
    allowed: int = 0
    refused: int = 0
    has_more: bool = False


@dataclass
class Recent:
    """What one key did in the last days, the oldest day first."""

    days: list[Day]

    @property
    def uses(self) -> int:
        return sum(day.allowed for day in self.days)

    @property
    def refusals(self) -> int:
        return sum(day.refused for day in self.days)

    @property
    def has_more(self) -> bool:
        return any(day.has_more for day in self.days)


def first_day(days: int) -> date:
    """Return the first of the last `days` days, the last of which is today."""
    return moments.today() - timedelta(days=days - 1)


def by_day(keys: Collection[int], days: int, most: int) -> dict[int, Recent]:
    """Return each key's uses and refusals on each of the last days, from at most `most` rows for each key and day."""
    first = first_day(days)
    span = [first + timedelta(days=one) for one in range(days + 1)]
    rows = BoundedRows(keys, [moments.start_of(day) for day in span], most)
    recent = {
        key: Recent([Day(day, has_more=(key, position) in rows.cuts) for position, day in enumerate(span[:-1])])
        for key in keys
    }
    counted = (
        AuditEvent.objects.written()
        .filter(rows.condition, event__in=TRAFFIC)
        .order_by()
        .values("api_key", day=TruncDate("at"))
        .annotate(allowed=USES, refused=REFUSALS)
    )
    for row in counted:
        # If clocks change at midnight, a row of the first hour may belong to a day that is not shown.
        if 0 <= (position := (row["day"] - first).days) < days:
            day = recent[row["api_key"]].days[position]
            day.allowed, day.refused = row["allowed"], row["refused"]
    return recent


@dataclass
class Client:
    """One address and user agent that used a key."""

    address: str | None
    user_agent: str
    uses: int
    last_at: datetime


@dataclass
class Clients:
    """Who used a key, the latest first; since `read_since`, if not all of its requests were read."""

    found: list[Client] = field(default_factory=list)
    read_since: datetime | None = None


def clients(keys: Collection[int], days: int) -> dict[int, Clients]:
    """Return who used each key in the last days. The more keys, the fewer rows are read of each."""
    now = timezone.now()
    edges = [now - timedelta(days=days), now + timedelta(days=1)]
    rows = BoundedRows(keys, edges, COUNTED // max(len(keys), 1))
    who = {key: Clients(read_since=rows.cuts.get((key, 0))) for key in keys}
    used = AuditEvent.objects.written().filter(rows.condition, event=Event.USED).order_by()
    groups = used.values("api_key", "address", "user_agent").annotate(uses=Count("pk"), last_at=Max("at"))
    for row in groups.order_by("-last_at"):
        who[row["api_key"]].found.append(Client(row["address"], row["user_agent"], row["uses"], row["last_at"]))
    return who


@dataclass
class Sample:
    """Where a key's latest requests came from and what they called, the most frequent first."""

    size: int
    addresses: list[tuple[str, int]] = field(default_factory=list)
    endpoints: list[tuple[str, int]] = field(default_factory=list)


def sample(key: int, since: datetime, most: int = 8) -> Sample:
    """Return the addresses and endpoints of a key's latest requests."""
    requests = AuditEvent.objects.written().filter(api_key=key, at__gte=since, event__in=TRAFFIC)
    rows = list(requests.order_by("-at").values_list("address", "method", "endpoint", "path")[:SAMPLE])
    addresses = Counter(address or "-" for address, *_ in rows)
    endpoints = Counter(f"{method} {endpoint or path}" for _, method, endpoint, path in rows)
    return Sample(len(rows), addresses.most_common(most), endpoints.most_common(most))


class BoundedRows:
    """The rows of some keys within some spans of time: for each key and span at most `most`, the latest.

    `edges` are the borders of the spans. `cuts` holds, by key and number of the span, the time from which rows are
    read if there are more of them. `condition` selects all rows that are read.
    """

    def __init__(self, keys: Collection[int], edges: Sequence[datetime], most: int) -> None:
        self.edges = edges
        self.cuts = dict(self._cuts(keys, most))
        busy = {key for key, _ in self.cuts}
        self.condition = Q(api_key__in={*keys} - busy, at__gte=edges[0], at__lt=edges[-1])
        for key in sorted(busy):
            for begin, end in self._ranges(key):
                self.condition |= Q(api_key=key, at__gte=begin, at__lt=end)

    def _cuts(self, keys: Collection[int], most: int) -> Iterator[tuple[tuple[int, int], datetime]]:
        """Yield the cuts, from one query that reads only the index."""
        spans = list(pairwise(self.edges))
        of_key = AuditEvent.objects.filter(api_key=OuterRef("pk")).order_by("-at").values("at")
        cuts = {
            f"cut_{number}": Subquery(of_key.filter(at__gte=begin, at__lt=end)[most : most + 1])
            for number, (begin, end) in enumerate(spans)
        }
        for key, *times in APIKey.objects.filter(pk__in=keys).order_by().annotate(**cuts).values_list("pk", *cuts):
            for number, at in enumerate(times):
                if at is not None:
                    yield (key, number), moments.after(at, timedelta(microseconds=1))

    def _ranges(self, key: int) -> Iterator[tuple[datetime, datetime]]:
        """Yield the ranges of time that are read of a key. Spans that are read as a whole join what follows them."""
        begin = self.edges[0]
        for number, edge in enumerate(self.edges[:-1]):
            if (cut := self.cuts.get((key, number))) is not None:
                if begin < edge:
                    yield begin, edge
                begin = cut
        yield begin, self.edges[-1]
