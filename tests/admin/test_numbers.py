"""Numbers in links and forms: written for a computer, in whatever language people read theirs."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management.color import no_style
from django.db import connection
from django.http.response import HttpResponseBase
from django.test import Client
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.admin import DEACTIVATE, LIST, LOG, ROTATE, USAGE, form_of, forms_of, page_of, text_of
from tests.support.crawling import attributes_of, crawl, links_of

pytestmark = pytest.mark.django_db

# One for each way to separate thousands: a point, a space, a comma; and one that separates none.
LANGUAGES = ["de", "fr", "en", "hi"]
BIG, HUGE = 1_234, 1_234_567

# A separator of thousands in one of these languages: comma, point, apostrophe, and spaces that do not break.
SEPARATED = re.compile("\\d[,.'\u2019\u00a0\u202f\u066c]\\d{3}(?!\\d)")
FOR_PEOPLE = {"title", "aria-label", "alt", "placeholder", "content"}


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, settings: Any) -> str:
    """The site speaks this language, and separates thousands."""
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = request.param, True
    return str(request.param)


@pytest.fixture
def keys() -> dict[int, APIKey]:
    """Keys of which the number of one, as people write it, is those of two others."""
    made = {pk: APIKey.objects.create(pk=pk, name=f"Key {pk}") for pk in (1, 234, 567, BIG, HUGE)}
    with connection.cursor() as cursor:
        # PostgreSQL counts on from what it gave out itself.
        for statement in connection.ops.sequence_reset_sql(no_style(), [APIKey]):
            cursor.execute(statement)
    return made


def events_of(key: APIKey, number: int) -> None:
    now = timezone.now()
    # Behind the events of the keys: MariaDB counts on from what other tests took.
    last = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    first = max(last + 1, 5_000_000 + key.pk * 10_000)
    AuditEvent.objects.bulk_create(
        AuditEvent(
            pk=first + n, at=now - timedelta(minutes=n), event="used", api_key=key,
            key_name=key.name, key_prefix=key.prefix, method="GET", path=f"/x/{n % 3}/", status=200,
            address="10.0.0.1", user_agent="requests",
        )
        for n in range(number)
    )  # fmt: skip


def numbers_for_people(response: HttpResponseBase) -> list[tuple[str, str, str]]:
    """Return the attributes that a computer reads with a number in them as people write it."""
    return [
        (tag, name, value)
        for tag, name, value in attributes_of(response)
        # The icons of Django's admin are paths.
        if tag != "path" and name not in FOR_PEOPLE and SEPARATED.search(value)
    ]


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("pk", [BIG, HUGE])
def test_the_buttons_of_a_key_end_that_key_and_no_other(admin_client: Client, keys: dict[int, APIKey], pk: int) -> None:
    key = keys[pk]
    links = links_of(admin_client.get(page_of(key)), page_of(key))
    assert [link for link in links if "keys=" in link] == [f"{ROTATE}?keys={pk}", f"{DEACTIVATE}?keys={pk}"]
    question = next(form for form in forms_of(admin_client.get(f"{ROTATE}?keys={pk}")) if "keys" in form.fields)
    assert question.fields["keys"] == [str(pk)]
    admin_client.post(ROTATE, {**question.fields, "grace": "0"})
    assert {one.pk for one in APIKey.objects.filter(replaced_by__isnull=False)} == {pk}
    other = APIKey.objects.get(pk=keys[pk].pk).replaced_by_id
    question = next(form for form in forms_of(admin_client.get(f"{DEACTIVATE}?keys={other}")) if "keys" in form.fields)
    admin_client.post(DEACTIVATE, question.fields)
    assert {one.pk for one in APIKey.objects.filter(is_active=False)} == {other}


@pytest.mark.usefixtures("language")
def test_the_actions_of_the_list_end_the_keys_that_were_ticked(admin_client: Client, keys: dict[int, APIKey]) -> None:
    asked = admin_client.post(LIST, {"action": "deactivate_selected", "_selected_action": [str(BIG), str(HUGE)]})
    question = next(form for form in forms_of(asked) if "keys" in form.fields)
    admin_client.post(DEACTIVATE, question.fields)
    assert {one.pk for one in APIKey.objects.filter(is_active=False)} == {BIG, HUGE}


@pytest.mark.parametrize(
    "written", ["1.234", "1 234", "1\u00a0234", "1\u202f234", "1'234", "1,234x", "1,", "1,,234", "-1"]
)
def test_a_number_in_another_spelling_is_no_key(admin_client: Client, keys: dict[int, APIKey], written: str) -> None:
    for address in (ROTATE, DEACTIVATE):
        assert admin_client.get(address, {"keys": written}).status_code == 404
        assert admin_client.post(address, {"keys": written, "grace": "0"}).status_code == 404
    assert APIKey.objects.filter(is_active=True, replaced_by=None).count() == len(keys)


def test_ids_with_commas_between_them_are_several_keys_and_all_are_shown(
    admin_client: Client, keys: dict[int, APIKey]
) -> None:
    text = text_of(admin_client.get(DEACTIVATE, {"keys": "1,234"}))
    assert "Key 1 (" in text
    assert "Key 234 (" in text
    assert f"Key {BIG} (" not in text


# Two that separate in other ways: each visits every page.
@pytest.mark.matrix
@pytest.mark.parametrize("language", ["de", "hi"], indirect=True)
def test_every_page_has_plain_numbers_and_its_links_lead_somewhere(
    admin_client: Client, language: str, keys: dict[int, APIKey]
) -> None:
    keys[HUGE].rotate()
    for key in keys.values():
        events_of(key, 20)
    steps = [f"{LIST}{step}/?keys={BIG}" for step in ("rotate", "deactivate")]
    of_one = f"{USAGE}?days=1000&key={HUGE}"
    starts = [page_of(keys[BIG]), page_of(keys[HUGE]), of_one, f"{USAGE}?days=36500", LIST, f"{LIST}?q=Key", LOG]
    visited = set()
    for address, response in crawl(admin_client, *starts, within="/admin/keys/"):
        visited.add(address)
        assert response.status_code == 200, (language, address)
        if not response.streaming:
            assert numbers_for_people(response) == [], (language, address)
    assert {*starts, *steps} <= visited


@pytest.mark.usefixtures("language")
def test_older_pages_of_the_usage_are_numbered_plainly(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.admin.usage_page.KEYS_PER_PAGE", 1)
    for pk in range(5_000, 5_003):
        events_of(APIKey.objects.create(pk=pk, name=str(pk)), 1)
    page = admin_client.get(USAGE, {"days": "20000", "page": "2"})
    links = links_of(page, USAGE)
    assert {f"{USAGE}?days=20000&page=1", f"{USAGE}?days=20000&page=3"} <= {*links}


@pytest.mark.usefixtures("language")
def test_commands_to_copy_have_plain_numbers(
    admin_client: Client, keys: dict[int, APIKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keys.admin.key_admin.A_DAY", 1)
    monkeypatch.setattr("keys.audit.reports.READ", 10)
    events_of(keys[HUGE], 60)
    assert f"python manage.py keys_usage --key {HUGE}<" in text_of(admin_client.get(page_of(keys[HUGE])))
    assert "python manage.py keys_usage --days 20000<" in text_of(admin_client.get(USAGE, {"days": "20000"}))


@pytest.mark.usefixtures("language")
def test_an_added_key_and_its_changed_form_keep_their_numbers(admin_client: Client, keys: dict[int, APIKey]) -> None:
    data = form_of(admin_client.get(page_of(keys[BIG])))
    changed = admin_client.post(page_of(keys[BIG]), {**data, "rate": "10000/day"})
    assert changed.status_code == 302
    assert APIKey.objects.get(pk=BIG).rate == "10000/day"
    assert APIKey.objects.exclude(pk=BIG).filter(rate="10000/day").count() == 0
