"""How the admin shows a key and an event: columns, badges and words."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import moments
from ..audit.reports import age_mark, ago
from ..audit.retention import Pruning
from ..models import APIKey, AuditEvent
from ..models.api_key import STATES
from . import activity, charts

SPARKLINE_DAYS = 7
A_DAY = 500  # rows counted of each key and day, so that fifty busy keys do not slow down the list
NOTHING = "-"


def badge(kind: str, text: Any, title: str = "") -> SafeString:
    """Return a word on a coloured background; the colour adds no information."""
    return format_html('<span class="keys-badge keys-{}" title="{}">{}</span>', kind, title, text)


def state_badges(key: APIKey) -> SafeString:
    """Return the key's state, and warnings about its age and origin."""
    badges = [badge(key.state, STATES[key.state])]
    if mark := age_mark(key):
        text, title = {
            "old": (_("old"), _("Older than 90 days: rotate it.")),
            "overdue": (_("overdue"), _("Older than 180 days: rotate it now.")),
        }[mark]
        badges.append(badge(mark, text, title))
    if key.typed_by_hand:
        badges.append(badge("typed", _("typed by hand"), _("It may be guessed: rotate it.")))
    return format_html_join(" ", "{}", ((one,) for one in badges))


def scope_list(key: APIKey) -> SafeString:
    return format_html_join(" ", '<code class="keys-scope">{}</code>', ((scope,) for scope in key.scopes))


def time_ago(moment: datetime) -> SafeString:
    """Return a time relative to now, with the exact time as its title."""
    local = moments.local(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"), date_format(local, "DATETIME_FORMAT"), ago(moment),
    )  # fmt: skip


def event_badge(event: AuditEvent) -> SafeString:
    """Return what happened, the reason, and the number of requests that the row counts."""
    words = badge(event.event, event.get_event_display())
    if event.reason:
        words = format_html('{} <span class="keys-reason">{}</span>', words, event.get_reason_display())
    if event.count > 1:
        words = format_html('{} <span class="keys-times">&times;{}</span>', words, event.count)
    return words


def event_subject(event: AuditEvent) -> SafeString:
    """Return the request and its answer, or what a life-cycle event changed."""
    if event.event == AuditEvent.Event.PRUNED and (pruning := Pruning.read(event.detail)) is not None:
        return format_html("{}", pruning.sentence)
    if not event.is_request:
        return format_html("{}", event.detail or "-")
    # The worker died, or the request is still being answered.
    status = event.status if event.status is not None else _("no answer")
    took = "" if event.duration_ms is None else f", {event.duration_ms} ms"
    return format_html('{} {} <span class="keys-answer">→ {}{}</span>', event.method, event.path, status, took)


class KeyChangeList(ChangeList):
    """Adds what the log says about the keys on this page, in two queries for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        recent = activity.by_day([key.pk for key in self.result_list], SPARKLINE_DAYS, A_DAY)
        for key in self.result_list:
            key.recent = recent[key.pk]


class KeyColumns:
    """The columns of the list."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).with_last_used()  # type: ignore[misc,no-any-return]

    @admin.display(description=gettext_lazy("prefix"), ordering="prefix")
    def visible_prefix(self, key: APIKey) -> str:
        return format_html("<code>{}</code>", key.prefix) if key.prefix else NOTHING

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, key: APIKey) -> str:
        return state_badges(key)

    @admin.display(description=gettext_lazy("scopes"))
    def scopes_shown(self, key: APIKey) -> str:
        return scope_list(key) or NOTHING

    @admin.display(description=gettext_lazy("allowed networks"))
    def networks_shown(self, key: APIKey) -> str:
        return ", ".join(key.allowed_ips) or _("anywhere")

    @admin.display(description=gettext_lazy("last use"), ordering="last_used")
    def last_use(self, key: APIKey) -> str:
        last_used = key.last_used  # type: ignore[attr-defined]
        return _("never") if last_used is None else time_ago(last_used)

    @admin.display(description=gettext_lazy("last 7 days"))
    def last_days(self, key: APIKey) -> str:
        recent = key.recent  # type: ignore[attr-defined]
        label = ngettext("%(number)d use", "%(number)d uses", recent.uses) % {"number": recent.uses}
        if recent.refusals:
            refused = ngettext("%(number)d refused", "%(number)d refused", recent.refusals)
            label = f"{label}, {refused % {'number': recent.refusals}}"
        if recent.has_more:
            label = _("At least %(numbers)s: no more than %(most)d requests of a day are counted here.") % {
                "numbers": label, "most": A_DAY,
            }  # fmt: skip
        spark = charts.chart(recent.days, 56, 20, gap=2)
        context = {"chart": spark, "label": label, "uses": recent.uses, "has_more": recent.has_more}
        return render_to_string("admin/keys/sparkline.html", context)
