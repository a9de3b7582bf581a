"""The filters by owner, of the list of keys and of the log. A URL may name any owner: `?owner=auth.user:7`."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import APIKey, AuditEvent, owners
from ..redaction import printable
from .owner_lookup import OwnerLookup, is_known_inactive, owners_of_keys
from .pages import OWNER, keys_shown

# With more owners than this, a filter offers only the one of the URL; the search finds the others.
OWNERS_OFFERED = 15
# Keys whose owners are looked at, for those that are refused with their owner.
LOOKED_AT = 5000


class _OwnerChoices(admin.SimpleListFilter):
    title = _("owner")
    parameter_name = OWNER

    def value(self) -> str | None:
        """Return what was chosen; None for nothing, and for what no reference can be and no database takes."""
        chosen = super().value()
        return chosen if chosen and chosen == printable(chosen) else None

    def _offered(self, request: HttpRequest, site: admin.AdminSite, keys: QuerySet[APIKey]) -> list[tuple[str, str]]:
        refs = owners_of_keys(keys, OWNERS_OFFERED)
        refs = [] if len(refs) > OWNERS_OFFERED else refs
        chosen = self.value() or ""
        shown = OwnerLookup(site, request).shown([*refs, *([chosen] if ":" in chosen else [])])
        return sorted(((ref, printable(str(owner))) for ref, owner in shown.items()), key=lambda one: one[1].casefold())


class OwnerFilter(_OwnerChoices):
    """The keys of one owner, those of nobody, and those that are refused with their owner."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        offered = self._offered(request, model_admin.admin_site, model_admin.get_queryset(request))
        return [("none", _("without an owner")), ("refused", _("owner gone or inactive")), *offered]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case None:
                return queryset
            case "none":
                return queryset.filter(owner_ref="")
            case "refused":
                owned = queryset.filter(owner_ref__gt="").order_by("-pk").values_list("pk", "owner_ref")
                rows = [*owned[:LOOKED_AT]]
                found = owners.read(ref for _, ref in rows)
                active = {ref for ref, owner in found.items() if not is_known_inactive(owner)}
                return queryset.filter(pk__in=[pk for pk, ref in rows if ref not in active])
            case ref:
                return queryset.of_owner(ref)


class EventOwnerFilter(_OwnerChoices):
    """The events of one owner's keys, with the index `keys_event_owner`."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return self._offered(request, model_admin.admin_site, keys_shown(model_admin.admin_site, request))

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        ref = self.value()
        return queryset.filter(of_owner(ref)) if ref else queryset


def of_owner(ref: str) -> Q:
    """Return the condition for the events of one owner's keys."""
    # The second one is that of the index; the third compares exactly on MariaDB, too.
    return Q(owner=ref, owner__gt="", owner__startswith=ref)
