"""The columns of the list of keys."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..models import APIKey, owners
from ..models.key_origin import has_origins, origins_of
from ..templatetags.keys_admin import beginning, last_use, state_badges
from . import activity, charts
from .filters import known
from .owner_lookup import OwnerLookup

SPARKLINE_DAYS = 7
A_DAY = 500  # rows counted of each key and day, so that fifty busy keys do not slow down the list
NOTHING = "—"
CAME_FROM = "came_from"


def scope_list(key: APIKey) -> SafeString:
    return format_html_join(" ", '<code class="keys-scope">{}</code>', ((scope,) for scope in key.scopes))


def _came(request: HttpRequest) -> bool:
    """Tell whether keys came from other systems, by one query for each page."""
    if not hasattr(request, "keys_have_origins"):
        request.keys_have_origins = has_origins()  # type: ignore[attr-defined]
    return bool(request.keys_have_origins)  # type: ignore[attr-defined]


class KeyChangeList(ChangeList):
    """Adds what the log says about the keys on this page, in a few queries for all of them."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[APIKey]:
        shown: Any = self.root_queryset
        if "last_used" not in shown.query.annotations:
            self.root_queryset = shown.with_last_used()
        return super().get_queryset(request, *args, **kwargs)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # It stays a queryset, which `list_editable` needs, and keeps these instances.
        shown: Any = self.result_list
        recent = activity.by_day([key.pk for key in shown], SPARKLINE_DAYS, A_DAY)
        for key in shown:
            key.recent, key.reach = recent[key.pk], known(request)
        if CAME_FROM in self.list_display:
            found = origins_of([key.pk for key in shown])
            for key in shown:
                key.found_origins = found.get(key.pk, [])
        if owners.are_on():
            shown_owners = OwnerLookup(self.model_admin.admin_site, request).shown(key.owner_ref for key in shown)
            for key in shown:
                key.shown_owner = shown_owners.get(key.owner_ref)


class KeyColumns:
    """The columns of the list.

    A project's own list may lack what ours adds to the keys: then it is looked up for each.
    """

    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return super().get_queryset(request).with_last_used()  # type: ignore[misc,no-any-return]

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)  # type: ignore[misc]
        return columns if _came(request) else [name for name in columns if name != CAME_FROM]

    @admin.display(description=gettext_lazy("prefix"), ordering="prefix")
    def visible_prefix(self, key: APIKey) -> str:
        return beginning(key, "")

    @admin.display(description=gettext_lazy("came from"))
    def came_from(self, key: APIKey) -> str:
        found = key.found_origins if hasattr(key, "found_origins") else origins_of([key.pk]).get(key.pk, [])
        return ", ".join(dict.fromkeys(origin.source for origin in found)) or NOTHING

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
        return last_use(key)

    @admin.display(description=gettext_lazy("last 7 days"))
    def last_days(self, key: APIKey) -> str:
        recent = getattr(key, "recent", None) or activity.by_day([key.pk], SPARKLINE_DAYS, A_DAY)[key.pk]
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
