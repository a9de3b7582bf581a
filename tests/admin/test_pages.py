"""What holds for every page of keys in the admin."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

import keys
from keys.admin import APIKeyAdmin, AuditEventAdmin
from keys.conf import conf
from keys.endpoints import environment_keyrings
from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, DEACTIVATE, LIST, LOG, ROTATE, USAGE, form_of, page_of, text_of


@pytest.fixture
def addresses(db: None) -> list[str]:
    key = APIKey.objects.create(name="TTS", scopes=["users:read"])
    key.rotate()
    one = AuditEvent.objects.create(
        at=timezone.now(), event="used", api_key=key, key_name="TTS", method="GET", path="/"
    )
    return [
        LIST, f"{LIST}?q=nobody", ADD, page_of(key), page_of(key, "history"), page_of(key, "delete"), LOG,
        f"{LOG}{one.pk}/change/", f"{LOG}{AuditEvent.objects.get(event='rotated').pk}/change/",
        f"{ROTATE}?keys={key.pk}", f"{DEACTIVATE}?keys={key.pk}",
        USAGE, f"{USAGE}?key={key.pk}",
    ]  # fmt: skip


def pages(client: Client, addresses: list[str]) -> Iterator[str]:
    """Yield every page, those that answer a POST too."""
    for address in addresses:
        yield text_of(client.get(address))
    data = {**form_of(client.get(ADD)), "name": "New"}
    yield text_of(client.post(ADD, data))
    yield text_of(client.post(ADD, data))
    for networks in ("10.0.0.1/8", "1"):
        yield text_of(client.post(ADD, {**data, "form_id": "", "allowed_ips": networks, "rate": "7", "scopes": "1"}))
    for fields in ({"is_active": False}, {"expires_at": timezone.now()}):
        ended = APIKey.objects.create(name="TTS", **fields)
        yield text_of(client.post(ROTATE, {"keys": ended.pk, "grace": "0"}))


@pytest.mark.matrix
def test_nothing_is_inline(admin_client: Client, addresses: list[str]) -> None:
    for text in pages(admin_client, addresses):
        assert not re.findall(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", text)


@pytest.mark.matrix
def test_nothing_comes_from_elsewhere(admin_client: Client, addresses: list[str]) -> None:
    for text in pages(admin_client, addresses):
        assert not re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", text)


def test_a_page_of_a_key_takes_as_many_queries_for_a_thousand_events_as_for_one(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    key = APIKey.objects.create(name="TTS")
    event = {"at": timezone.now(), "event": "used", "api_key": key, "method": "GET", "path": "/x/", "status": 200}
    AuditEvent.objects.create(**event)
    with CaptureQueriesContext(connection) as one:
        admin_client.get(page_of(key))
    AuditEvent.objects.bulk_create(AuditEvent(**event) for _ in range(1000))
    with django_assert_num_queries(len(one)):
        text = text_of(admin_client.get(page_of(key)))
    assert "1001 allowed" in text
    assert "Of its latest 1000 requests" in text


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_make_one_key(admin_user: User) -> None:
    def browser() -> Client:
        client = Client()
        client.force_login(admin_user)
        return client

    first = browser()
    data = {**form_of(first.get(ADD)), "name": "TTS"}

    def click(client: Client) -> int:
        try:
            return client.post(ADD, data).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(click, [first, *(browser() for _ in range(3))]))
    assert answers == [200] * 4
    assert APIKey.objects.count() == 1


def test_every_word_of_the_templates_can_be_translated() -> None:
    translated = r"{% block(?:translate| bodyclass).*?{% endblock(?:translate)? %}|{% comment %}.*?{% endcomment %}"
    for path in (Path(keys.__file__).parent / "templates").rglob("*.html"):
        # What is translated has names of its own for what it shows: anything else would be left empty.
        assert not re.findall(r"{% blocktranslate(?:(?!{% endblock).)*?{{ \w+\.", path.read_text(), flags=re.DOTALL)
        rest = re.sub(rf"{translated}|{{#.*?#}}|{{%.*?%}}|{{{{.*?}}}}", " ", path.read_text(), flags=re.DOTALL)
        # What a computer reads: tags, character references, the command line to try a key with.
        rest = re.sub(r"<[^>]*>|&\w+;|curl -H \"X-API-Key:", " ", rest)
        assert not re.findall(r"[^\W\d_]{2,}", rest), path.name


def words(text: str) -> set[str]:
    return {*re.findall(r"[^\W\d_]{2,}", text)}


def test_every_word_of_every_page_goes_through_the_translation(
    admin_client: Client, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = translation._trans  # type: ignore[attr-defined]

    def bracketed(translate: Callable[..., str]) -> Callable[..., str]:
        return lambda *texts, **named: f"⟦{translate(*texts, **named)}⟧"

    for name in ("gettext", "pgettext", "ngettext", "npgettext"):
        monkeypatch.setattr(real, name, bracketed(getattr(real, name)))
    left: set[str] = set()
    for text in pages(admin_client, addresses):
        content = text.partition('<div id="content"')[2].partition("<footer")[0].partition(">")[2]
        # Keys, scopes, commands and what can be called have names; what an address holds is data.
        content = re.sub(r"<code.*?</code>|<td class=.keys-api.*?</td>|<[^>]*>", " ", content, flags=re.DOTALL)
        while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", " ", content)) != content:
            content = shorter
        left |= words(content)
    data = [value for row in [*AuditEvent.objects.values(), *APIKey.objects.values()] for value in row.values()]
    named = {ring.name for _, ring in environment_keyrings()}
    assert sorted(left - words(f"{data} {conf.SCOPES} {named} UTC")) == []


def test_another_site_can_have_the_pages_too(admin_user: User, rf: RequestFactory) -> None:
    site = AdminSite(name="office")
    request = rf.get(LIST)
    request.user = admin_user
    for model, model_admin in ((APIKey, APIKeyAdmin), (AuditEvent, AuditEventAdmin)):
        assert model_admin(model, site).check() == []
        assert model_admin(model, site).has_view_permission(request)
