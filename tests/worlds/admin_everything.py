"""What must be on the pages of a theme or of another site: each thing is found in the page, and used from there."""

import html
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory, override_settings
from django.urls import reverse
from django.utils import timezone

from keys.admin import OwnedKeysMixin
from keys.models import APIKey, AuditEvent
from tests.support.admin import forms_of, text_of
from tests.support.crawling import crawl, links_of

Step = tuple[str, Callable[[], None]]


def steps(site: str = "admin") -> Iterator[Step]:
    """Yield the steps for a site with the keys and the log."""
    # First, as the log's filter offers keys only while they are few.
    yield "log", lambda: log(site)
    yield "list of keys", lambda: list_of_keys(site)
    yield "search for a key", lambda: search(site, "apikey")
    yield "page of a key", lambda: page_of_a_key(site)
    yield "search in the log", lambda: search(site, "auditevent")
    yield "older events", lambda: older_events(site)
    yield "links", lambda: links(site)
    yield "owners", lambda: owners(site)


def browser() -> Client:
    users: Any = get_user_model().objects
    boss = users.filter(username="boss").first() or users.create_superuser("boss", "boss@example.org", "secret")
    client = Client()
    client.force_login(boss)
    return client


def opened(client: Client, address: str) -> HttpResponseBase:
    response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    return response


def has_links(response: HttpResponseBase, address: str, *targets: str) -> None:
    found = links_of(response, address)
    assert not {*targets} - {*found}, ({*targets} - {*found}, found)


def filters(response: HttpResponseBase, *names: str) -> None:
    """Each filter can be chosen: by a link, or by an option of a form."""
    text = html.unescape(text_of(response))
    missing = [name for name in names if f"{name}=" not in text and f'data-name="{name}' not in text]
    assert not missing, missing


def list_of_keys(site: str) -> None:
    APIKey.objects.create(name="Listed")
    client, address = browser(), reverse(f"{site}:keys_apikey_changelist")
    page = opened(client, address)
    has_links(page, address, reverse(f"{site}:keys_apikey_add"), reverse(f"{site}:keys_auditevent_usage"))
    filters(page, "state", "scope", "use", "age")
    assert "rotate_selected" in text_of(page)
    assert "deactivate_selected" in text_of(page)


def search(site: str, model: str) -> None:
    """There is one search box; it finds a text and a whole key, and the key gets into no address."""
    key = APIKey.objects.create(name="Sought")
    client, address = browser(), reverse(f"{site}:keys_{model}_changelist")
    boxes = [form for form in forms_of(opened(client, address)) if "q" in form.fields]
    assert [box.action for box in boxes] == [reverse(f"{site}:keys_{model}_search")], boxes
    box = boxes[0]
    found = client.post(box.action, {**box.fields, "q": "Sought"}, follow=True)
    assert (found.status_code, "Sought" in text_of(found)) == (200, True)
    found = client.post(box.action, {**box.fields, "q": key.key}, follow=True)
    assert found.status_code == 200
    assert str(key.key) not in str(found.redirect_chain)
    assert str(key.pk) in str(found.redirect_chain)


def page_of_a_key(site: str) -> None:
    key = APIKey.objects.create(name="Looked at")
    AuditEvent.objects.create(at=timezone.now(), event="used", api_key=key, key_name=key.name, method="GET", path="/x/")
    client, address = browser(), reverse(f"{site}:keys_apikey_change", args=[key.pk])
    page = opened(client, address)
    steps = [f"{reverse(f'{site}:keys_apikey_{step}')}?keys={key.pk}" for step in ("rotate", "deactivate")]
    log, usage = (reverse(f"{site}:keys_auditevent_{name}") for name in ("changelist", "usage"))
    has_links(page, address, *steps, f"{log}?key={key.pk}", f"{usage}?key={key.pk}")
    text = text_of(page)
    for part in ("keys-summary", "keys-chart", "keys-traces", 'name="opened_with"', 'name="_save"'):
        assert part in text, part


def owners(site: str) -> None:
    """The owner is on the pages of a key and of the log, is found, and leads to the keys."""
    client = browser()
    users: Any = get_user_model()
    owner = users.objects.create_superuser("olivia", "olivia@example.org", "secret")
    ref = f"{users._meta.label_lower}:{owner.pk}"
    with override_settings(KEYS={**settings.KEYS, "OWNERS": [users._meta.label]}):
        key = APIKey.objects.create(name="Owned", owner_ref=ref, note="Whom to ask")
        listing = reverse(f"{site}:keys_apikey_changelist")
        page = opened(client, f"{listing}?owner={ref}")
        filters(page, "owner")
        for address in (listing, reverse(f"{site}:keys_apikey_change", args=[key.pk])):
            assert "olivia" in text_of(opened(client, address)), address
        assert "Owned" in text_of(opened(client, f"{reverse(f'{site}:keys_auditevent_changelist')}?owner={ref}"))
        (form,) = (one for one in forms_of(opened(client, f"{reverse(f'{site}:keys_apikey_add')}?owner={ref}"))
                   if "owner_ref" in one.fields)  # fmt: skip
        assert (form.fields["owner_ref"], form.fields["note"]) == ([ref], [""])
        found = client.post(reverse(f"{site}:keys_apikey_owners"), {"q": ref}).json()["found"]
        assert [one["ref"] for one in found] == [ref]
        (place,) = (one for one in all_sites if one.name == site)
        if place.is_registered(users):
            text = page_of_an_owner(place, owner)
            assert f"{listing}?{urlencode({'owner': ref})}" in text, text
            assert "accepted of" in text, text


def page_of_an_owner(site: AdminSite, owner: Any) -> str:
    """Return the page that an owner has with the mixin, on a site whose own pages for users are without it."""
    kind = type(site.get_model_admin(type(owner)))
    pages: Any = type("Owners", (OwnedKeysMixin, kind), {})(type(owner), site)
    request = RequestFactory().get("/")
    request.user, request.session = owner, SessionStore()
    response = pages.change_view(request, str(owner.pk))
    return html.unescape(text_of(response.render()))


def log(site: str) -> None:
    client, address = browser(), reverse(f"{site}:keys_auditevent_changelist")
    files = [reverse(f"{site}:keys_auditevent_export", args=[form]) for form in ("csv", "jsonl")]
    page = opened(client, address)
    has_links(page, address, reverse(f"{site}:keys_auditevent_usage"), *files)
    filters(page, "when", "event__exact", "reason__exact", "status", "key")
    narrowed = f"{address}?event__exact=refused"
    has_links(opened(client, narrowed), narrowed, *(f"{file}?event__exact=refused" for file in files))


def older_events(site: str) -> None:
    """Older pages are reached from each page, until the last event was there."""
    now = timezone.now()
    AuditEvent.objects.bulk_create(
        AuditEvent(at=now - timedelta(minutes=n), event="used", method="GET", path=f"/numbered/{n}/")
        for n in range(120)
    )
    client, address = browser(), reverse(f"{site}:keys_auditevent_changelist")
    pages = 0
    while address:
        page = opened(client, address)
        pages += 1
        older = {link for link in links_of(page, address) if "before=" in link}
        assert len(older) <= 1, older
        text, address = text_of(page), older.pop() if older else ""
    assert pages >= 3, pages
    oldest = AuditEvent.objects.order_by("at", "id")[0]
    assert reverse(f"{site}:keys_auditevent_change", args=[oldest.pk]) in text


def links(site: str) -> None:
    """Every link of our pages leads to a page, and to this site."""
    start = reverse(f"{site}:index")
    within = f"{start}keys/"
    for address, response in crawl(browser(), start, within=within):
        assert response.status_code == 200, (address, response.status_code)
        # The index has links of Django's log, which take no notice of the site.
        if response.streaming or address == start:
            continue
        away = [
            link for link in links_of(response, address) if "/keys/" in link and not link.startswith((within, "http"))
        ]
        assert not away, (address, away)
