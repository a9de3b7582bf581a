"""The admin's pages: each is opened, a key is made, used, rotated and ended there, and the log is read."""

import html
import re
from types import ModuleType
from typing import Any

from django.test import Client
from django.urls import reverse

from keys.models import APIKey, AuditEvent
from tests.support.admin import forms_of
from tests.worlds.requests import client

SECRET = re.compile(r"\b[0-9a-f]{40}\b")


def visit(world: ModuleType) -> None:
    from django.contrib.auth import get_user_model

    site, models = getattr(world, "ADMIN", "admin"), getattr(world, "ADMIN_HAS", {"apikey", "auditevent"})
    boss: Any = get_user_model().objects.create_superuser("boss", "boss@example.org", "secret")
    browser = client(world)
    browser.force_login(boss)
    shows(browser, reverse(f"{site}:index"))
    if "apikey" in models:
        keys(world, browser, site)
    if "auditevent" in models:
        log(browser, site)


def boss() -> Client:
    """Return the browser of the superuser, once the pages were visited; it shows an error as a page."""
    from django.contrib.auth import get_user_model

    browser = Client(raise_request_exception=False)
    browser.force_login(get_user_model().objects.get(username="boss"))
    return browser


def shows(browser: Client, address: str, text: str = "") -> str:
    answer = browser.get(address)
    assert answer.status_code == 200, (address, answer.status_code, getattr(answer, "url", ""))
    body = answer.getvalue()
    page = html.unescape(body.decode())
    assert text in page, (address, text)
    return page


def keys(world: ModuleType, browser: Client, site: str) -> None:
    listing, add = reverse(f"{site}:keys_apikey_changelist"), reverse(f"{site}:keys_apikey_add")
    shows(browser, listing)
    shows(browser, add)
    form = {"name": "Made here", "scopes": ["orders:read"], "expires_at_0": "", "expires_at_1": "", "rate": "10/min"}
    answer = browser.post(add, form)
    found = SECRET.search(answer.content.decode())
    assert answer.status_code == 200, (answer.status_code, answer.content[:2000])
    assert found is not None, answer.content.decode()
    assert client(world).get("/orders/", headers={"X-API-Key": found[0]}).status_code == 200
    key = APIKey.objects.get(name="Made here")
    shows(browser, listing, "Made here")
    page = reverse(f"{site}:keys_apikey_change", args=[key.pk])
    shows(browser, page, "Made here")
    answer = browser.post(page, {**form, "rate": "20/min", "is_active": "on"})
    assert answer.status_code == 302, answer.content.decode()
    act(browser, listing, "rotate", key)
    key.refresh_from_db()
    assert key.replaced_by is not None
    act(browser, listing, "deactivate", key)
    key.refresh_from_db()
    assert not key.is_active
    shows(browser, page, "Made here")
    shows(browser, reverse(f"{site}:keys_apikey_history", args=[key.pk]))
    shows(browser, reverse(f"{site}:keys_apikey_delete", args=[key.pk]))


def act(browser: Client, listing: str, name: str, key: APIKey) -> None:
    """Take an action of the list, and say yes to its question."""
    asked = browser.post(listing, {"action": f"{name}_selected", "_selected_action": [str(key.pk)]}, follow=True)
    assert asked.status_code == 200, (name, asked.status_code)
    question = next(form for form in forms_of(asked) if "keys" in form.fields)
    assert question.fields["keys"] == [str(key.pk)], question
    done = browser.post(question.action, question.fields, follow=True)
    assert done.status_code == 200, (name, question, done.status_code)


def log(browser: Client, site: str) -> None:
    listing = reverse(f"{site}:keys_auditevent_changelist")
    shows(browser, listing)
    for query in ("q=good", "event__exact=used", "status=2", "when=7", "reason__exact=unknown"):
        answer = browser.get(f"{listing}?{query}", follow=True)
        assert answer.status_code == 200, query
    for event in AuditEvent.objects.order_by("-id")[:3]:
        shows(browser, reverse(f"{site}:keys_auditevent_change", args=[event.pk]))
    shows(browser, reverse(f"{site}:keys_auditevent_usage"))
    for form in ("csv", "jsonl"):
        assert shows(browser, reverse(f"{site}:keys_auditevent_export", args=[form]))
