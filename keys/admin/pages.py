"""Where the pages of keys and of the log are: on this admin site, for this person.

Links are made here and not in the templates, which write a number as people do: `1,234` in a link is two keys. A site
may have the keys alone or the log alone, or other pages in the place of ours.
"""

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from ..models import APIKey, AuditEvent

OWNER = "owner"  # the parameter of the lists and of the form for a new key that names an owner


def address(site: AdminSite, model: type[Model], page: str, *args: Any, **query: Any) -> str:
    """Return the URL of a model's page, such as `changelist`; an empty text if the site has none."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    try:
        url = reverse(name, args=args, current_app=site.name)
    except NoReverseMatch:
        return ""
    return f"{url}?{urlencode(query)}" if query else url


def keys_shown(site: AdminSite, request: HttpRequest) -> QuerySet[APIKey]:
    """Return the keys that this person sees on this site: a project's subclass may narrow them."""
    if site.is_registered(APIKey):
        shown = site.get_model_admin(APIKey).get_queryset(request)
        if shown.query.where:
            # Without what the list of keys looks up for each.
            return APIKey.objects.filter(pk__in=shown.values("pk"))
    return APIKey.objects.all()


class Pages:
    """The pages that one person may open on one site; each is a URL, or an empty text."""

    def __init__(self, site: AdminSite, request: HttpRequest, model: type[Model] = APIKey) -> None:
        self._site = site
        self._request = request
        # A project may have pages of ours for a proxy of the model.
        self._keys = model if issubclass(model, APIKey) else APIKey

    def _may(self, permission: str, model: type[Model]) -> bool:
        if not self._site.is_registered(model):
            return False
        has_permission = getattr(self._site.get_model_admin(model), f"has_{permission}_permission", None)
        return bool(has_permission is not None and has_permission(self._request))

    def _viewed(self, model: type[Model], page: str, *args: Any, **query: Any) -> str:
        return address(self._site, model, page, *args, **query) if self._may("view", model) else ""

    @property
    def keys(self) -> str:
        return self._viewed(self._keys, "changelist")

    @property
    def keys_by_last_use(self) -> str:
        """Return the list of keys in the order of its column for the last use, as far as it has one."""
        if not self.keys:
            return ""
        model_admin = self._site.get_model_admin(self._keys)
        columns = [*model_admin.get_list_display(self._request)]
        if "last_use" not in columns:
            return self.keys
        # The column to tick, which is the first, is there for those who may take an action.
        ticks = 1 if model_admin.get_actions(self._request) else 0
        return self._viewed(self._keys, "changelist", o=columns.index("last_use") + ticks)

    @property
    def add(self) -> str:
        return address(self._site, self._keys, "add") if self._may("add", self._keys) else ""

    def key(self, pk: Any) -> str:
        return self._viewed(self._keys, "change", pk)

    def keys_of(self, ref: str) -> str:
        """Return the list of one owner's keys."""
        return self._viewed(self._keys, "changelist", **{self._owner_parameter: ref})

    def add_for(self, ref: str) -> str:
        """Return the page that makes a key of this owner."""
        return address(self._site, self._keys, "add", **{self._owner_parameter: ref}) if self.add else ""

    @property
    def _owner_parameter(self) -> str:
        """Return how to name an owner. Pages that are not ours, and lists without our filter, know the field alone."""
        model_admin = self._site.get_model_admin(self._keys) if self._site.is_registered(self._keys) else None
        filters = model_admin.get_list_filter(self._request) if model_admin is not None else ()
        return OWNER if any(getattr(one, "parameter_name", "") == OWNER for one in filters) else "owner_ref"

    def step(self, step: str, pk: Any) -> str:
        """Return the page that asks before a key is rotated or deactivated. The caller knows who may."""
        return address(self._site, self._keys, step, keys=pk)

    @property
    def may_read_log(self) -> bool:
        """Whether this person may see requests: the log's pages decide, or without them the permission."""
        if self._site.is_registered(AuditEvent):
            return self._may("view", AuditEvent)
        return bool(self._request.user.has_perm("keys.view_auditevent"))

    def log(self, pk: Any) -> str:
        """Return the log of one key."""
        return self._log(key=pk)

    def log_at(self, endpoint: str) -> str:
        """Return the log of one API."""
        return self._log(endpoint=endpoint)

    def _log(self, **query: Any) -> str:
        # Pages that are not ours know no such filter.
        is_ours = address(self._site, AuditEvent, "usage") != ""
        return self._viewed(AuditEvent, "changelist", **query) if is_ours else ""

    @property
    def usage(self) -> str:
        return address(self._site, AuditEvent, "usage") if self._may("usage", AuditEvent) else ""

    def usage_of(self, pk: Any) -> str:
        return address(self._site, AuditEvent, "usage", key=pk) if self._may("usage", AuditEvent) else ""
