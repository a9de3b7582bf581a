"""Owners as one person sees them on one admin site: names, links, and a search.

Whoever may not view the model of an owner sees its reference, such as `auth.user:7`, and no name.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import Error, router
from django.db.models import CharField, Model, Q, QuerySet, TextField
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import APIKey, owners
from ..redaction import printable
from ..templatetags.keys_admin import badge
from .pages import address

OFFERED = 20  # owners of each model that a search offers
COMPARED = 500  # owners whose names the search for keys compares
LONGEST = 150  # characters of a text that is searched for
# Where a model has no pages on the site that say which of its fields to search.
NAMED_BY = ("name", "title", "slug", "username", "first_name", "last_name", "email")


@dataclass(frozen=True)
class Shown:
    """An owner as a page shows it. The name is empty where there is no such owner, or not for this person."""

    ref: str
    kind: str = ""
    name: str = ""
    url: str = ""
    is_gone: bool = False
    is_inactive: bool = False

    def __str__(self) -> str:
        return self.name or self.ref

    @property
    def link(self) -> SafeString:
        return format_html('<a href="{}">{}</a>', self.url, self) if self.url else format_html("{}", self)

    @property
    def trouble(self) -> str:
        """Why the keys of this owner are refused, in a word; empty where nothing is known of that."""
        return _("gone") if self.is_gone else _("inactive") if self.is_inactive else ""

    @property
    def html(self) -> SafeString:
        if not self.trouble:
            return self.link
        return format_html("{} {}", self.link, badge("gone", self.trouble, _("The keys of this owner are refused.")))


class OwnerLookup:
    """What one person may know of owners on one site."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site = site
        self._request = request

    def _admin_of(self, model: type[Model]) -> Any:
        for one in (model, model._meta.concrete_model):
            if one is not None and self._site.is_registered(one):
                return self._site.get_model_admin(one)
        return None

    def may_see(self, model: type[Model], owner: Model | None = None) -> bool:
        """Tell whether the person may view the model, or this owner of it."""
        if (model_admin := self._admin_of(model)) is not None:
            return bool(model_admin.has_view_permission(self._request, owner))
        permission = f"{model._meta.app_label}.{get_permission_codename('view', model._meta)}"
        return bool(self._request.user.has_perm(permission))

    @property
    def sees_some(self) -> bool:
        """Whether the person may view any of the models."""
        return any(self.may_see(model) for model in owners.models().values())

    def _rows(self, model: type[Model]) -> QuerySet[Any]:
        """Return the owners that the person sees: a project's own pages may narrow them."""
        model_admin = self._admin_of(model)
        rows = model._default_manager.all() if model_admin is None else model_admin.get_queryset(self._request)
        return rows.using(router.db_for_write(model))

    def shown(self, refs: Iterable[str]) -> dict[str, Shown]:
        """Return the owners, by reference, with one query for each model (two where its pages narrow it)."""
        wanted = {*refs} - {""}
        found = owners.read(wanted)
        seen: set[str] = set()
        for label, model in owners.models().items():
            of_model = {ref: owner for ref, owner in found.items() if ref.partition(":")[0] == label}
            if not of_model or not self.may_see(model):
                continue
            if (rows := self._rows(model)).query.where:
                pks = {*rows.filter(pk__in=[owner.pk for owner in of_model.values()]).values_list("pk", flat=True)}
                of_model = {ref: owner for ref, owner in of_model.items() if owner.pk in pks}
            seen |= {ref for ref, owner in of_model.items() if self.may_see(model, owner)}
        return {ref: self._shown(ref, found.get(ref), ref in seen) for ref in wanted}

    def one(self, ref: str) -> Shown | None:
        """Return the owner; None for an empty reference."""
        return self.shown([ref]).get(ref)

    def _shown(self, ref: str, owner: Model | None, is_seen: bool) -> Shown:
        if owner is None:
            return Shown(ref, is_gone=True)
        model = owners.models()[ref.partition(":")[0]]
        kind, is_inactive = str(model._meta.verbose_name), is_known_inactive(owner)
        if not is_seen:
            return Shown(ref, kind, is_inactive=is_inactive)
        model_admin = self._admin_of(model)
        url = "" if model_admin is None else address(self._site, model_admin.model, "change", quote(owner.pk))
        return Shown(ref, kind, owners.name_of(ref, owner), url, is_inactive=is_inactive)

    def search(self, text: str, most: int = OFFERED, among: Collection[str] | None = None) -> tuple[list[Shown], bool]:
        """Return the owners that match, `most` of each model, and whether there are more.

        `among` are the references to look at, if not all. A model is searched as its pages on this site do; one
        without them, by fields such as `name`; by its primary key, if it has none of these.
        """
        text = printable(text.strip())[:LONGEST]
        found, has_more = [], False
        for label, model in owners.models().items():
            if not text or not self.may_see(model):
                continue
            rows = self._rows(model)
            if among is not None:
                rows = rows.filter(pk__in=[owners.parse(ref)[1] for ref in among if ref.partition(":")[0] == label])
            matching = [*self._matching(model, rows, text)[: most + 1]]
            has_more |= len(matching) > most
            refs = {f"{label}:{owner.pk}": owner for owner in matching[:most]}
            found += [self._shown(ref, owner, True) for ref, owner in refs.items() if self.may_see(model, owner)]
        return found, has_more

    def _matching(self, model: type[Model], rows: QuerySet[Any], text: str) -> QuerySet[Any]:
        model_admin = self._admin_of(model)
        with suppress(ValidationError):
            of_model, pk = owners.parse(text)
            return rows.filter(pk=pk) if of_model is model else rows.none()
        if model_admin is not None and model_admin.get_search_fields(self._request):
            rows, may_have_duplicates = model_admin.get_search_results(self._request, rows, text)
            rows = rows.distinct() if may_have_duplicates else rows
        elif fields := _fields_with_names(model):
            for word in text.split():
                rows = rows.filter(reduce(or_, (Q(**{f"{name}__icontains": word}) for name in fields)))
        else:
            try:
                rows = rows.filter(pk=owners.parse(f"{owners.label_of(model)}:{text}")[1])
            except ValidationError:
                return rows.none()
        return rows if rows.ordered else rows.order_by("pk")

    def refs_for(self, text: str, keys: QuerySet[APIKey] | None = None) -> tuple[list[str], bool]:
        """Return the references that a text in a search box means, and whether there are more.

        The owners of `keys` are looked at; all owners where there are no `keys`, or where these have too many.
        """
        with suppress(ValidationError):
            owners.parse(text)
            return [text], False
        owned = None if keys is None else owners_of_keys(keys, COMPARED)
        among = None if owned is None or len(owned) > COMPARED else _listed(owned)
        found, has_more = self.search(text, COMPARED, among)
        return [one.ref for one in found], has_more


def is_known_inactive(owner: Model) -> bool:
    """Tell whether the owner says now that it is inactive. One that fails says nothing, and stops no list."""
    try:
        return not owners.is_active(owner)
    except Error:
        return False


def owners_of_keys(keys: QuerySet[APIKey], most: int) -> list[str]:
    """Return the references of the owners of these keys: at most one more than `most`."""
    owned = keys.filter(owner_ref__gt="").order_by()
    return [*owned.values_list("owner_ref", flat=True).distinct()[: most + 1]]


def _listed(refs: Iterable[str]) -> list[str]:
    """Return the references that are still those of a listed model."""
    known = []
    for ref in refs:
        with suppress(ValidationError):
            owners.parse(ref)
            known.append(ref)
    return known


def _fields_with_names(model: type[Model]) -> list[str]:
    names = dict.fromkeys((getattr(model, "USERNAME_FIELD", ""), *NAMED_BY))
    found = []
    for name in filter(None, names):
        with suppress(FieldDoesNotExist):
            if isinstance(model._meta.get_field(name), CharField | TextField):
                found.append(name)
    return found
