"""The filters of the audit log.

`KeyFilter` and `WhenFilter` use the log's two indexes. The others read rows; `AuditChangeList` limits how many.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from .. import moments
from ..endpoints import environment_keyrings
from ..models import APIKey, AuditEvent, owners
from ..models.audit_event import GATEWAY, INTROSPECTION, WIDTHS, logged_name
from ..redaction import printable
from .finding import row_id
from .pages import keys_shown

Events = QuerySet[AuditEvent]
Reason = AuditEvent.Reason

# With more keys than this, the filter offers only the key of the URL; the search finds the others.
KEYS_OFFERED = 15
# The APIs that the latest rows name.
APIS_OFFERED, LATEST_ROWS = 15, 1000


class KeyFilter(admin.SimpleListFilter):
    """One key, by its id, with the index `keys_event_key_at`."""

    title = _("key")
    parameter_name = "key"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        shown = keys_shown(model_admin.admin_site, request)
        keys = list(shown[: KEYS_OFFERED + 1])
        chosen = row_id(request.GET.get(self.parameter_name, ""))
        if len(keys) > KEYS_OFFERED:
            keys = list(shown.filter(pk__in=[] if chosen is None else [chosen]))
        offered = {str(key.pk): str(key) for key in keys}
        if chosen is not None and str(chosen) not in offered:
            event = model_admin.get_queryset(request).latest_of("api_key_id", chosen).first()
            # The log keeps a deleted key's name.
            offered[str(chosen)] = event.key_name if event is not None else str(chosen)
        return list(offered.items())

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        chosen = row_id(self.value() or "")
        return queryset if chosen is None else queryset.filter(api_key=chosen)


class EndpointFilter(admin.SimpleListFilter):
    """One API, or one host behind a gateway. It offers those that keys were used at lately; a URL may name any."""

    title = _("API")
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        latest = model_admin.get_queryset(request).order_by("-at", "-id").values_list("endpoint", "key_name")
        # Without the hosts that strangers name.
        called = Counter(endpoint for endpoint, key in latest[:LATEST_ROWS] if endpoint and key)
        offered = sorted(endpoint for endpoint, _ in called.most_common(APIS_OFFERED))
        chosen = request.GET.get(self.parameter_name, "")
        return [(name, name) for name in dict.fromkeys([*offered, *([chosen] if chosen else [])])]

    def queryset(self, request: HttpRequest, queryset: Any) -> Events:
        chosen = self.value()
        found: Events = queryset.of_endpoint(chosen) if chosen else queryset
        return found


class WhenFilter(admin.SimpleListFilter):
    """One or several days, with the index `keys_event_at`. A URL may name any day: `?when=2026-01-31`."""

    title = _("day")
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        offered = [("today", _("today")), ("yesterday", _("yesterday")),
                   ("7", _("the last 7 days")), ("30", _("the last 30 days"))]  # fmt: skip
        chosen = self._day(request.GET.get(self.parameter_name, ""))
        return [*offered, *([(chosen.isoformat(), date_format(chosen))] if chosen is not None else [])]

    @staticmethod
    def _day(text: str) -> date | None:
        try:
            return parse_date(text)
        except ValueError:
            return None

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        today, chosen = moments.today(), self.value() or ""
        if chosen in {"7", "30"}:
            return queryset.filter(at__gte=moments.start_of(today - timedelta(days=int(chosen) - 1)))
        day = {"today": today, "yesterday": today - timedelta(days=1)}.get(chosen) or self._day(chosen)
        if day is None or not date.min < day < date.max:
            return queryset
        return queryset.filter(at__gte=moments.start_of(day), at__lt=moments.start_of(day + timedelta(days=1)))


class ReasonFilter(admin.ChoicesFieldListFilter):
    """Why a key was refused. The empty reason is no choice."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        # Nobody is refused with an owner where keys have none, but in an old log.
        hidden = {"", "" if owners.are_on() else str(Reason.OWNER.label)}
        return (one for one in super().choices(changelist) if one["selected"] or str(one["display"]) not in hidden)


class StatusFilter(admin.SimpleListFilter):
    """The status of the answer."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("2", _("2xx success")),
            ("3", _("3xx redirect")),
            ("4", _("4xx refused or wrong")),
            ("5", _("5xx server error")),
            ("none", _("no answer")),
        ]

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        if (chosen := self.value()) == "none":
            return queryset.filter(event=AuditEvent.Event.USED, status=None)
        if chosen in {"2", "3", "4", "5"}:
            return queryset.filter(status__gte=int(chosen) * 100, status__lt=int(chosen) * 100 + 100)
        return queryset


def matching(text: str, refs: Collection[str] = ()) -> tuple[Q, bool]:
    """Return the condition for a text in the search box, and whether an index finds it.

    The name or prefix of a key matches that key, and `env:VARIABLE` that variable. Other texts match exactly or as
    a prefix, and the owners with the references `refs`. A host behind a gateway matches with and without a path.
    """
    written = printable(text)
    if text in {ring.name for _, ring in environment_keyrings()}:
        return Q(api_key=None, key_name=logged_name(text)), True
    keys = APIKey.objects.filter(Q(name=text) | Q(prefix__iexact=text, prefix__gt="")).values_list("pk", flat=True)
    if ids := list(keys):
        return Q(api_key__in=ids), True
    if text.startswith("/"):
        return Q(path__startswith=written), False
    if text.startswith((GATEWAY, INTROSPECTION)):
        return Q(endpoint__startswith=written[: WIDTHS["endpoint"]]), False
    host, slash, path = written.partition("/")
    condition = Q(endpoint__istartswith=(GATEWAY + host)[: WIDTHS["endpoint"]])
    if slash:
        condition &= Q(path__startswith=slash + path)
    condition |= Q(key_name__startswith=written) | Q(request_id__startswith=written)
    condition |= Q(key_prefix__istartswith=text)
    if refs:
        condition |= Q(owner__in=refs)
    if set(text) <= set("0123456789abcdefABCDEF.:"):
        condition |= Q(address__startswith=text.lower())
    return condition, False
