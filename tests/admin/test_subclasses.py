"""A project's subclass of our pages: what it says of fields, lists and rights holds, and our promises go on."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from django.urls import path
from django.utils import timezone

from keys.admin import APIKeyAdmin, AuditEventAdmin
from keys.admin.forms import ChangeKeyForm
from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, USAGE, form_of, forms_of, page_of, staff, text_of
from tests.support.crawling import links_of

pytestmark = pytest.mark.django_db

KEYS = "/office/keys/apikey/"

Mount = Callable[..., None]


@pytest.fixture
def mount(settings: Any) -> Mount:
    """Return a function that puts a site with these pages beside Django's."""

    def mounted(keys: type[APIKeyAdmin], log: type[AuditEventAdmin] = AuditEventAdmin) -> None:
        office = AdminSite(name="office")
        office.register(APIKey, keys)
        office.register(AuditEvent, log)
        settings.ROOT_URLCONF = (path("admin/", admin.site.urls), path("office/", office.urls))

    return mounted


@pytest.fixture
def key() -> APIKey:
    soon = timezone.now() + timedelta(days=40)
    return APIKey.objects.create(name="TTS", scopes=["users:read"], allowed_ips=["10.0.0.0/8"], expires_at=soon)


class ReadOnlyRate(APIKeyAdmin):
    readonly_fields = ("rate",)


class ReadOnlyLimits(APIKeyAdmin):
    def get_readonly_fields(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), "expires_at", "allowed_ips", "scopes", "rate")


class MoreColumnsOnThePage(APIKeyAdmin):
    readonly_fields = ("rate", "created_at", "scopes_shown", "shouted")

    def get_fieldsets(self, request: HttpRequest, obj: APIKey | None = None) -> Any:
        more = {"fields": ["created_at", "scopes_shown", "shouted"]}
        return [*super().get_fieldsets(request, obj), *([("More", more)] if obj else [])]

    def shouted(self, key: APIKey) -> str:
        return key.name.upper()


class NameAlone(APIKeyAdmin):
    fieldsets = [(None, {"fields": ["name"]})]


class NameAsFields(APIKeyAdmin):
    fields = ("name",)


class WithoutRate(APIKeyAdmin):
    exclude = ("rate",)


@pytest.mark.parametrize(
    "pages", [ReadOnlyRate, ReadOnlyLimits, MoreColumnsOnThePage, NameAlone, NameAsFields, WithoutRate]
)
def test_fields_that_are_not_to_be_changed_are_not(
    admin_client: Client, mount: Mount, key: APIKey, pages: type[APIKeyAdmin]
) -> None:
    mount(pages)
    page = f"{KEYS}{key.pk}/change/"
    form = form_of(admin_client.get(page))
    assert "rate" not in form
    answer = admin_client.post(page, {**form, "name": "Renamed", "rate": "1/day"})
    assert answer.status_code == 302, text_of(answer)
    now = APIKey.objects.get()
    assert (now.name, now.rate, now.scopes) == ("Renamed", "", key.scopes)
    assert (now.allowed_ips, now.expires_at) == (key.allowed_ips, key.expires_at)
    made = admin_client.post(
        f"{KEYS}add/", {**form_of(admin_client.get(f"{KEYS}add/")), "name": "New", "rate": "1/day"}
    )
    assert "will not be shown again" in text_of(made)
    assert APIKey.objects.get(name="New").rate == ""


def test_a_lifetime_holds_where_the_form_offers_nothing_else(admin_client: Client, mount: Mount) -> None:
    class DaysAlone(APIKeyAdmin):
        fieldsets = [(None, {"fields": ["name", "lifetime"]})]

    mount(DaysAlone)
    form = form_of(admin_client.get(f"{KEYS}add/"))
    admin_client.post(f"{KEYS}add/", {**form, "name": "New", "lifetime": "30"})
    expires_at = APIKey.objects.get().expires_at
    assert expires_at is not None
    assert expires_at <= timezone.now() + timedelta(days=30)


def test_a_form_of_the_projects_own_is_used(admin_client: Client, mount: Mount, key: APIKey) -> None:
    class Shouting(ChangeKeyForm):
        def clean_name(self) -> str:
            return str(self.cleaned_data["name"]).upper()

    class WithForm(APIKeyAdmin):
        form = Shouting

    mount(WithForm)
    page = f"{KEYS}{key.pk}/change/"
    admin_client.post(page, {**form_of(admin_client.get(page)), "name": "renamed"})
    assert APIKey.objects.get().name == "RENAMED"


class OtherList(APIKeyAdmin):
    list_display = ("name", "last_use", "last_days")
    actions = None

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return ChangeList


class OtherKeys(APIKeyAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[APIKey]:
        return APIKey.objects.filter(name__startswith="T")


class OtherBoth(OtherList, OtherKeys):
    pass


@pytest.mark.parametrize("pages", [OtherList, OtherKeys, OtherBoth])
def test_a_list_of_the_projects_own_shows_our_columns(
    admin_client: Client, mount: Mount, key: APIKey, pages: type[APIKeyAdmin]
) -> None:
    AuditEvent.objects.create(at=timezone.now(), event="used", api_key=key, method="GET", path="/")
    mount(pages)
    text = text_of(admin_client.get(KEYS))
    assert "just now" in text
    assert "1 use" in text
    if pages is not OtherBoth:
        assert admin_client.get(f"{KEYS}?o=2").status_code == 200
        assert admin_client.get(f"{KEYS}?o=5").status_code == 200


@pytest.mark.parametrize("step", ["rotate", "deactivate"])
def test_nobody_ends_a_key_that_the_list_does_not_show(
    admin_client: Client, mount: Mount, key: APIKey, step: str
) -> None:
    other = APIKey.objects.create(name="Other")
    mount(OtherKeys)
    assert admin_client.get(f"{KEYS}{step}/", {"keys": other.pk}).status_code == 404
    assert admin_client.post(f"{KEYS}{step}/", {"keys": other.pk, "grace": "0"}).status_code == 404
    assert admin_client.post(f"{KEYS}{step}/", {"keys": f"{key.pk},{other.pk}", "grace": "0"}).status_code in {200, 302}
    assert list(APIKey.objects.accepted().values_list("name", flat=True)) in (["Other"], ["Other", "TTS"])
    other.refresh_from_db()
    assert other.replaced_by is None
    assert "Other" not in text_of(admin_client.get(f"{KEYS}{step}/", {"keys": f"{key.pk},{other.pk}"}))


class Editable(APIKeyAdmin):
    list_display = ("name", "is_active", "rate", "last_use", "last_days")
    list_editable = ("is_active", "rate")


def test_an_old_list_brings_nothing_back(admin_client: Client, mount: Mount, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other")
    mount(Editable)
    form = form_of(admin_client.get(KEYS), "changelist-form")
    key.deactivate()
    rows = {name: "5/min" for name in form if name.endswith("-rate") and not name.startswith("initial")}
    answer = admin_client.post(KEYS, {**form, **rows, "_save": "Save"})
    assert answer.status_code == 302, text_of(answer)
    found = dict(APIKey.objects.values_list("name", "is_active"))
    assert found == {"TTS": False, "Other": True}
    assert {*APIKey.objects.values_list("rate", flat=True)} == {"5/min"}
    del form[
        next(name for name in form if form[name] == ["on"] and form[name.replace("is_active", "id")] == [str(other.pk)])
    ]
    admin_client.post(KEYS, {**form, **rows, "_save": "Save"})
    assert not APIKey.objects.accepted().exists()
    assert {*AuditEvent.objects.filter(api_key=other).exclude(event="created").values_list("actor", flat=True)} == {
        "user: admin"
    }


def test_an_action_of_the_projects_own_names_who_took_it(admin_client: Client, mount: Mount, key: APIKey) -> None:
    class Ending(APIKeyAdmin):
        actions = ("end",)

        def end(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
            queryset.update(is_active=False)

    mount(Ending)
    admin_client.post(KEYS, {"action": "end", "_selected_action": [str(key.pk)]})
    assert AuditEvent.objects.get(event="deactivated").actor == "user: admin"


def test_requests_are_shown_to_those_who_may_open_the_log(admin_client: Client, mount: Mount, key: APIKey) -> None:
    class NobodyReads(AuditEventAdmin):
        def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
            return False

    AuditEvent.objects.create(at=timezone.now(), event="used", api_key=key, method="GET", path="/")
    mount(APIKeyAdmin, NobodyReads)
    assert "Latest requests" not in text_of(admin_client.get(f"{KEYS}{key.pk}/change/"))
    assert "Latest requests" in text_of(admin_client.get(page_of(key)))


def test_the_order_by_last_use_is_that_of_the_column_that_each_person_has(
    admin_client: Client, mount: Mount, key: APIKey
) -> None:
    APIKey.objects.bulk_create(APIKey(name=f"Unused {number}") for number in range(51))
    columns = {}
    for name, client in {"boss": admin_client, "reader": staff("view_apikey", "view_auditevent")}.items():
        (link,) = [link for link in links_of(client.get(USAGE), USAGE) if "apikey/?o=" in link]
        assert "column-last_use" in (text := text_of(client.get(link)))
        assert "sorted ascending" in text.partition("column-last_use")[2][:20]
        columns[name] = link
    assert columns["boss"] != columns["reader"]


def test_a_moment_is_read_as_browsers_send_it(admin_client: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE = "hi"  # a language without formats of its own
    settings.DATE_INPUT_FORMATS, settings.TIME_INPUT_FORMATS = ["%d/%m/%Y"], ["%I:%M %p"]
    form = {**form_of(admin_client.get(ADD)), "name": "New"}
    answer = admin_client.post(ADD, {**form, "expires_at_0": "2030-02-01", "expires_at_1": "10:30"})
    made = APIKey.objects.get(), answer.status_code
    assert (f"{made[0].expires_at:%Y-%m-%d %H:%M}", made[1]) == ("2030-02-01 10:30", 200)
    page = page_of(made[0])
    assert admin_client.post(page, {**form_of(admin_client.get(page)), "name": "Renamed"}).status_code == 302


def test_those_who_see_a_part_of_the_log_learn_of_no_other_key(admin_client: Client, mount: Mount, key: APIKey) -> None:
    class OwnLog(AuditEventAdmin):
        def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
            return super().get_queryset(request).filter(key_name__startswith="T")

    other = APIKey.objects.create(name="Other")
    mount(OtherKeys, OwnLog)
    log = "/office/keys/auditevent/"
    pages = [KEYS, f"{KEYS}{key.pk}/change/", log, f"{log}?key={other.pk}", f"{log}export/csv/"]
    for page in pages:
        answer = admin_client.get(page)
        assert answer.status_code == 200
        assert b"Other" not in answer.getvalue()
        if not answer.streaming:
            assert not [link for link in links_of(answer, page) if "/usage/" in link]
    assert f"{log}?key={key.pk}" in links_of(admin_client.get(pages[1]), pages[1])
    assert admin_client.get(f"{log}usage/").status_code == 403
    assert admin_client.get(f"{log}usage/?key={other.pk}").status_code == 403


@pytest.fixture
def proxy() -> Iterator[type[APIKey]]:
    class PartnerKey(APIKey):
        class Meta:
            proxy = True
            app_label = "keys"

    yield PartnerKey
    del apps.all_models["keys"]["partnerkey"]
    apps.clear_cache()


def test_a_proxy_of_the_model_has_our_pages_under_its_own_addresses(
    admin_client: Client, settings: Any, proxy: type[APIKey]
) -> None:
    office = AdminSite(name="office")
    office.register(APIKey, APIKeyAdmin)
    office.register(proxy, APIKeyAdmin)
    settings.ROOT_URLCONF = (path("office/", office.urls),)
    partners = "/office/keys/partnerkey/"
    form = {**form_of(admin_client.get(f"{partners}add/"), "partnerkey_form"), "name": "New"}
    for _ in range(2):
        admin_client.post(f"{partners}add/", form)
    made = APIKey.objects.get()
    page = f"{partners}{made.pk}/change/"
    steps = [f"{partners}{step}/?keys={made.pk}" for step in ("rotate", "deactivate")]
    assert [link for link in links_of(admin_client.get(page), page) if "keys=" in link] == steps
    assert "opened_with" in form_of(admin_client.get(page), "partnerkey_form")
    for step in steps:
        question = next(form for form in forms_of(admin_client.get(step)) if "keys" in form.fields)
        assert question.action == step.partition("?")[0]
    assert f"{partners}add/" in links_of(admin_client.get(partners), partners)
    rotated = admin_client.post(f"{partners}rotate/", {"keys": made.pk, "grace": "0"})
    assert [link for link in links_of(rotated, partners) if link.endswith("/change/") and partners in link]
