"""What a project adds to the admin of its owners: the way from an owner to the owner's keys.

class UserAdmin(OwnedKeysMixin, BaseUserAdmin): ...
"""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import ValidationError
from django.db import connections, router
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..audit.places import lacks_keys
from ..models import APIKey, owners
from ..models.querysets import accepted_at
from .pages import Pages, keys_shown
from .steps import acting

NAME = "owned_keys"
NAMED = 20  # keys that the page names which asks before an owner is deleted


class OwnedKeysMixin:
    """For the ModelAdmin of a model that `KEYS["OWNERS"]` names: put it before the other classes.

    An owner's page gets a read-only field, `owned_keys`, that links to the owner's keys and to a form for a new one, as
    far as the person may see them; it stands at the end unless `fieldsets` or `fields` name it. The page that asks
    before owners are deleted names the keys that end with them.
    """

    model: Any
    admin_site: Any

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)  # type: ignore[misc]
        return fields if obj is None or NAME in fields else (*fields, NAME)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = [*super().get_fieldsets(request, obj)]  # type: ignore[misc]
        if obj is not None and not hasattr(obj, "linked_keys"):
            obj.linked_keys = self._links(request, obj)
        is_shown = obj is not None and bool(obj.linked_keys)
        if NAME in flatten_fieldsets(sections):
            return sections if is_shown else [_without(section) for section in sections]
        title = capfirst(str(APIKey._meta.verbose_name_plural))
        return [*sections, (title, {"fields": (NAME,)})] if is_shown else sections

    @admin.display(description=gettext_lazy("keys"))
    def owned_keys(self, owner: Any) -> Any:
        return getattr(owner, "linked_keys", "")

    def _links(self, request: HttpRequest, owner: Model) -> SafeString | str:
        """Return the links, or an empty text where this person sees no keys on this site."""
        try:
            ref = owners.ref_of(owner) if _are_here() else ""
        except ValidationError:
            return ""
        pages = Pages(self.admin_site, request, _model_of_keys(self.admin_site))
        if not ref or not pages.keys:
            return ""
        shown = keys_shown(self.admin_site, request).of_owner(ref)  # type: ignore[attr-defined]
        number = shown.aggregate(all=Count("pk"), accepted=Count("pk", filter=Q(accepted_at(timezone.now()))))
        words = _("%(accepted)d accepted of %(all)d") % number
        link = format_html('<a href="{}">{}</a>', pages.keys_of(ref), words)
        if not (add := pages.add_for(ref)):
            return link
        new = _("Add %(name)s") % {"name": APIKey._meta.verbose_name}
        return format_html('{} &middot; <a class="addlink" href="{}">{}</a>', link, add, new)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Name the keys that end, too, on the pages that ask before owners are deleted."""
        named, counts, *rest = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        keys = _accepted_keys(objs)
        if number := keys.count():
            named = [*named, _("API keys that are refused from then on"), self._named(request, keys, number)]
            counts = {**counts, _("API keys that are refused from then on"): number}
        return (named, counts, *rest)

    def _named(self, request: HttpRequest, keys: QuerySet[APIKey], number: int) -> list[Any]:
        pages = Pages(self.admin_site, request, _model_of_keys(self.admin_site))
        if not pages.keys:
            return [ngettext("%(number)d key", "%(number)d keys", number) % {"number": number}]
        shown = [(pages.key(key.pk), key) for key in keys[:NAMED]]
        named: list[Any] = [format_html('<a href="{}">{}</a>', url, key) if url else str(key) for url, key in shown]
        if number > NAMED:
            more = number - NAMED
            named.append(ngettext("and %(number)d more", "and %(number)d more", more) % {"number": more})
        return named

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with acting(request):
            super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with acting(request):
            super().delete_queryset(request, queryset)  # type: ignore[misc]


def _without(section: Any) -> Any:
    """Return the section of a form without the field for keys."""
    title, options = section
    rows = [
        tuple(name for name in row if name != NAME) if isinstance(row, list | tuple) else row
        for row in options["fields"]
        if row != NAME
    ]
    return title, {**options, "fields": [row for row in rows if row]}


def _model_of_keys(site: admin.AdminSite) -> type[Model]:
    """Return the model of keys that the site has pages for: ours, or else a project's subclass."""
    if site.is_registered(APIKey):
        return APIKey
    return next((model for model in site._registry if issubclass(model, APIKey)), APIKey)


def _accepted_keys(objs: Iterable[Model]) -> QuerySet[APIKey]:
    """Return the keys of these owners that are accepted now."""
    refs = []
    for owner in objs if _are_here() else ():
        try:
            refs.append(owners.ref_of(owner))
        except ValidationError:
            continue
    return APIKey.objects.accepted().of_owner(*refs) if refs else APIKey.objects.none()


def _are_here() -> bool:
    """Tell whether keys may have owners, and are in the schema that is looked at, where each tenant has its own."""
    return owners.are_on() and not lacks_keys(connections[router.db_for_write(APIKey)])
