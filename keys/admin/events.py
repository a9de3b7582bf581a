"""An event of the audit log in words."""

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..audit.retention import Pruning
from ..models import AuditEvent
from .columns import badge


def event_badge(event: AuditEvent) -> SafeString:
    """Return what happened, with the reason and for how many requests the row stands."""
    words = badge(event.event, event.get_event_display())
    if event.reason:
        words = format_html('{} <span class="keys-reason">{}</span>', words, event.get_reason_display())
    if event.count > 1:
        words = format_html('{} <span class="keys-times">&times;{}</span>', words, event.count)
    return words


def event_subject(event: AuditEvent) -> SafeString:
    """Return the request and its answer, or what a step of a key's life changed."""
    if event.event == AuditEvent.Event.PRUNED and (pruning := Pruning.read(event.detail)) is not None:
        return format_html("{}", pruning.sentence)
    if not event.is_request:
        return format_html("{}", event.detail or "-")
    # A use without a status has died, or is still being answered.
    status = event.status if event.status is not None else _("no answer")
    took = "" if event.duration_ms is None else f", {event.duration_ms} ms"
    return format_html('{} {} <span class="keys-answer">→ {}{}</span>', event.method, event.path, status, took)
