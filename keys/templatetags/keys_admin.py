"""The admin's columns as template tags, so that its pages and lists use the same words."""

from django import template

from ..admin import columns

register = template.Library()
register.simple_tag(columns.state_badges)
register.simple_tag(columns.time_ago, name="ago")
register.simple_tag(columns.event_badge)
register.simple_tag(columns.event_subject)
