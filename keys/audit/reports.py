"""What the audit log says about keys: who used what from where, and whether an old key may go."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import environment
from ..models import APIKey, AuditEvent
from ..models.audit_event import TRAFFIC
from ..redaction import printable

Event = AuditEvent.Event
_USED = Q(event=Event.USED)

# As many rows as PostgreSQL reads and groups in some tenths of a second.
READ = 200_000
# Beyond this many "how often" no longer matters.
MANY = 10_000
# A replaced key that was not used for this long is taken to be forgotten by its clients; and one that was not used
# since it was replaced, this long after: a client may be a job that runs once a day.
QUIET, SETTLED = timedelta(days=7), timedelta(days=1)
# The advice is to replace a key after 90 to 180 days.
OLD, OVERDUE = timedelta(days=90), timedelta(days=180)


@dataclass(frozen=True)
class Usage:
    """What one client did with one key on one path: one line of the usage report.

    `uses` were let in, and `died` of them have no outcome (the worker died in the view, or is still in it);
    `refusals` were not. `last_at` is the latest of both, `last_used_at` the latest use. `key_name` is
    `env:VARIABLE` for a key from the environment and empty for strangers.
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


def usage(*, since: datetime, key: APIKey | str | None = None) -> list[Usage]:
    """Return who used what, from where, since that time: by key, the latest use first.

    `key` narrows the report to one key, or by text to all keys of that name or prefix, or to `env:VARIABLE`.
    They need not exist any more: the log keeps the name and the prefix of deleted keys.
    """
    columns = ("key_name", "key_prefix", "endpoint", "path", "address", "user_agent")
    lines = _counted(_events(key).filter(at__gte=since), *columns)
    lines = lines.annotate(died=Count("pk", filter=_USED & Q(status=None)))
    return [Usage(**line) for line in lines.order_by("key_name", "key_prefix", "-last_at", "path")]


@dataclass(frozen=True)
class ApiUsage:
    """What came from one address with one key to one API: less than a `Usage`, so that there are fewer of them.

    `key_id` is None for keys from the environment and for strangers. `one_path` is one of the paths that were called.
    The other fields are those of `Usage`.
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


def api_usage(*, since: datetime, key: APIKey | str | None = None) -> tuple[list[ApiUsage], datetime]:
    """Return which key was used on which API from where, the latest first, and the time from which on that is all.

    It is later than `since` where there is more on record than is read while somebody waits for a page. `key` is
    that of `usage`.
    """
    events = _events(key)
    read_since = bounded(events, since, READ)
    columns = ("key_name", "key_prefix", "endpoint", "address")
    lines = _counted(events.filter(at__gte=read_since), *columns, key_id=F("api_key")).annotate(one_path=Min("path"))
    return [ApiUsage(**line) for line in lines.order_by("-last_at")], read_since


def bounded(events: QuerySet[AuditEvent], since: datetime, most: int) -> datetime:
    """Return a time since which these are at most so many events: the given one or, where they are more, a later one.

    An index finds it if it serves the events in the order of their time.
    """
    latest = events.filter(at__gte=since).order_by("-at").values_list("at", flat=True)
    for at in latest[most : most + 1]:
        return at + timedelta(microseconds=1)
    return since


def _events(key: APIKey | str | None) -> QuerySet[AuditEvent]:
    """Return what is on record of a key, by the index that knows it."""
    events: QuerySet[AuditEvent] = AuditEvent.objects.all()
    if isinstance(key, APIKey):
        return events.filter(api_key=key.pk)
    if key is not None and key.startswith(environment.PREFIX):
        return events.filter(api_key=None, key_name=printable(key))
    if key is not None:
        return events.filter(Q(key_name=printable(key)) | Q(key_prefix=key, key_prefix__gt=""))
    return events


def _counted(events: QuerySet[AuditEvent], *columns: str, **renamed: F) -> QuerySet[Any, dict[str, Any]]:
    """Return a line for each combination of the columns, with its uses and refusals."""
    groups = events.filter(event__in=TRAFFIC).order_by().values(*columns, **renamed)
    lines: QuerySet[Any, dict[str, Any]] = groups.annotate(
        uses=Count("pk", filter=_USED),
        refusals=Coalesce(Sum("count", filter=Q(event=Event.REFUSED)), 0),
        last_at=Max("at"),
        last_used_at=Max("at", filter=_USED),
    )
    return lines


def expiring(within: timedelta) -> QuerySet[APIKey]:
    """Return the keys that are accepted now and will not be any more when that time has passed, with `last_used`."""
    return APIKey.objects.with_last_used().accepted().filter(expires_at__lte=timezone.now() + within)


def unused(period: timedelta) -> QuerySet[APIKey]:
    """Return the keys that are accepted, are older than the period and were not used in it, with `last_used`."""
    since = timezone.now() - period
    return idle(since).filter(created_at__lte=since)


def idle(since: datetime) -> QuerySet[APIKey]:
    """Return the keys that are accepted, old or new, and were not used since that time, with `last_used`."""
    uses = AuditEvent.objects.filter(api_key=OuterRef("pk"), event=Event.USED, at__gt=since)
    return APIKey.objects.with_last_used().accepted().filter(~Exists(uses))


def age_mark(key: APIKey) -> str:
    """Return `old` for a key of more than 90 days, `overdue` for one of more than 180, else nothing.

    Nor is a key marked that is refused anyway: nobody needs to replace it.
    """
    age = timezone.now() - key.created_at
    if key.objection or age <= OLD:
        return ""
    return "overdue" if age > OVERDUE else "old"


@dataclass(frozen=True)
class Retirement:
    """Whether a key that has been replaced is still in use. `replaced_at` is None for one that has not been.

    `uses_since` is counted no further than to one more than `MANY`.
    """

    replaced_at: datetime | None
    uses_since: int
    last_used_at: datetime | None
    last_address: str | None

    @property
    def is_safe(self) -> bool:
        """Whether the key was replaced and its clients use it no more: not for a week, or for a day not once since."""
        if self.replaced_at is None:
            return False
        now = timezone.now()
        is_quiet = self.last_used_at is None or now - self.last_used_at >= QUIET
        return is_quiet or (not self.uses_since and now - self.replaced_at >= SETTLED)

    @property
    def sentence(self) -> str:
        """The report in words, for the admin and the command."""
        words = {
            "address": self.last_address or _("an unknown address"),
            "used": ago(self.last_used_at) if self.last_used_at else "",
            "replaced": ago(self.replaced_at) if self.replaced_at else "",
            "times": self._times(),
        }
        return self._template() % words

    def _times(self) -> str:
        if self.uses_since > MANY:
            return _("more than %(number)d times") % {"number": MANY}
        return ngettext("once", "%(number)d times", self.uses_since) % {"number": self.uses_since}

    def _template(self) -> str:
        if self.replaced_at is None:
            if self.last_used_at is None:
                return _("Not replaced by a successor; no use on record.")
            return _("Not replaced by a successor; last used %(used)s from %(address)s.")
        if not self.uses_since and not self.is_safe:
            return _(
                "Last used %(used)s from %(address)s, before its successor was made %(replaced)s:"
                " not yet safe to deactivate."
            )
        if not self.uses_since:
            return _("Not used since its successor was made %(replaced)s: safe to deactivate.")
        if self.is_safe:
            return _(
                "Last used %(used)s from %(address)s, %(times)s since its successor was made %(replaced)s:"
                " safe to deactivate."
            )
        return _(
            "Last used %(used)s from %(address)s, %(times)s since its successor was made %(replaced)s:"
            " not yet safe to deactivate."
        )


def retirement(key: APIKey) -> Retirement:
    """Return when and from where the key was last used, and how often since its successor exists."""
    uses = AuditEvent.objects.latest_of("api_key_id", key.pk).filter(event=Event.USED)
    last = uses.values_list("at", "address").first() or (None, None)
    replaced_at = key.replaced_by.created_at if key.replaced_by is not None else None
    uses_since = uses.filter(at__gte=replaced_at)[: MANY + 1].count() if replaced_at is not None else 0
    return Retirement(replaced_at, uses_since, *last)


def ago(moment: datetime) -> str:
    """Return a time as people say it: `3 minutes ago`, `just now`, `13 days from now`."""
    if abs(timezone.now() - moment) < timedelta(seconds=1):
        return _("just now")
    return str(naturaltime(moment)).replace("\xa0", " ")
