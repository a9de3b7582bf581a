"""What the templates of the admin's pages write in the same words as its lists."""

from django import template

from ..admin import columns

register = template.Library()
register.simple_tag(columns.state_badges)
register.simple_tag(columns.time_ago, name="ago")
register.simple_tag(columns.event_badge)
register.simple_tag(columns.event_subject)
