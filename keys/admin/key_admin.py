"""The keys' pages: create (shown once), list, change, rotate, end."""

from contextlib import nullcontext
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import moments
from ..audit.reports import retirement
from ..models import APIKey, AuditEvent, StaleKeyError, owners
from ..models.audit_event import TRAFFIC
from ..models.key_origin import origins_of
from . import activity, charts, reveal, steps
from .columns import KeyChangeList, KeyColumns
from .filters import AgeFilter, ScopeFilter, StateFilter, UseFilter
from .finding import SecretSafeSearch
from .forms import AddKeyForm, ChangeKeyForm, ListedKeyForm
from .owner_filters import OwnerFilter
from .owner_pages import SEARCH_HELP, OwnerPages
from .pages import Pages, address
from .steps import LifeCycleSteps, acting, in_transactions

# On a key's page: days, rows counted of one day, requests, and life-cycle events.
DAYS, A_DAY, EVENTS, STEPS = 30, 5000, 15, 10


@admin.register(APIKey)
class APIKeyAdmin(OwnerPages, SecretSafeSearch, LifeCycleSteps, KeyColumns, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display: Any = (
        "name",
        "owner_shown",
        "visible_prefix",
        "state_shown",
        "scopes_shown",
        "last_use",
        "last_days",
        "came_from",
    )
    list_filter = (StateFilter, OwnerFilter, ScopeFilter, UseFilter, AgeFilter)
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "prefix__istartswith")
    search_help_text = SEARCH_HELP
    actions: Any = ("rotate_selected", "deactivate_selected")
    actions_selection_counter = True
    form = ChangeKeyForm
    add_form = AddKeyForm

    class Media:
        css = {"all": ("keys/admin.css",)}

    def __init__(self, model: Any, admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        if model is not APIKey:
            # Django looks for templates by the model's name: those of a project's proxy, and then ours.
            places = [f"admin/{self.opts.app_label}/{self.opts.model_name}", f"admin/{self.opts.app_label}"]
            for page in ("change_form", "change_list", "delete_confirmation", "delete_selected_confirmation"):
                templates = [f"{place}/{page}.html" for place in (*places, "admin/keys/apikey")]
                setattr(self, f"{page}_template", getattr(self, f"{page}_template") or templates)

    def address_of(self, key: APIKey) -> str:
        return address(self.admin_site, self.opts.model, "change", key.pk)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeyChangeList]:
        return KeyChangeList

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        if self.fieldsets or self.fields:  # of a project's subclass
            return super().get_fieldsets(request, obj)
        if obj is None:
            first, limits = ["name", "owner_ref", "note", "scopes"], ["lifetime", "expires_at", "allowed_ips", "rate"]
        elif self.has_change_permission(request, obj):
            first = ["name", "is_active", "owner_ref", "note", "scopes"]
            limits = ["expires_at", "allowed_ips", "rate"]
        else:
            first = ["name", "is_active", "owner_shown", "note", "scopes_shown"]
            limits = ["expires_at", "networks_shown", "rate"]
        hidden = {*(self.get_exclude(request, obj) or ()), *(() if owners.are_on() else ("owner_ref", "owner_shown"))}
        sections = [(None, first), (gettext_lazy("Limits"), limits)]
        return [(title, {"fields": [name for name in names if name not in hidden]}) for title, names in sections]

    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        own = super().get_readonly_fields(request, obj)
        may_change = obj is None or self.has_change_permission(request, obj)
        return own if may_change else (*own, "owner_shown", "scopes_shown", "networks_shown")

    def get_form(self, request: HttpRequest, obj: APIKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        defaults: dict[str, Any] = {}
        if obj is None:
            defaults["form"] = self.add_form
        elif not self.has_change_permission(request, obj):
            defaults["form"] = forms.ModelForm
        return super().get_form(request, obj, change, **{**defaults, **kwargs})

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{"form": ListedKeyForm, **kwargs})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # A project's subclass may change keys there: by `list_editable`, or by actions of its own.
        with acting(request):
            return super().changelist_view(request, extra_context)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Read initial values from the URL, e.g. `?name=TTS&scopes=users:read&scopes=employees:read`."""
        initial: dict[str, Any] = self.owner_in_address(request)
        initial |= {name: request.GET[name] for name in ("name", "note", "rate") if name in request.GET}
        return initial | ({"scopes": request.GET.getlist("scopes")} if "scopes" in request.GET else {})

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Create one key for each rendering of the form, however often it is sent."""
        if request.method != "POST":
            return super().add_view(request, form_url, extra_context)
        with in_transactions():
            if (entry := self._made_before(request)) is not None:
                key = APIKey.objects.filter(pk=str(entry.object_id)).first()
                url = Pages(self.admin_site, request, self.opts.model).key(key.pk) if key is not None else ""
                context = {"title": _("No second key was made"), "entry": entry, "key": key, "key_url": url}
                return reveal.answer(self, request, "admin/keys/apikey/made_before.html", context)
            return super().add_view(request, form_url, extra_context)

    def _made_before(self, request: HttpRequest) -> LogEntry | None:
        """Return the admin's history entry of the key that this rendering of the form created; None if there is none.

        A program that sends no `form_id` may send as often as it likes.
        """
        try:
            form_id = UUID(request.POST.get("form_id", ""))
        except ValueError:
            return None
        # Lock the person's row, so that the second of two simultaneous clicks finds the first one's key.
        users: Any = get_user_model()
        rows = users._default_manager.using(router.db_for_write(users)).select_for_update()
        rows.filter(pk__in=[request.user.pk]).first()
        additions = LogEntry.objects.using(router.db_for_write(LogEntry)).filter(user=request.user.pk)
        kind = ContentType.objects.get_for_model(self.model, for_concrete_model=False).pk
        additions = additions.filter(action_flag=ADDITION, content_type=kind)
        return additions.filter(change_message__contains=f'"{form_id}"').first()

    def construct_change_message(self, request: Any, form: Any, formsets: Any, add: bool = False) -> Any:
        message = super().construct_change_message(request, form, formsets, add)
        if add and form.cleaned_data.get("form_id"):
            # Django shows `added` and ignores the rest.
            return [{**message[0], "form_id": str(form.cleaned_data["form_id"])}, *message[1:]]
        return message

    def response_add(self, request: HttpRequest, obj: APIKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key in this answer, whichever button was pressed: a redirect would have to store it somewhere."""
        return reveal.page(self, request, [reveal.Revealed(obj)], title=_("Your new API key"))

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            # To read a page needs no transaction.
            with in_transactions() if request.method == "POST" else nullcontext(), acting(request):
                return super().changeform_view(request, object_id, form_url, extra_context)
        except StaleKeyError:
            # The form compared with the row it read; somebody changed the row after that.
            messages.error(request, _("Somebody else changed the same field while you saved. Nothing was saved."))
            return HttpResponseRedirect(request.get_full_path())

    def render_change_form(
        self, request: HttpRequest, context: Any, add: bool = False, change: bool = False, form_url: str = "",
        obj: APIKey | None = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            context |= _page_context(self, request, obj)
        # The answer shows the key, so there is no next form.
        context |= {"show_save_and_add_another": False, "show_save_and_continue": change and obj is not None}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        # Django writes into its history what an action is about to delete.
        with in_transactions():
            return super().response_action(request, *args, **kwargs)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        with in_transactions() if request.method == "POST" else nullcontext():
            return super().delete_view(request, object_id, extra_context)

    def delete_model(self, request: HttpRequest, obj: APIKey) -> None:
        with acting(request):
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        with acting(request):
            super().delete_queryset(request, queryset)


def _page_context(admin: Any, request: HttpRequest, key: APIKey) -> dict[str, Any]:
    """Return what the template of a key's page needs beside the form, from a fixed number of queries."""
    recent = activity.by_day([key.pk], DAYS, A_DAY)[key.pk]
    since = moments.start_of(activity.first_day(DAYS))
    pages = Pages(admin.admin_site, request, admin.opts.model)
    events = AuditEvent.objects.written().filter(api_key=key.pk).order_by("-at", "-id")
    may_rotate = steps.can_be_rotated(key) and admin.has_rotate_permission(request, key)
    may_deactivate = admin.has_change_permission(request, key) and key.is_active
    return {
        "pages": pages,
        "recent": recent,
        "chart": charts.chart(recent.days, 600, 120, gap=4),
        "sample": activity.sample(key.pk, since),
        "sample_size": activity.SAMPLE,
        "requests": events.filter(event__in=TRAFFIC)[:EVENTS] if pages.may_read_log else (),
        "steps": events.steps()[:STEPS],
        "counted_a_day": A_DAY,
        "retirement": retirement(key),
        "origins": origins_of([key.pk]).get(key.pk, []),
        "owner_refuses": not key.objection and steps.is_refused_with_owner(key),
        "predecessor": APIKey.objects.filter(replaced_by=key.pk).first(),
        "log_url": pages.log(key.pk),
        "usage_url": pages.usage_of(key.pk),
        "rotate_url": pages.step("rotate", key.pk) if may_rotate else "",
        "deactivate_url": pages.step("deactivate", key.pk) if may_deactivate else "",
        "count_command": f"python manage.py keys_usage --key {key.pk}",
    }
