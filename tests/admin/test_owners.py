"""Owners in the admin: who may see whom, how one is found, and the way from an owner to the keys."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone

from keys.admin import APIKeyAdmin, AuditEventAdmin, OwnedKeysMixin
from keys.models import APIKey, AuditEvent
from keys.models.owners import ref_of
from tests.ownership import models
from tests.support.admin import ADD, DEACTIVATE, LIST, LOG, ROTATE, form_of, page_of, staff, text_of
from tests.support.crawling import links_of

pytestmark = pytest.mark.django_db

SEARCH = f"{LIST}owners/"
OFFICE = "/office/"
Mount = Callable[[dict[type[Model], type[Any]]], None]


@pytest.fixture
def owned(settings: Any) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "sessions.Session"]}


@pytest.fixture
def anna(owned: None) -> User:
    return User.objects.create_user("anna", "anna@example.org", first_name="Ann", last_name="Smith", pk=1234)


@pytest.fixture
def key(anna: User) -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"], owner_ref="auth.user:1234", note="Ask Ann.\nOPS-1")


@pytest.fixture
def mount(settings: Any) -> Mount:
    """Return a function that puts a site with these models beside Django's."""

    def mounted(models: dict[type[Model], type[Any]]) -> None:
        office = AdminSite(name="office")
        for model, model_admin in models.items():
            office.register(model, model_admin)
        settings.ROOT_URLCONF = (path("admin/", admin.site.urls), path("office/", office.urls))

    return mounted


def session(pk: str) -> Session:
    return Session.objects.create(session_key=pk, session_data="", expire_date=timezone.now())


def found(client: Client, text: str, url: str = SEARCH) -> list[str]:
    return [one["ref"] for one in client.post(url, {"q": text}).json()["found"]]


def names_in_list(client: Client, **query: str) -> list[str]:
    return sorted(key.name for key in client.get(LIST, query).context["cl"].result_list)


def test_without_owners_no_page_says_a_word_of_them(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS", note="A ticket")
    event = AuditEvent.objects.get()
    pages = [LIST, ADD, page_of(key), LOG, f"{LOG}{event.pk}/change/", f"{LOG}?event__exact=refused"]
    for page in (*pages, f"{ROTATE}?keys={key.pk}", f"{DEACTIVATE}?keys={key.pk}"):
        assert "owner" not in text_of(admin_client.get(page)).lower(), page
    assert found(admin_client, "admin") == []
    assert names_in_list(admin_client, q="admin") == []
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(LIST, {"q": "TTS"})
    assert not [query for query in queries if "auth_user" in query["sql"] and "LIKE" in query["sql"]]


def test_a_key_is_made_for_an_owner_and_changes_hands(admin_client: Client, anna: User) -> None:
    form = form_of(admin_client.get(f"{ADD}?owner=auth.user:1234&note=OPS-1"))
    assert form["owner_ref"] == ["auth.user:1234"]
    assert "will not be shown again" in text_of(admin_client.post(ADD, {**form, "name": "New"}))
    key = APIKey.objects.get()
    assert (key.owner, key.note) == (anna, "OPS-1")
    page = page_of(key)
    text = text_of(admin_client.get(page))
    assert '<a href="/admin/auth/user/1234/change/">anna</a>' in text
    form = form_of(admin_client.get(page))
    assert admin_client.post(page, {**form, "owner_ref": "", "note": "one\r\ntwo"}).status_code == 302
    event = AuditEvent.objects.filter(event="changed").get()
    assert event.changes == {"owner_ref": ["auth.user:1234", ""], "note": ["OPS-1", "one\\ntwo"]}
    # Browsers end the lines of a text in their own way, which is no change.
    form = form_of(admin_client.get(page))
    admin_client.post(page, {**form, "note": "one\r\ntwo", "name": "Renamed"})
    assert AuditEvent.objects.filter(event="changed").latest("id").detail == "name"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("auth.user:99", "There is no auth.user:99."),
        ("auth.group:1", "is no owner: write a model of auth.user, sessions.session"),
        ("auth.user:01234", "has no such primary key"),
        ("auth.user:4321", "auth.user:4321 is inactive, or may have no keys"),
        ("nobody of this name", "is no owner"),
        ("smith", "Write the reference of one of these: anna (auth.user:1234), bob (auth.user:4321)."),
    ],
)
def test_what_is_no_owner_is_an_error_of_the_form(admin_client: Client, anna: User, text: str, sentence: str) -> None:
    User.objects.create_user("bob", last_name="Smith", is_active=False, pk=4321)
    form = {**form_of(admin_client.get(ADD)), "name": "New"}
    assert sentence in text_of(admin_client.post(ADD, {**form, "owner_ref": text}))
    assert not APIKey.objects.exists()


def test_a_whole_name_is_enough_without_scripts(admin_client: Client, anna: User) -> None:
    User.objects.create_user("anna-maria")
    form = {**form_of(admin_client.get(ADD)), "name": "New"}
    admin_client.post(ADD, {**form, "owner_ref": "anna"})
    assert APIKey.objects.get().owner == anna


def test_the_projects_own_rule_is_asked(admin_client: Client, anna: User, settings: Any) -> None:
    form = {**form_of(admin_client.get(ADD)), "name": "New", "owner_ref": "auth.user:1234"}
    for rule, sentence in (("no", "may have no keys"), ("fails", "Nobody can say now")):
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": f"{__name__}.{rule}"}
        assert sentence in text_of(admin_client.post(ADD, form))
    assert not APIKey.objects.exists()


def no(owner: Model) -> bool:
    return False


def fails(owner: Model) -> bool:
    raise RuntimeError("The accounts cannot be reached.")


def test_a_key_whose_owner_is_gone_can_still_be_changed(admin_client: Client, key: APIKey) -> None:
    form = form_of(admin_client.get(page_of(key)))
    User.objects.filter(pk=1234)._raw_delete("default")
    assert "its owner is gone" in text_of(admin_client.get(page_of(key)))
    assert "the successor will be refused" in text_of(admin_client.get(f"{ROTATE}?keys={key.pk}"))
    assert admin_client.post(page_of(key), {**form, "name": "Renamed"}).status_code == 302
    assert APIKey.objects.get().name == "Renamed"


def test_an_old_page_brings_back_neither_owner_nor_note(admin_client: Client, key: APIKey, admin_user: User) -> None:
    form = form_of(admin_client.get(page_of(key)))
    APIKey.objects.update(owner_ref="", note="Ask Bob")
    assert admin_client.post(page_of(key), {**form, "name": "Renamed"}).status_code == 302
    now = APIKey.objects.get()
    assert (now.name, now.owner_ref, now.note) == ("Renamed", "", "Ask Bob")
    form |= {"owner_ref": f"auth.user:{admin_user.pk}", "note": "Mine"}
    answer = text_of(admin_client.post(page_of(key), form))
    assert answer.count("Somebody else has changed this since you opened the page") == 2
    assert APIKey.objects.get().note == "Ask Bob"


def test_owners_are_found_as_their_own_pages_find_them(admin_client: Client, anna: User) -> None:
    session("smith/1")
    assert found(admin_client, "smith") == ["auth.user:1234"]
    assert found(admin_client, "ANNA@example") == ["auth.user:1234"]
    assert found(admin_client, "auth.user:1234") == ["auth.user:1234"]
    # No pages, and no field that holds a name: by the primary key.
    assert found(admin_client, "smith/1") == ["sessions.session:smith/1"]
    for text in ("", "nobody", "x" * 5000, "a\x00b", "%", "0" * 40):
        assert found(admin_client, text) == []
    User.objects.bulk_create(User(username=f"many{number}") for number in range(30))
    answer = admin_client.post(SEARCH, {"q": "many"}).json()
    assert (len(answer["found"]), answer["more"]) == (20, True)
    assert admin_client.get(SEARCH, {"q": "anna"}).status_code == 405


def test_names_are_for_those_who_may_view_the_owners(key: APIKey) -> None:
    stranger = staff("view_apikey", "change_apikey", "add_apikey", "view_auditevent", username="carol")
    event = AuditEvent.objects.get()
    for page in (LIST, page_of(key), LOG, f"{LOG}{event.pk}/change/", f"{LIST}?owner=auth.user:1234"):
        text = text_of(stranger.get(page))
        assert "auth.user:1234" in text
        assert "anna" not in text
    for address in (LIST, LOG):
        assert not stranger.get(address, {"q": "smith"}).context["cl"].result_list
    assert found(stranger, "anna") == []
    form = {**form_of(stranger.get(ADD)), "name": "New"}
    assert "anna" not in text_of(stranger.post(ADD, {**form, "owner_ref": "anna"})).replace("“anna”", "").replace(
        'value="anna"', ""
    )
    stranger.post(ADD, {**form, "owner_ref": "auth.user:1234"})
    assert APIKey.objects.filter(owner_ref="auth.user:1234").count() == 2
    assert staff("view_apikey", "view_user", username="dave").post(SEARCH, {"q": "anna"}).status_code == 403
    assert found(staff("add_apikey", "view_user", username="erin"), "anna") == ["auth.user:1234"]


def test_staff_who_may_only_view_see_owner_and_note(key: APIKey) -> None:
    text = text_of(staff("view_apikey", "view_user").get(page_of(key)))
    assert '<a href="/admin/auth/user/1234/change/">anna</a>' in text
    assert "Ask Ann." in text
    assert "owner_ref" not in text


class SomeUsers(UserAdmin):  # type: ignore[type-arg]
    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).filter(username__startswith="b")


def test_owners_whom_the_projects_pages_hide_stay_hidden(admin_client: Client, key: APIKey, mount: Mount) -> None:
    mount({APIKey: APIKeyAdmin, User: SomeUsers})
    text = text_of(admin_client.get("/office/keys/apikey/"))
    assert "auth.user:1234" in text
    assert "anna" not in text
    assert found(admin_client, "smith", "/office/keys/apikey/owners/") == []


def test_the_list_is_searched_and_filtered_by_owner(admin_client: Client, key: APIKey) -> None:
    APIKey.objects.create(name="Nobody's")
    gone = APIKey.objects.create(name="Gone", owner_ref=ref_of(User.objects.create_user("gone")))
    User.objects.filter(username="gone")._raw_delete("default")
    APIKey.objects.create(name="Idle", owner_ref=ref_of(User.objects.create_user("idle", is_active=False)))
    for text in ("smith", "anna@example.org", "auth.user:1234"):
        assert names_in_list(admin_client, q=text) == ["TTS"]
    assert names_in_list(admin_client, owner="auth.user:1234") == ["TTS"]
    assert names_in_list(admin_client, owner="none") == ["Nobody's"]
    assert names_in_list(admin_client, owner="refused") == ["Gone", "Idle"]
    assert names_in_list(admin_client, owner="auth.user:77") == []
    for nonsense in ("nonsense", "auth.user:x", "x" * 5000):
        assert names_in_list(admin_client, owner=nonsense) == []
    for address in (LIST, LOG):
        assert admin_client.get(address, {"owner": "auth.user:\x00"}).status_code == 200
    text = text_of(admin_client.get(LIST))
    assert "?owner=auth.user%3A1234" in text
    assert f"{gone.owner_ref} <span" in text


def test_no_more_queries_for_more_owners(admin_client: Client, key: APIKey) -> None:
    pages = [LIST, LOG, f"{LIST}?q=smith", f"{LIST}?owner=refused"]
    few = []
    for page in pages:
        admin_client.get(page)
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page)
        few.append(len(queries))
    users = User.objects.bulk_create(User(username=f"user{number}", last_name="Smith") for number in range(600))
    APIKey.objects.bulk_create(APIKey(name=f"Key {user.pk}", owner_ref=ref_of(user)) for user in users)
    for page, before in zip(pages, few, strict=True):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page)
        assert len(queries) <= before + 1, page
    assert "More than 500 owners match" in text_of(admin_client.get(f"{LIST}?q=smith"))


def test_numbers_stay_whole_where_people_group_them(admin_client: Client, key: APIKey, settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR, settings.LANGUAGE_CODE = True, "de"
    event = AuditEvent.objects.get()
    for page in (LIST, page_of(key), LOG, f"{LOG}{event.pk}/change/", f"{LIST}?owner=auth.user:1234"):
        text = text_of(admin_client.get(page))
        assert "/admin/auth/user/1234/change/" in text
        assert "1.234" not in text


class Users(OwnedKeysMixin, UserAdmin):  # type: ignore[type-arg]
    pass


class Sessions(OwnedKeysMixin, ModelAdmin):  # type: ignore[type-arg]
    pass


class Placed(OwnedKeysMixin, ModelAdmin):  # type: ignore[type-arg]
    fields = ("username", "owned_keys")


EVERYTHING: dict[type[Model], type[Any]] = {
    APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin, User: Users, Session: Sessions,
}  # fmt: skip


def test_the_keys_are_one_click_from_their_owner(admin_client: Client, key: APIKey, mount: Mount) -> None:
    mount(EVERYTHING)
    APIKey.objects.create(name="Ended", owner_ref=key.owner_ref, is_active=False)
    page = "/office/auth/user/1234/change/"
    answer = admin_client.get(page)
    assert "1 accepted of 2" in text_of(answer)
    keys, add = (link for link in links_of(answer, page) if "owner=" in link)
    assert sorted(one.name for one in admin_client.get(keys).context["cl"].result_list) == ["Ended", "TTS"]
    assert form_of(admin_client.get(add))["owner_ref"] == ["auth.user:1234"]
    assert "owned_keys" not in text_of(admin_client.get("/office/auth/user/add/"))
    form = form_of(answer, "user_form")
    assert admin_client.post(page, {**form, "first_name": "Anne"}).status_code == 302, form


def test_an_owner_may_have_any_text_for_its_key(admin_client: Client, anna: User, mount: Mount) -> None:
    mount(EVERYTHING)
    owner = session("a/b_c d:é")
    APIKey.objects.create(name="TTS", owner_ref=ref_of(owner))
    (page,) = (
        link
        for link in links_of(admin_client.get("/office/keys/apikey/"), OFFICE)
        if "/session/" in link and "change" in link
    )
    answer = admin_client.get(page)
    (keys, _) = (link for link in links_of(answer, page) if "owner=" in link)
    assert [one.name for one in admin_client.get(keys).context["cl"].result_list] == ["TTS"]


@pytest.mark.parametrize("name", ["Company", "Shop", "Till", "Project", "Hotel"])
def test_an_owner_of_any_model_is_found_and_shown(admin_client: Client, settings: Any, mount: Mount, name: str) -> None:
    model: Any = getattr(models, name)
    settings.KEYS = {**settings.KEYS, "OWNERS": [f"ownership.{name}"]}
    given = {"Shop": {"code": "a/b_c"}, "Till": {"shop": models.Shop(code="a/b_c")}}.get(name, {})
    if name == "Till":
        given["shop"].save()
    owner = model.objects.create(**given)
    ref = ref_of(owner)
    APIKey.objects.create(name="TTS", owner_ref=ref)
    mount({APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin, model: Sessions})
    keys = "/office/keys/apikey/"
    (page,) = (link for link in links_of(admin_client.get(keys), keys) if "ownership" in link and "change" in link)
    (link, _) = (link for link in links_of(admin_client.get(page), page) if "owner=" in link)
    for query in (link, f"{keys}?{urlencode({'q': ref})}", f"{keys}?{urlencode({'q': owner.pk})}"):
        assert [key.name for key in admin_client.get(query).context["cl"].result_list] == ["TTS"], query
    assert found(admin_client, str(owner.pk), f"{keys}owners/") == [ref]


@pytest.mark.parametrize("pages", [Placed, Users])
def test_who_may_see_no_keys_sees_no_link_to_them(key: APIKey, mount: Mount, pages: type[Any]) -> None:
    mount({**EVERYTHING, User: pages})
    page = "/office/auth/user/1234/change/"
    without = staff("view_user", "change_user", username="carol").get(page)
    assert "owned_keys" not in text_of(without)
    assert "apikey" not in text_of(without)
    reader = staff("view_user", "view_apikey", username="dave").get(page)
    assert text_of(reader).count("1 accepted of 1") == 1
    assert not [link for link in links_of(reader, page) if "/apikey/add/" in link]


def test_the_link_leads_to_pages_that_are_not_ours_too(admin_client: Client, key: APIKey, mount: Mount) -> None:
    class OtherFilters(APIKeyAdmin):
        def get_list_filter(self, request: HttpRequest) -> Any:
            return ("is_active",)

    page = "/office/auth/user/1234/change/"
    APIKey.objects.create(name="Nobody's")
    for pages in (ModelAdmin, OtherFilters):
        mount({**EVERYTHING, APIKey: pages})
        keys, add = (link for link in links_of(admin_client.get(page), page) if "/apikey/?" in link or "owner" in link)
        assert [one.name for one in admin_client.get(keys).context["cl"].result_list] == ["TTS"]
        assert form_of(admin_client.get(add))["owner_ref"] == ["auth.user:1234"]
    mount({User: Users})
    assert "owned_keys" not in text_of(admin_client.get(page))


@pytest.fixture
def proxy() -> Iterator[type[APIKey]]:
    class PersonalKey(APIKey):
        class Meta:
            proxy = True
            app_label = "keys"

    yield PersonalKey
    del apps.all_models["keys"]["personalkey"]
    apps.clear_cache()


def test_a_site_may_have_a_subclass_of_keys_alone(
    admin_client: Client, key: APIKey, mount: Mount, proxy: type[APIKey]
) -> None:
    mount({proxy: APIKeyAdmin, User: Users})
    page = "/office/auth/user/1234/change/"
    links = [link for link in links_of(admin_client.get(page), page) if "owner=" in link]
    assert links == [f"/office/keys/personalkey/{end}?owner=auth.user%3A1234" for end in ("", "add/")]
    assert 'data-url="/office/keys/personalkey/owners/"' in text_of(admin_client.get(links[1]))
    assert found(admin_client, "smith", "/office/keys/personalkey/owners/") == ["auth.user:1234"]


def test_who_deletes_an_owner_is_told_which_keys_end(admin_client: Client, key: APIKey, mount: Mount) -> None:
    mount(EVERYTHING)
    other = User.objects.create_user("bob")
    APIKey.objects.create(name="Bob's", owner_ref=ref_of(other))
    page = "/office/auth/user/1234/delete/"
    assert f'<a href="/office/keys/apikey/{key.pk}/change/">TTS' in text_of(admin_client.get(page))
    assert "API keys that are refused from then on: 1" in text_of(admin_client.get(page))
    admin_client.post(page, {"post": "yes"})
    selected = {"action": "delete_selected", "_selected_action": [other.pk]}
    assert "Bob&#x27;s" in text_of(admin_client.post("/office/auth/user/", selected))
    admin_client.post("/office/auth/user/", {**selected, "post": "yes"})
    assert not APIKey.objects.accepted().exists()
    ends = AuditEvent.objects.filter(event="deactivated").order_by("id").values_list("actor", "owner", "detail")
    assert [*ends] == [
        ("user: admin", f"auth.user:{pk}", f"owner auth.user:{pk} was deleted") for pk in (1234, other.pk)
    ]


@pytest.mark.parametrize(("step", "event"), [(ROTATE, "rotated"), (DEACTIVATE, "deactivated")])
def test_a_reason_stands_in_the_event(admin_client: Client, step: str, event: str) -> None:
    key, other = (APIKey.objects.create(name=name) for name in ("One", "Two"))
    too_long = {"keys": f"{key.pk},{other.pk}", "grace": "0", "reason": "x" * 181}
    assert "at most 180 characters" in text_of(admin_client.post(step, too_long))
    assert not AuditEvent.objects.exclude(event="created").exists()
    admin_client.post(step, {**too_long, "reason": f"OPS-7: leaked {key.key}"})
    details = [*AuditEvent.objects.filter(event=event).order_by("id").values_list("detail", flat=True)]
    assert len(details) == 2
    assert all("OPS-7: leaked" in detail for detail in details)
    assert str(key.key) not in details[0]
    admin_client.post(step, {**too_long, "reason": ""})
    assert AuditEvent.objects.filter(event=event).count() == 2


def test_the_log_is_read_by_owner(admin_client: Client, key: APIKey) -> None:
    APIKey.objects.create(name="Nobody's")
    refused = AuditEvent.objects.create(
        at=timezone.now(), event="refused", reason="owner", api_key=key, key_name="TTS", owner="auth.user:1234"
    )
    for query in ({"owner": "auth.user:1234"}, {"q": "auth.user:1234"}, {"q": "smith"}):
        answer = admin_client.get(LOG, query)
        assert {event.key_name for event in answer.context["cl"].result_list} == {"TTS"}
        assert '<a href="/admin/auth/user/1234/change/">anna</a>' in text_of(answer)
        for form in ("csv", "jsonl"):
            rows = admin_client.get(f"{LOG}export/{form}/", query).getvalue().decode()
            assert "auth.user:1234" in rows
            assert "Nobody's" not in rows
    assert "owner gone or not allowed" in text_of(admin_client.get(LOG))
    event = text_of(admin_client.get(f"{LOG}{refused.pk}/change/"))
    assert '<a href="/admin/auth/user/1234/change/">anna</a>' in event
    # It stays when the owner is gone.
    User.objects.filter(pk=1234).delete()
    assert "auth.user:1234" in text_of(admin_client.get(f"{LOG}?owner=auth.user:1234"))
