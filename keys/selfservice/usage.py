"""Who used a key lately: read from the log within bounds, however busy the key is."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

from ..audit.reach import reach
from ..audit.reports import READ, bounded, counted
from ..models import APIKey, AuditEvent
from ..models.audit_event import TRAFFIC, place_of

SHOWN = 50


@dataclass(frozen=True)
class Client:
    """One address and program that called one endpoint with a key. `refusals` of its calls were not accepted."""

    address: str | None
    user_agent: str
    endpoint: str
    uses: int
    refusals: int
    last_at: datetime

    @property
    def called(self) -> str:
        """What it called, for people: the endpoint, the host behind a gateway, or the service that asked."""
        return place_of(self.endpoint, "") or self.endpoint


@dataclass(frozen=True)
class Clients:
    """Who used a key in the last `days`, the latest first.

    `since` is the time since which this is complete, `read_since` the same if that is not the whole time. `is_known`:
    the log knows all of the time. `has_more`: there are others, who used it earlier. `was_anothers`: nobody is shown,
    but it was used while it had another owner, or none.
    """

    days: int
    since: datetime
    found: list[Client] = field(default_factory=list)
    read_since: datetime | None = None
    is_known: bool = True
    has_more: bool = False
    was_anothers: bool = False


def clients(key: APIKey, days: int, shown: int = SHOWN) -> Clients:
    """Return who used the key in the last days: at most `shown` lines, from a limited number of rows.

    What was done with it while it was another owner's is not theirs to see who has it now.
    """
    since, known = timezone.now() - timedelta(days=days), reach()
    of_key = AuditEvent.objects.written().filter(api_key=key.pk, event__in=TRAFFIC)
    events = of_key.filter(owner=key.owner_ref)
    read_since = bounded(events, since, READ)
    lines = counted(events.filter(at__gte=read_since), "address", "user_agent", "endpoint")
    found = [Client(**line) for line in lines.order_by("-last_at", "endpoint")[: shown + 1]]
    return Clients(
        days,
        read_since,
        found[:shown],
        read_since if read_since > since else None,
        known.knows(since) or known.knows(key.created_at),
        len(found) > shown,
        not found and of_key.filter(at__gte=since).exists(),
    )
