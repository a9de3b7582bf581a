"""What a key's page shows beside its form: its state, its chart, where it is used, and what happened to it."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse

from ..audit.reports import retirement
from ..models import APIKey, AuditEvent
from ..models.audit_event import TRAFFIC
from . import activity, charts, steps

DAYS = 30
# How many rows of a day are counted.
A_DAY = 5000
EVENTS = 15
# What a step of a key's life is, as against a request.
STEPS = 10


def context(admin: Any, request: HttpRequest, key: APIKey) -> dict[str, Any]:
    """Return what the template of a key's page needs beside the form, from a fixed number of queries."""
    recent = activity.by_day([key.pk], DAYS, A_DAY)[key.pk]
    since = activity.start_of(activity.first_day(DAYS))
    site = admin.admin_site.name
    events = AuditEvent.objects.filter(api_key=key.pk).order_by("-at", "-id")
    may_read_log = request.user.has_perm("keys.view_auditevent")
    about_it = urlencode({"key": key.pk})
    log, usage = (reverse(f"admin:keys_auditevent_{page}", current_app=site) for page in ("changelist", "usage"))
    return {
        "recent": recent,
        "chart": charts.chart(recent.days, 600, 120, gap=4),
        "sample": activity.sample(key.pk, since),
        "sample_size": activity.SAMPLE,
        "requests": events.filter(event__in=TRAFFIC)[:EVENTS] if may_read_log else (),
        "steps": events.steps()[:STEPS],
        "counted_a_day": A_DAY,
        "retirement": retirement(key),
        "predecessor": APIKey.objects.filter(replaced_by=key.pk).first(),
        "log_url": f"{log}?{about_it}" if may_read_log else "",
        "usage_url": f"{usage}?{about_it}" if may_read_log else "",
        "may_rotate": steps.can_be_rotated(key) and admin.has_rotate_permission(request, key),
        "may_deactivate": admin.has_change_permission(request, key) and key.is_active,
    }
