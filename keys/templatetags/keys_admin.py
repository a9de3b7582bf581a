"""How the admin shows a key and an event: badges, words and links, for its templates and its columns.

Django imports the tags of every app, whichever others are installed: nothing here may need `django.contrib.admin`.
"""

from datetime import datetime
from typing import Any

from django import template
from django.template import Context
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import moments
from ..audit.reach import reach
from ..audit.reports import age_mark, ago
from ..audit.retention import Pruning
from ..models import APIKey, AuditEvent
from ..models.api_key import STATES

register = template.Library()


def badge(kind: str, text: Any, title: str = "") -> SafeString:
    """Return a word on a coloured background; the colour adds no information."""
    return format_html('<span class="keys-badge keys-{}" title="{}">{}</span>', kind, title, text)


@register.simple_tag
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


@register.simple_tag
def beginning(key: APIKey, ellipsis: str = "…") -> SafeString:
    """Return how a key begins, or a dash where nobody can tell."""
    if not key.prefix:
        return format_html('<span class="keys-unknown" title="{}">—</span>', _("How it begins is not kept."))
    return format_html('<code class="keys-prefix" title="{}">{}{}</code>', _("How it begins"), key.prefix, ellipsis)


@register.simple_tag(name="ago")
def time_ago(moment: datetime) -> SafeString:
    """Return a time relative to now, with the exact time as its title."""
    local = moments.local(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"), date_format(local, "DATETIME_FORMAT"), ago(moment),
    )  # fmt: skip


@register.simple_tag
def event_badge(event: AuditEvent) -> SafeString:
    """Return what happened, the reason, and the number of requests that the row counts."""
    words = badge(event.event, event.get_event_display())
    if event.reason:
        words = format_html('{} <span class="keys-reason">{}</span>', words, event.get_reason_display())
    if event.count > 1:
        words = format_html('{} <span class="keys-times">&times;{}</span>', words, event.count)
    return words


@register.simple_tag
def event_subject(event: AuditEvent) -> SafeString:
    """Return the request and its answer, or what a life-cycle event changed."""
    if event.event == AuditEvent.Event.PRUNED and (pruning := Pruning.read(event.detail)) is not None:
        return format_html("{}", pruning.sentence)
    if not event.is_request:
        return format_html("{}", event.step or "-")
    # The worker died, or the request is still being answered.
    status = event.status if event.status is not None else _("no answer")
    took = "" if event.duration_ms is None else f", {event.duration_ms} ms"
    request = f"{event.method} {event.place}"
    if event.is_from_many_networks:
        request = _("several paths")
    elif event.is_introspection:
        request = event.place
    return format_html('{} <span class="keys-answer">→ {}{}</span>', request, status, took)


@register.simple_tag
def last_use(key: APIKey) -> str:
    """Return when the key was last used, as far as the log knows. A list has asked once for all its keys."""
    last_used = key.last_used if hasattr(key, "last_used") else key.last_used_at
    known = getattr(key, "reach", None) or reach()
    told = known.last_use(last_used)
    return known.unused(key.created_at) if told is None else time_ago(told)


@register.simple_tag(takes_context=True)
def api_link(context: Context, endpoint: str) -> SafeString:
    """Return a link to all that happened at an API, or its name alone where the site has no such page."""
    address = context["pages"].log_at(endpoint)
    return format_html('<a href="{}">{}</a>', address, endpoint) if address else format_html("{}", endpoint)


@register.simple_tag(takes_context=True)
def key_link(context: Context, key: APIKey, text: Any = None) -> SafeString:
    """Return a link to a key's page, or the text alone where the site has no such page for this person."""
    shown = key if text is None else text
    address = context["pages"].key(key.pk)
    return format_html('<a href="{}">{}</a>', address, shown) if address else format_html("{}", shown)
