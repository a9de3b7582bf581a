"""Reports from the audit log: who used which key from where, and whether a replaced key can be deactivated."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import environment, moments
from ..models import APIKey, AuditEvent, owners
from ..models.audit_event import GATEWAY, INTROSPECTION, TRAFFIC, AuditEventQuerySet, place_of
from .reach import FIRST, SLACK, Reach, day, has_dead_clock, reach

Event = AuditEvent.Event
_USED = Q(event=Event.USED)
# What any line that is counted from the log says of its events.
USES = Count("pk", filter=_USED)
REFUSALS = Coalesce(Sum("count", filter=Q(event=Event.REFUSED)), 0)
_LAST_USE = Max("at", filter=_USED)

READ = 200_000  # rows to read for a page: PostgreSQL groups them in some tenths of a second
MANY = 10_000  # uses are counted no further
# A replaced key is out of use after QUIET without a use, or after SETTLED (for daily jobs) without one since then.
QUIET, SETTLED = timedelta(days=7), timedelta(days=1)
OLD, OVERDUE = timedelta(days=90), timedelta(days=180)  # keys should be rotated after 90 to 180 days


@dataclass(frozen=True)
class Usage:
    """What one client did with one key on one path: one line of the usage report.

    `uses` were accepted; `died` of them have no outcome (the worker died in the view, or the view still runs).
    `refusals` were not accepted. `last_at` is the latest of both, `last_used_at` the latest use. `key_name` is
    `env:VARIABLE` for a key from the environment and empty for unknown keys. `owner` is whose key it was then; empty
    where keys have no owners.
    """

    key_name: str
    key_prefix: str
    endpoint: str
    path: str
    address: str | None
    user_agent: str
    uses: int
    died: int
    refusals: int
    last_at: datetime
    last_used_at: datetime | None
    owner: str = ""

    @property
    def came_from(self) -> str:
        """Its address for people; empty if it is unknown."""
        return _came_from(self.address, self.path)

    @property
    def place(self) -> str:
        """Where the key was presented, for people: the path, at which host of a gateway, or to which service."""
        return place_of(self.endpoint, self.path)


def _came_from(address: str | None, path: str) -> str:
    # Only a row that counts refusals from many networks names no path.
    return address or ("" if path else _("many networks"))


def usage(*, since: datetime, key: APIKey | str | None = None, owner: str = "", endpoint: str = "") -> list[Usage]:
    """Return who used what, from where, since that time: by key, the latest use first.

    `key` limits the report to one key or, as text, to all keys of that name or prefix, or to `env:VARIABLE`; `owner`
    to what was used in the name of the owner with that reference; `endpoint` to one API, such as
    `gateway:orders.example`. Deleted keys are included: the log keeps their name, prefix and owner.
    """
    columns = ["key_name", "key_prefix", "endpoint", "path", "address", "user_agent"]
    columns += ["owner"] if owners.are_on() else []
    events = _events(key, owner).filter(at__gte=since)
    lines = counted(events.of_endpoint(endpoint) if endpoint else events, *columns)
    lines = lines.annotate(last_used_at=_LAST_USE, died=Count("pk", filter=_USED & Q(status=None)))
    return [Usage(**line) for line in lines.order_by("key_name", "key_prefix", "-last_at", "path")]


@dataclass(frozen=True)
class ApiUsage:
    """The calls from one address with one key to one API: coarser than a `Usage`, so there are fewer lines.

    `key_id` is None for keys from the environment and unknown keys. `one_path` is one of the paths called. The
    other fields are those of `Usage`.
    """

    key_id: int | None
    key_name: str
    key_prefix: str
    endpoint: str
    address: str | None
    one_path: str
    uses: int
    refusals: int
    last_at: datetime
    last_used_at: datetime | None

    @property
    def came_from(self) -> str:
        """Its address for people; empty if it is unknown."""
        return _came_from(self.address, self.one_path)

    @property
    def is_of_other_service(self) -> bool:
        """Whether the endpoint is a host behind a gateway, or a service that asked."""
        return self.endpoint.startswith((GATEWAY, INTROSPECTION))


def api_usage(*, since: datetime, key: APIKey | str | None = None) -> tuple[list[ApiUsage], datetime]:
    """Return which key was used on which API from where, the latest first, and the time since which this is complete.

    It is later than `since` if there are more rows than are read for one page. `key` is as in `usage`.
    """
    events = _events(key)
    read_since = bounded(events, since, READ)
    columns = ("key_name", "key_prefix", "endpoint", "address")
    lines = counted(events.filter(at__gte=read_since), *columns, key_id=F("api_key"))
    lines = lines.annotate(last_used_at=_LAST_USE, one_path=Min("path"))
    return [ApiUsage(**line) for line in lines.order_by("-last_at")], read_since


def bounded(events: QuerySet[AuditEvent], since: datetime, most: int) -> datetime:
    """Return `since`, or a later time since which there are `most` events. Fast with an index in order of time."""
    latest = events.filter(at__gte=since).order_by("-at").values_list("at", flat=True)
    for at in latest[most : most + 1]:
        return moments.after(at, timedelta(microseconds=1))
    return since


def _events(key: APIKey | str | None, owner: str = "") -> AuditEventQuerySet:
    """Return the events of a key, of an owner, or of both, in a query that an index on one of them serves."""
    events: AuditEventQuerySet = AuditEvent.objects.written()
    if owner:
        events = events.of_owner(owner)
    if isinstance(key, APIKey):
        return events.filter(api_key=key.pk)
    if key is not None and key.startswith(environment.PREFIX):
        return events.filter(api_key=None).of_name(key)
    if key is not None:
        # The last condition is for MariaDB, as in `of_name`.
        return events.of_name(key) | events.filter(key_prefix=key, key_prefix__gt="", key_prefix__startswith=key)
    return events


def counted(events: QuerySet[AuditEvent], *columns: str, **renamed: F) -> QuerySet[Any, dict[str, Any]]:
    """Return a line for each combination of the columns: its uses and refusals, and when the latest of them was."""
    groups = events.filter(event__in=TRAFFIC).order_by().values(*columns, **renamed)
    lines: QuerySet[Any, dict[str, Any]] = groups.annotate(uses=USES, refusals=REFUSALS, last_at=Max("at"))
    return lines


def expiring(within: timedelta) -> QuerySet[APIKey]:
    """Return the keys that are accepted now and expire within that time, with `last_used`."""
    return APIKey.objects.with_last_used().accepted().filter(expires_at__lte=timezone.now() + within)


def unused(period: timedelta) -> QuerySet[APIKey]:
    """Return the accepted keys that are older than the period and were not used in it, with `last_used`.

    None, if the log does not reach back so far: then nobody can tell, and `untold` counts them.
    """
    keys = _unused(period)
    return keys if reach().knows(timezone.now() - period) else keys.none()


def untold(period: timedelta) -> int:
    """Return of how many keys the log cannot tell that they were not used in the period, as it knows a part of it."""
    return 0 if reach().knows(timezone.now() - period) else _unused(period).count()


def _unused(period: timedelta) -> QuerySet[APIKey]:
    since = timezone.now() - period
    return idle(since).filter(created_at__lte=since)


def idle(since: datetime) -> QuerySet[APIKey]:
    """Return the accepted keys of any age of which the log holds no use since that time, with `last_used`."""
    uses = AuditEvent.objects.filter(api_key=OuterRef("pk"), event=Event.USED)
    # A use with the time of a dead clock may have been at any time.
    dead = uses.filter(at__lt=moments.kept(FIRST))
    return APIKey.objects.with_last_used().accepted().filter(~Exists(uses.filter(at__gt=since)), ~Exists(dead))


def age_mark(key: APIKey) -> str:
    """Return `old` for an accepted key of more than 90 days, `overdue` for more than 180, else an empty string."""
    age = timezone.now() - key.created_at
    if key.objection or age <= OLD:
        return ""
    return "overdue" if age > OVERDUE else "old"


@dataclass(frozen=True)
class Retirement:
    """Whether a replaced key is in use. `replaced_at` is None without a successor; `uses_since` ends at `MANY` + 1.

    `known_since` is the time since which the log knows its uses; None: since it was made.
    """

    replaced_at: datetime | None
    uses_since: int
    last_used_at: datetime | None
    last_address: str | None
    known_since: datetime | None = field(default=None, compare=False)

    @property
    def is_safe(self) -> bool:
        """Whether the key was replaced and is out of use: no use for a week, or none since, and that for a day.

        A time of which the log does not know is no time without a use.
        """
        if self.replaced_at is None:
            return False
        if self.last_used_at is not None and has_dead_clock(self.last_used_at):
            return False
        now = timezone.now()
        is_quiet = self.last_used_at is None or now - self.last_used_at >= QUIET
        is_settled = not self.uses_since and now - self.replaced_at >= SETTLED
        return (is_quiet and self._is_known(now - QUIET)) or (is_settled and self._is_known(self.replaced_at))

    def _is_known(self, since: datetime) -> bool:
        return self.known_since is None or self.known_since - SLACK <= since

    @property
    def unused(self) -> str:
        """What to say of a key without a use on record: `never`, or since when there was none."""
        if self.known_since is None:
            return _("never")
        return _("not since %(date)s, where the log begins") % {"date": day(self.known_since)}

    @property
    def sentence(self) -> str:
        """The report as a sentence, for the admin and the command."""
        words = {
            "address": self.last_address or _("an unknown address"),
            "used": ago(self.last_used_at) if self.last_used_at else "",
            "replaced": ago(self.replaced_at) if self.replaced_at else "",
            "times": self._times(),
            "begins": day(self.known_since) if self.known_since is not None else "",
        }
        words["since"] = self._since() % words
        return self._template() % words

    def _times(self) -> str:
        if self.uses_since > MANY:
            return _("more than %(number)d times") % {"number": MANY}
        return ngettext("once", "%(number)d times", self.uses_since) % {"number": self.uses_since}

    def _since(self) -> str:
        if self.replaced_at is None or self._is_known(self.replaced_at):
            return _("its successor was made %(replaced)s")
        return _("%(begins)s, where the log begins (its successor was made %(replaced)s)")

    def _template(self) -> str:
        if self.replaced_at is None:
            if self.last_used_at is not None:
                return _("Not replaced by a successor; last used %(used)s from %(address)s.")
            if self.known_since is None:
                return _("Not replaced by a successor; no use on record.")
            return _("Not replaced by a successor; not used since %(begins)s, where the log begins.")
        if not self.uses_since and not self.is_safe and self.last_used_at is not None:
            return _(
                "Last used %(used)s from %(address)s, before its successor was made %(replaced)s:"
                " not yet safe to deactivate."
            )
        if not self.uses_since:
            if self.is_safe:
                return _("Not used since %(since)s: safe to deactivate.")
            return _("Not used since %(since)s: not yet safe to deactivate.")
        if self.is_safe:
            return _("Last used %(used)s from %(address)s, %(times)s since %(since)s: safe to deactivate.")
        return _("Last used %(used)s from %(address)s, %(times)s since %(since)s: not yet safe to deactivate.")


def retirement(key: APIKey, known: Reach | None = None) -> Retirement:
    """Return when and from where the key was last used, and how often since it has a successor.

    `known` is how far back the log reaches, where that has been asked for other keys already.
    """
    known = reach() if known is None else known
    uses = AuditEvent.objects.written().latest_of("api_key_id", key.pk).filter(event=Event.USED)
    last = uses.values_list("at", "address").first() or (None, None)
    if known.last_use(last[0]) is None:
        last = (None, None)
    replaced_at = key.replaced_by.created_at if key.replaced_by is not None else None
    uses_since = 0
    if replaced_at is not None and last[0] is not None:
        uses_since = uses.filter(at__gte=replaced_at)[: MANY + 1].count()
    known_since = None if known.knows(key.created_at) else known.since or timezone.now()
    return Retirement(replaced_at, uses_since, last[0], last[1], known_since)


def ago(moment: datetime) -> str:
    """Return a time relative to now: `3 minutes ago`, `just now`, `13 days from now`."""
    at = moments.instant(moment)
    if abs(moments.instant(timezone.now()) - at) < timedelta(seconds=1):
        return _("just now")
    return str(naturaltime(at)).replace("\xa0", " ")
