"""The filters of the list of keys."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import moments
from ..audit.reach import FIRST, Reach, reach
from ..conf import conf
from ..models import APIKey, AuditEvent
from ..models.api_key import STATES

Keys = QuerySet[APIKey]


def known(request: HttpRequest) -> Reach:
    """Return how far back the log reaches; asked once for a page."""
    if not hasattr(request, "keys_reach"):
        request.keys_reach = reach()  # type: ignore[attr-defined]
    return request.keys_reach  # type: ignore[attr-defined,no-any-return]


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: Keys) -> Keys:
        state = self.value()
        return queryset.in_state(state) if state in STATES else queryset  # type: ignore[attr-defined]


class ScopeFilter(admin.SimpleListFilter):
    """The keys that hold a scope, by the scope itself or by a wildcard."""

    title = _("scope")
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        registered = sorted(conf.SCOPES) or sorted(
            {scope for scopes in model_admin.get_queryset(request).values_list("scopes", flat=True) for scope in scopes}
        )
        return [(scope, scope) for scope in registered]

    def queryset(self, request: HttpRequest, queryset: Keys) -> Keys:
        if (scope := self.value()) is None:
            return queryset
        # As text, since not every database can search a JSON list. With quotes, to match the whole scope.
        granting = Q()
        for text in (scope, f"{scope.partition(':')[0]}:*", "*"):
            granting |= Q(scopes_as_text__contains=f'"{text}"')
        return queryset.alias(scopes_as_text=Cast("scopes", TextField())).filter(granting)


class UseFilter(admin.SimpleListFilter):
    """The keys by their last use, as far as the log reaches back."""

    title = _("last use")
    parameter_name = "use"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        found = [("never", _("never used")), ("unknown", known(request).not_since)]
        return [*found, ("90", _("not used for 90 days")), ("7", _("used in the last 7 days"))]

    def queryset(self, request: HttpRequest, queryset: Keys) -> Keys:
        uses = AuditEvent.objects.filter(api_key=OuterRef("pk"), event=AuditEvent.Event.USED)
        now, log = timezone.now(), known(request)
        match self.value():
            case "never":
                return queryset.filter(~Exists(uses), ~log.older_keys())
            case "unknown":
                known_uses = uses if log.since is None else uses.filter(at__gte=log.since)
                return queryset.filter(~Exists(known_uses), log.older_keys())
            case "90":
                # A use with the time of a dead clock may have been at any time.
                since = now - timedelta(days=90)
                unused = queryset.filter(~Exists(uses.filter(Q(at__gte=since) | Q(at__lt=moments.kept(FIRST)))))
                return unused if log.knows(since) else unused.filter(~log.older_keys())
            case "7":
                return queryset.filter(Exists(uses.filter(at__gte=now - timedelta(days=7))))
        return queryset


class AgeFilter(admin.SimpleListFilter):
    """The keys that should be rotated."""

    title = _("age")
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("90", _("older than 90 days")), ("180", _("older than 180 days (overdue)"))]

    def queryset(self, request: HttpRequest, queryset: Keys) -> Keys:
        if (days := self.value()) in {"90", "180"}:
            return queryset.filter(created_at__lt=timezone.now() - timedelta(days=int(days)))
        return queryset
