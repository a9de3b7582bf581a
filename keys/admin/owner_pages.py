"""What the pages of keys show of owners: a column, a filter, a field that searches. Nothing, where there are none."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from ..models import APIKey, owners
from .finding import holds_a_secret
from .owner_field import OwnerField
from .owner_filters import OwnerFilter
from .owner_lookup import COMPARED, OwnerLookup
from .pages import OWNER, address

SEARCH_HELP = gettext_lazy("A name, a prefix, or a whole key: it is looked up without being kept anywhere.")


class OwnerPages:
    """Adds owners to the admin of keys."""

    opts: Any
    admin_site: Any

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.owners_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_owners"
        return [path("owners/", view, name=name), *super().get_urls()]  # type: ignore[misc]

    @method_decorator(sensitive_post_parameters("q"))
    @method_decorator(require_POST)
    def owners_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the owners that match a text, as JSON, for the form of a key."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):  # type: ignore[attr-defined]
            raise PermissionDenied
        text = request.POST.get("q", "")
        is_asked = owners.are_on() and not holds_a_secret(text)
        found, more = OwnerLookup(self.admin_site, request).search(text) if is_asked else ([], False)
        rows = [{"ref": one.ref, "name": str(one), "kind": one.kind, "trouble": one.trouble} for one in found]
        return JsonResponse({"found": rows, "more": more})

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "owner_ref" and owners.are_on():
            url = address(self.admin_site, self.opts.model, "owners")
            return OwnerField(OwnerLookup(self.admin_site, request), url)
        return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]

    def owner_in_address(self, request: HttpRequest) -> dict[str, str]:
        """Return the owner of a new key that the URL names, e.g. `?owner=auth.user:7`, as an initial value."""
        ref = request.GET.get("owner_ref") or request.GET.get(OWNER, "")
        try:
            if owners.are_on():
                owners.parse(ref)
                return {"owner_ref": ref}
        except ValidationError:
            pass  # a subclass may have an `owner` of its own
        return {}

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)  # type: ignore[misc]
        return columns if owners.are_on() else [name for name in columns if name != "owner_shown"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        filters = super().get_list_filter(request)  # type: ignore[misc]
        return filters if owners.are_on() else [one for one in filters if one is not OwnerFilter]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)  # type: ignore[misc]
        if owners.are_on() and changes.search_help_text == SEARCH_HELP:
            changes.search_help_text = _(
                "A name, a prefix, an owner, or a whole key: it is looked up without being kept anywhere."
            )
        return changes

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[APIKey], search_term: str
    ) -> tuple[QuerySet[APIKey], bool]:
        """Find keys by their owner, too. The names of at most some hundred owners are compared."""
        found, may_have_duplicates = super().get_search_results(request, queryset, search_term)  # type: ignore[misc]
        if not owners.are_on() or not search_term or holds_a_secret(search_term):
            return found, may_have_duplicates
        refs, has_more = OwnerLookup(self.admin_site, request).refs_for(search_term, queryset)
        if has_more:
            message = _("More than %(most)d owners match: only the keys of some are shown. Write more of the name.")
            self.message_user(request, message % {"most": COMPARED}, "warning")  # type: ignore[attr-defined]
        if not refs:
            return found, may_have_duplicates
        matching = Q(pk__in=found.order_by().values("pk")) | Q(owner_ref__in=refs)
        return queryset.filter(matching), False

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        key = super().get_object(request, *args, **kwargs)  # type: ignore[misc]
        if key is not None and owners.are_on():
            key.shown_owner = OwnerLookup(self.admin_site, request).one(key.owner_ref)
        return key

    @admin.display(description=gettext_lazy("owner"), ordering="owner_ref", empty_value="-")
    def owner_shown(self, key: APIKey) -> Any:
        """Return the owner's name. A list of the project's own has not looked it up, and shows the reference."""
        owner = getattr(key, "shown_owner", None)
        return key.owner_ref or None if owner is None else owner.html
