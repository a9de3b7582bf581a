"""The usage report: a page of the audit log that shows which keys are in use, and which may be retired."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import environment, moments
from ..audit.reach import reach
from ..audit.reports import api_usage, idle, retirement
from ..models import APIKey
from . import reveal, usage
from .finding import row_id

PERIODS = (7, 30, 90)
USUAL_PERIOD = 30
LONGEST_PERIOD = 36_500
KEYS_PER_PAGE = 50
UNUSED_SHOWN = 50


class UsagePage:
    """Adds the page to the admin of the audit log."""

    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.usage_view)
        return [path("usage/", view, name="keys_auditevent_usage"), *super().get_urls()]  # type: ignore[misc]

    def has_usage_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may read the report, which counts the whole log.

        Those to whom a project's subclass shows a part of the log may not.
        """
        shown = self.get_queryset(request)  # type: ignore[attr-defined]
        return self.has_view_permission(request) and not shown.query.where  # type: ignore[attr-defined]

    def usage_view(self, request: HttpRequest) -> HttpResponse:
        """Show the report of the last `?days=`; `?key=` limits it to a key's id or to `env:VARIABLE`."""
        if not self.has_usage_permission(request):
            raise PermissionDenied
        days, key = _days(request), _key(request)
        period = usage.Period(days, timezone.now() - timedelta(days=days), reach())
        lines, read_since = api_usage(since=period.since, key=key)
        context = {
            "title": _("Usage of keys"),
            "period": period,
            "periods": _periods(days, key),
            "this_period": f"?days={days}",
            "count_command": f"python manage.py keys_usage --days {days}",
            "chosen": key,
            "read_since": read_since if read_since > period.since else None,
            **_sections(request, period, read_since, usage.keys_used(lines), key),
        }
        return reveal.answer(self, request, "admin/keys/auditevent/usage.html", context)


def _sections(
    request: HttpRequest, period: usage.Period, read_since: Any, found: list[usage.KeyUsage], key: APIKey | str | None
) -> dict[str, Any]:
    variables = [] if isinstance(key, APIKey) else usage.variables(found, key)
    for variable in variables:
        usage.judge_variable(variable, period)
    if isinstance(key, str) and not variables:
        messages.warning(request, _("No view reads that variable, and no use of it is on record in this time."))
    in_database = [holder for holder in found if holder.key_id is not None]
    page = Paginator(in_database, KEYS_PER_PAGE).get_page(request.GET.get("page"))
    page.object_list = usage.with_keys(page.object_list)
    unused = [] if key is not None else list(idle(read_since)[: UNUSED_SHOWN + 1])
    return {
        "variables": variables,
        "page": page,
        "previous_url": f"?days={period.days}&page={page.number - 1}" if page.has_previous() else "",
        "next_url": f"?days={period.days}&page={page.number + 1}" if page.has_next() else "",
        "sentence": retirement(key).sentence if isinstance(key, APIKey) else "",
        "unused": usage.judged(unused[:UNUSED_SHOWN], period),
        "has_more_unused": len(unused) > UNUSED_SHOWN,
        "strangers": [holder for holder in found if holder.key_id is None and not holder.is_environment],
        "is_empty": not found,
    }


def _periods(days: int, key: APIKey | str | None) -> list[tuple[str, str, bool]]:
    """Return the periods to choose from: the words, the URL, and whether it is the one that is shown."""
    chosen = {} if key is None else {"key": key.pk if isinstance(key, APIKey) else key}
    return [
        (moments.length_in_words(timedelta(days=one)), f"?{urlencode({'days': one, **chosen})}", one == days)
        for one in sorted({*PERIODS, days})
    ]


def _days(request: HttpRequest) -> int:
    asked = request.GET.get("days", str(USUAL_PERIOD))
    days = row_id(asked)
    if days is None or not 1 <= days <= LONGEST_PERIOD:
        text = _("That is no number of days from 1 to %(most)d: these are the last %(days)d.")
        messages.warning(request, text % {"most": LONGEST_PERIOD, "days": USUAL_PERIOD})
        return USUAL_PERIOD
    return days


def _key(request: HttpRequest) -> APIKey | str | None:
    asked = request.GET.get("key", "")
    if not asked:
        return None
    if asked.startswith(environment.PREFIX):
        return asked
    number = row_id(asked)
    if number is not None and (key := APIKey.objects.filter(pk=number).first()) is not None:
        return key
    messages.warning(request, _("There is no such key, or it has been deleted: these are all of them."))
    return None
