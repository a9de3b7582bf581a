"""What the audit log says about keys: who used what from where, and whether an old key may go."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .audit import printable
from .models import APIKey, AuditEvent

Event = AuditEvent.Event

# A replaced key that was not used for this long is taken to be forgotten by its clients.
QUIET = timedelta(days=7)
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
    events = AuditEvent.objects.filter(at__gte=since, event__in=[Event.USED, Event.REFUSED])
    if isinstance(key, APIKey):
        events = events.filter(api_key=key.pk)
    elif key is not None:
        events = events.filter(Q(key_name=printable(key)) | Q(key_prefix=key, key_prefix__gt=""))
    used = Q(event=Event.USED)
    groups = events.order_by().values("key_name", "key_prefix", "endpoint", "path", "address", "user_agent")
    lines = groups.annotate(
        uses=Count("pk", filter=used),
        died=Count("pk", filter=used & Q(status=None)),
        refusals=Coalesce(Sum("count", filter=Q(event=Event.REFUSED)), 0),
        last_at=Max("at"),
        last_used_at=Max("at", filter=used),
    )
    return [Usage(**line) for line in lines.order_by("key_name", "key_prefix", "-last_at", "path")]


def expiring(within: timedelta) -> QuerySet[APIKey]:
    """Return the keys that are accepted now and will not be any more when that time has passed, with `last_used`."""
    now = timezone.now()
    return APIKey.objects.with_last_used().filter(is_active=True, expires_at__gt=now, expires_at__lte=now + within)


def unused(period: timedelta) -> QuerySet[APIKey]:
    """Return the keys that are accepted, are older than the period and were not used in it, with `last_used`."""
    now = timezone.now()
    uses = AuditEvent.objects.filter(api_key=OuterRef("pk"), event=Event.USED, at__gt=now - period)
    accepted = APIKey.objects.with_last_used().filter(Q(expires_at=None) | Q(expires_at__gt=now), is_active=True)
    return accepted.filter(~Exists(uses), created_at__lte=now - period)


def age_mark(key: APIKey) -> str:
    """Return `old` for a key of more than 90 days, `overdue` for one of more than 180, else nothing.

    Nor is a key marked that is refused anyway: nobody needs to replace it.
    """
    age = timezone.now() - key.created_at
    if key.state in {"inactive", "expired"} or age <= OLD:
        return ""
    return "overdue" if age > OVERDUE else "old"


@dataclass(frozen=True)
class Retirement:
    """Whether a key that has been replaced is still in use. `replaced_at` is None for one that has not been."""

    replaced_at: datetime | None
    uses_since: int
    last_used_at: datetime | None
    last_address: str | None

    @property
    def is_safe(self) -> bool:
        """Whether the key was replaced and its clients use it no more: not once since, or not for a week."""
        if self.replaced_at is None:
            return False
        return not self.uses_since or self.last_used_at is None or timezone.now() - self.last_used_at >= QUIET

    @property
    def sentence(self) -> str:
        """The report in words, for the admin and the command."""
        words = {
            "address": self.last_address or _("an unknown address"),
            "used": ago(self.last_used_at) if self.last_used_at else "",
            "replaced": ago(self.replaced_at) if self.replaced_at else "",
            "times": ngettext("once", "%(number)d times", self.uses_since) % {"number": self.uses_since},
        }
        return self._template() % words

    def _template(self) -> str:
        if self.replaced_at is None:
            if self.last_used_at is None:
                return _("Not replaced by a successor; no use on record.")
            return _("Not replaced by a successor; last used %(used)s from %(address)s.")
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
    uses = AuditEvent.objects.filter(api_key=key.pk, event=Event.USED)
    last = uses.order_by("-at").values_list("at", "address").first() or (None, None)
    replaced_at = key.replaced_by.created_at if key.replaced_by is not None else None
    uses_since = uses.filter(at__gte=replaced_at).count() if replaced_at is not None else 0
    return Retirement(replaced_at, uses_since, *last)


def ago(moment: datetime) -> str:
    """Return a time as people say it: `3 minutes ago`, `just now`, `13 days from now`."""
    if abs(timezone.now() - moment) < timedelta(seconds=1):
        return _("just now")
    return str(naturaltime(moment)).replace("\xa0", " ")
