"""What the templates of the admin's pages write in the same words as its lists."""

from datetime import datetime

from django import template

from ..admin import columns, events
from ..models import APIKey, AuditEvent

register = template.Library()


@register.simple_tag
def state_badges(key: APIKey) -> str:
    """Write the key's state, and what else deserves a look."""
    return columns.state_badges(key)


@register.simple_tag
def ago(moment: datetime) -> str:
    """Write a time as people say it, with the exact one behind it."""
    return columns.time_ago(moment)


@register.simple_tag
def event_badge(event: AuditEvent) -> str:
    """Write what happened, and why."""
    return events.event_badge(event)


@register.simple_tag
def event_subject(event: AuditEvent) -> str:
    """Write what was called, with its answer, or what was changed."""
    return events.event_subject(event)
