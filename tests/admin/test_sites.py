"""Sites that have the keys, the log, or pages of their own in the place of ours: links lead where there is a page."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import User
from django.db.models import Model
from django.http.response import HttpResponseBase
from django.test import Client
from django.utils import timezone

from keys.admin import APIKeyAdmin, AuditEventAdmin
from keys.models import APIKey, AuditEvent
from tests.admin.conftest import Mount
from tests.support.admin import form_of, staff, text_of
from tests.support.crawling import crawl, links_of

pytestmark = [pytest.mark.matrix, pytest.mark.django_db]

OFFICE = "/office/keys/"
KEYS, LOG = f"{OFFICE}apikey/", f"{OFFICE}auditevent/"


@pytest.fixture
def key() -> APIKey:
    made = APIKey.objects.create(name="TTS", scopes=["users:read"])
    AuditEvent.objects.create(
        at=timezone.now(), event="used", api_key=made, key_name="TTS", method="GET", path="/", address="10.0.0.1"
    )
    return made


def links_to(address: str, pages: Iterator[tuple[str, HttpResponseBase]]) -> set[str]:
    """Open the pages, of which each must be there; return their links that begin with the address."""
    found = set()
    for page, response in pages:
        assert response.status_code == 200, page
        if not response.streaming:
            found |= {link for link in links_of(response, page) if link.startswith(address)}
    return found


def test_a_site_with_the_keys_alone_has_every_page_of_keys_and_no_link_to_the_log(
    admin_client: Client, mount: Mount, key: APIKey
) -> None:
    mount({APIKey: APIKeyAdmin})
    starts = [KEYS, f"{KEYS}{key.pk}/change/", f"{KEYS}rotate/?keys={key.pk}", f"{KEYS}deactivate/?keys={key.pk}"]
    links = links_to("/", crawl(admin_client, *starts, within=OFFICE))
    assert {*starts} <= links
    assert not [link for link in links if "auditevent" in link or link.startswith("/admin/")]


def test_every_step_can_be_taken_on_a_site_with_the_keys_alone(admin_client: Client, mount: Mount, key: APIKey) -> None:
    mount({APIKey: APIKeyAdmin})
    data = {**form_of(admin_client.get(f"{KEYS}add/")), "name": "New"}
    for answer in (admin_client.post(f"{KEYS}add/", data), admin_client.post(f"{KEYS}add/", data)):
        made = APIKey.objects.get(name="New")
        assert f"{KEYS}{made.pk}/change/" in links_of(answer, KEYS)
    rotated = admin_client.post(f"{KEYS}rotate/", {"keys": key.pk, "grace": "0"})
    key.refresh_from_db()
    assert f"{KEYS}{key.replaced_by_id}/change/" in links_of(rotated, KEYS)
    ended = admin_client.post(f"{KEYS}deactivate/", {"keys": made.pk})
    assert ended["Location"] == KEYS
    assert admin_client.post(f"{KEYS}search/", {"q": made.prefix})["Location"] == f"{KEYS}?q={made.prefix}"


def test_a_site_with_the_log_alone_names_keys_without_a_link(admin_client: Client, mount: Mount, key: APIKey) -> None:
    mount({AuditEvent: AuditEventAdmin})
    event = AuditEvent.objects.filter(event="used").get()
    starts = [LOG, f"{LOG}{event.pk}/change/", f"{LOG}usage/", f"{LOG}?key={key.pk}"]
    links = links_to("/", crawl(admin_client, *starts, within=OFFICE))
    assert f"{LOG}export/csv/" in links
    assert not [link for link in links if "apikey" in link or link.startswith("/admin/")]
    for start in starts:
        assert "TTS" in text_of(admin_client.get(start))


@pytest.mark.parametrize("plain", [APIKey, AuditEvent])
def test_a_projects_own_pages_in_the_place_of_ours_are_linked_as_far_as_they_go(
    admin_client: Client, mount: Mount, key: APIKey, plain: type[Model]
) -> None:
    mount({APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin, plain: ModelAdmin})
    ours = LOG if plain is APIKey else KEYS
    links = links_to("/", crawl(admin_client, ours, within=OFFICE))
    theirs = f"{KEYS}{key.pk}/change/" if plain is APIKey else f"{LOG}?key={key.pk}"
    assert (theirs in links) == (plain is APIKey)
    assert not [link for link in links if link.startswith("/admin/")]


def test_both_sites_link_to_themselves(admin_client: Client, mount: Mount, key: APIKey) -> None:
    mount({APIKey: APIKeyAdmin, AuditEvent: AuditEventAdmin})
    for site, other in (("/office/", "/admin/"), ("/admin/", "/office/")):
        starts = [f"{site}keys/apikey/{key.pk}/change/", f"{site}keys/auditevent/usage/"]
        links = links_to("/", crawl(admin_client, *starts, within=f"{site}keys/"))
        assert f"{site}keys/auditevent/?key={key.pk}" in links
        assert not [link for link in links if link.startswith(other)]


def test_a_link_is_there_for_those_who_may_open_it(key: APIKey) -> None:
    page, usage = f"/admin/keys/apikey/{key.pk}/change/", "/admin/keys/auditevent/usage/"
    sees_keys = links_of(staff("view_apikey").get(page), page)
    assert not [link for link in sees_keys if "auditevent" in link or "add" in link or "keys=" in link]
    sees_log = links_of(staff("view_auditevent", username="bob").get(usage), usage)
    assert not [link for link in sees_log if "apikey" in link]
    adds = staff("add_apikey", username="carol")
    add = "/admin/keys/apikey/add/"
    data = {**form_of(adds.get(add)), "name": "New"}
    for _ in range(2):
        answer = adds.post(add, data)
        assert answer.status_code == 200
        assert not [link for link in links_of(answer, add) if "/change/" in link]


def test_a_class_of_the_projects_own_decides_who_sees_the_links(admin_user: User, mount: Mount, key: APIKey) -> None:
    class NobodyReads(AuditEventAdmin):
        def has_view_permission(self, request: Any, obj: Any = None) -> bool:
            return False

    mount({APIKey: APIKeyAdmin, AuditEvent: NobodyReads})
    client = Client()
    client.force_login(admin_user)
    page = f"{KEYS}{key.pk}/change/"
    assert not [link for link in links_of(client.get(page), page) if "auditevent" in link]
    assert not [link for link in links_of(client.get(KEYS), KEYS) if "auditevent/usage" in link]


def test_the_only_search_box_sends_a_post(admin_client: Client) -> None:
    for address in ("/admin/keys/apikey/", "/admin/keys/auditevent/"):
        text = text_of(admin_client.get(address))
        assert text.count('name="q"') == 1
        assert 'id="changelist-search"' not in text
