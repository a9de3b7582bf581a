"""The audit log's pages: read, filter and download. Nobody can change it."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from .. import moments
from ..models import APIKey, AuditEvent, owners
from ..templatetags.keys_admin import event_badge, event_subject
from . import export
from .finding import BEFORE, SecretSafeSearch
from .log_filters import EndpointFilter, KeyFilter, ReasonFilter, StatusFilter, WhenFilter
from .log_list import LOOKED_AT, AuditChangeList
from .owner_filters import EventOwnerFilter
from .owner_lookup import OwnerLookup
from .pages import OWNER, address
from .usage_page import UsagePage

ADDRESSABLE = {"key", OWNER, "when", "status", EndpointFilter.parameter_name, "event__exact", "reason__exact"}


@admin.register(AuditEvent)
class AuditEventAdmin(SecretSafeSearch, UsagePage, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("moment", "what", "of_key", "owner_shown", "subject", "who")
    readonly_fields = ("moment", "of_key", "owner_shown", "pruned", "changed")
    list_filter = (
        WhenFilter,
        "event",
        ("reason", ReasonFilter),
        StatusFilter,
        KeyFilter,
        EndpointFilter,
        EventOwnerFilter,
    )
    list_per_page = 50
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    not_found = _("No key has this value, and none of the latest requests this id.")

    class Media:
        css = {"all": ("keys/admin.css",)}

    def get_fields(self, request: HttpRequest, obj: AuditEvent | None = None) -> Any:
        """Return the fields of the event's kind: a life-cycle event has no path, and few requests have an actor."""
        # All are read-only, as nobody has the permission to change.
        has_owner = owners.are_on() and obj is not None and obj.owner
        subject = ["of_key", "key_prefix", *(["owner_shown"] if has_owner else [])]
        if obj is not None and not obj.is_request:
            detail = "pruned" if obj.event == AuditEvent.Event.PRUNED else "detail"
            changed = ["changed"] if obj.change_lines else []
            return ["moment", "event", *subject, "actor", "count", detail, *changed]
        reason = ["reason"] if obj is not None and obj.reason else []
        if obj is not None and obj.is_from_many_networks:
            return ["moment", "event", *reason, "status", "count", "detail"]
        asked = ["actor"] if obj is not None and obj.actor else []
        answer = ["method", "path", "endpoint", "status", "duration_ms"]
        return ["moment", "event", *reason, *subject, *asked, *answer, "address", "user_agent", "request_id", "count"]

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        return columns if owners.are_on() else [name for name in columns if name != "owner_shown"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        filters = super().get_list_filter(request)
        return filters if owners.are_on() else [one for one in filters if one is not EventOwnerFilter]

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        event: Any = super().get_object(request, *args, **kwargs)
        if event is not None and owners.are_on():
            event.shown_owner = OwnerLookup(self.admin_site, request).one(event.owner)
        return event

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[AuditChangeList]:
        return AuditChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse look-ups other than the filters: `?path__icontains=` would read every row."""
        return lookup in ADDRESSABLE

    @sensitive_variables()
    def is_other_id(self, text: str) -> bool:
        """Tell whether one of the latest requests has this id, in which a presented key would be masked."""
        events = AuditEvent.objects.all()
        for at in events.order_by("-at").values_list("at", flat=True)[LOOKED_AT : LOOKED_AT + 1]:
            events = events.filter(at__gte=at)
        return bool(events.filter(request_id=text).exists())

    def address_of(self, key: APIKey) -> str:
        return address(self.admin_site, self.opts.model, "changelist", key=key.pk)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/<slug:form>/", view, name="keys_auditevent_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Send all events that the filters of the URL select, as a file that is written while it is sent."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        changes: Any = self.get_changelist_instance(request)
        return export.response(request, changes.matching, form)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        carried = request.GET.copy()
        carried.pop(BEFORE, None)
        query = f"?{carried.urlencode()}" if carried else ""
        exports = [address(self.admin_site, AuditEvent, "export", form) + query for form in ("csv", "jsonl")]
        context = dict(zip(("csv_url", "json_lines_url"), exports, strict=True))
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description=_("at"))
    def moment(self, event: AuditEvent) -> str:
        at = moments.local(event.at)
        parts = (date_format(at, "Y-m-d"), date_format(at, "H:i:s"))
        return format_html_join(" ", '<span class="keys-moment">{}</span>', ((part,) for part in parts))

    @admin.display(description=_("event"))
    def what(self, event: AuditEvent) -> str:
        return event_badge(event)

    @admin.display(description=_("key"), empty_value="-")
    def of_key(self, event: AuditEvent) -> str | None:
        if event.api_key is None:
            return event.key_name or None
        url = address(self.admin_site, APIKey, "change", event.api_key_id)
        return format_html('<a href="{}">{}</a>', url, event.key_name) if url else event.key_name

    @admin.display(description=_("owner"), empty_value="-")
    def owner_shown(self, event: AuditEvent) -> str | None:
        owner = getattr(event, "shown_owner", None)
        return event.owner or None if owner is None else owner.link

    @admin.display(description=_("what"))
    def subject(self, event: AuditEvent) -> str:
        return event_subject(event)

    @admin.display(description=_("detail"))
    def pruned(self, event: AuditEvent) -> str:
        return event_subject(event)

    @admin.display(description=_("changed"))
    def changed(self, event: AuditEvent) -> str:
        rows = format_html_join(
            "", '<tr><th scope="row">{}</th><td>{}</td><td>{}</td></tr>', (line[1:] for line in event.change_lines)
        )
        head = format_html(
            "<tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\">{}</th></tr>",
            _("field"), _("old value"), _("new value"),
        )  # fmt: skip
        return format_html('<table class="keys-table"><thead>{}</thead><tbody>{}</tbody></table>', head, rows)

    @admin.display(description=_("who"), empty_value="-")
    def who(self, event: AuditEvent) -> str | None:
        if event.is_from_many_networks:
            return str(_("many networks"))
        if event.address is None:
            return event.actor or None
        # Of a key that a service asked about: who presented it to the service.
        beside = event.actor or event.user_agent
        return format_html('{}<div class="keys-agent">{}</div>', event.address, beside)
