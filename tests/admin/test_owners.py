"""Owners in the admin: who may see whom, how one is found, and the way from an owner to the keys."""

from typing import Any

import pytest
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.admin import APIKeyAdmin, owner_lookup, owner_pages
from keys.models import APIKey, AuditEvent
from keys.models.owners import ref_of
from tests.admin.conftest import Mount
from tests.support.admin import ADD, DEACTIVATE, LIST, LOG, ROTATE, form_of, page_of, staff, text_of

pytestmark = pytest.mark.django_db

SEARCH = f"{LIST}owners/"
OFFICE = "/office/"


@pytest.fixture
def owned(settings: Any) -> None:
    settings.KEYS = {**settings.KEYS, "OWNERS": ["auth.User", "sessions.Session"]}


@pytest.fixture
def anna(owned: None) -> User:
    return User.objects.create_user("anna", "anna@example.org", first_name="Ann", last_name="Smith", pk=1234)


@pytest.fixture
def key(anna: User) -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"], owner_ref="auth.user:1234", note="Ask Ann.\nOPS-1")


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
        (
            "auth.group:1",
            "is no owner: write a colon and a primary key after one of these: auth.user, sessions.session",
        ),
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
        settings.KEYS = {**settings.KEYS, "OWNER_IS_ALLOWED": f"tests.ownership.rules.{rule}"}
        assert sentence in text_of(admin_client.post(ADD, form))
    assert not APIKey.objects.exists()


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


@pytest.mark.matrix
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


def test_no_more_queries_for_more_owners(admin_client: Client, key: APIKey, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (owner_lookup, owner_pages):
        monkeypatch.setattr(module, "COMPARED", 20)
    pages = [LIST, LOG, f"{LIST}?q=smith", f"{LIST}?owner=refused"]
    few = []
    for page in pages:
        admin_client.get(page)
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page)
        few.append(len(queries))
    users = User.objects.bulk_create(User(username=f"user{number}", last_name="Smith") for number in range(30))
    APIKey.objects.bulk_create(APIKey(name=f"Key {user.pk}", owner_ref=ref_of(user)) for user in users)
    for page, before in zip(pages, few, strict=True):
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(page)
        assert len(queries) <= before + 1, page
    assert "More than 20 owners match" in text_of(admin_client.get(f"{LIST}?q=smith"))


def test_numbers_stay_whole_where_people_group_them(admin_client: Client, key: APIKey, settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR, settings.LANGUAGE_CODE = True, "de"
    event = AuditEvent.objects.get()
    for page in (LIST, page_of(key), LOG, f"{LOG}{event.pk}/change/", f"{LIST}?owner=auth.user:1234"):
        text = text_of(admin_client.get(page))
        assert "/admin/auth/user/1234/change/" in text
        assert "1.234" not in text


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
