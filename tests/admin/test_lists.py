"""The list of keys: what it shows, how it is narrowed, and that a key in its search box goes nowhere else."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.admin import LIST, LOG, page_of, staff, text_of

pytestmark = pytest.mark.django_db


def event(key: APIKey, ago: timedelta, kind: str = "used", count: int = 1) -> None:
    AuditEvent.objects.create(
        at=timezone.now() - ago, event=kind, api_key=key, key_name=key.name, key_prefix=key.prefix, method="GET",
        path="/x/", status=200 if kind == "used" else 401, reason="" if kind == "used" else "expired", count=count,
    )  # fmt: skip


def listed(client: Client, **query: str) -> set[str]:
    return {key.name for key in client.get(LIST, query).context["cl"].result_list}


@pytest.fixture
def states() -> None:
    """One key in each state, named after it."""
    now = timezone.now()
    for name, expires_at in [("active", None), ("expiring", now + timedelta(days=3)), ("expired", now)]:
        APIKey.objects.create(name=name, expires_at=expires_at)
    APIKey.objects.create(name="later", expires_at=now + timedelta(days=300))
    APIKey.objects.create(name="inactive", is_active=False, expires_at=now)
    successor = APIKey.objects.create(name="retiring").rotate()
    APIKey.objects.filter(pk=successor.pk).update(name="active")


@pytest.mark.usefixtures("states")
def test_a_state_is_filtered_as_the_key_tells_it(admin_client: Client) -> None:
    for state in ("active", "expiring", "retiring", "expired", "inactive"):
        keys = list(admin_client.get(LIST, {"state": state}).context["cl"].result_list)
        assert keys
        assert {key.state for key in keys} == {state}
        assert {key.pk for key in keys} == {key.pk for key in APIKey.objects.all() if key.state == state}


@pytest.mark.usefixtures("states")
def test_a_state_is_a_word_and_not_only_a_colour(admin_client: Client) -> None:
    text = text_of(admin_client.get(LIST))
    for word in ("active", "expiring soon", "retiring", "expired", "inactive"):
        assert f">{word}</span>" in text


def test_use_is_filtered_by_the_log(admin_client: Client) -> None:
    for name, ago in [("lately", 1), ("in spring", 40), ("long ago", 100)]:
        event(APIKey.objects.create(name=name), timedelta(days=ago))
    event(APIKey.objects.create(name="only refused"), timedelta(days=1), "refused")
    assert listed(admin_client, use="never") == {"only refused"}
    assert listed(admin_client, use="90") == {"long ago", "only refused"}
    assert listed(admin_client, use="7") == {"lately"}


def test_age_is_filtered(admin_client: Client) -> None:
    for name, days in [("new", 1), ("old", 91), ("overdue", 181)]:
        key = APIKey.objects.create(name=name)
        APIKey.objects.filter(pk=key.pk).update(created_at=timezone.now() - timedelta(days=days))
    assert listed(admin_client, age="90") == {"old", "overdue"}
    assert listed(admin_client, age="180") == {"overdue"}
    assert "Older than 180 days: rotate it now." in text_of(admin_client.get(LIST))


def test_a_scope_is_found_by_itself_and_by_wildcards(admin_client: Client) -> None:
    for name, scopes in {
        "itself": ["users:read"], "resource": ["users:*"], "all": ["*"], "other": ["employees:read"], "none": [],
    }.items():  # fmt: skip
        APIKey.objects.create(name=name, scopes=scopes)
    assert listed(admin_client, scope="users:read") == {"itself", "resource", "all"}


def test_last_use_and_the_uses_of_seven_days_are_shown(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS")
    for ago in (timedelta(minutes=3), timedelta(days=2), timedelta(days=2), timedelta(days=20)):
        event(key, ago)
    event(key, timedelta(minutes=1), "refused", count=7)
    text = text_of(admin_client.get(LIST))
    assert ">3 minutes ago</time>" in text
    assert "3 uses, 7 refused" in text
    APIKey.objects.create(name="New")
    assert "never" in text_of(admin_client.get(LIST))


def test_the_number_of_queries_does_not_grow_with_the_keys(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    def make(number: int) -> None:
        for key in APIKey.objects.bulk_create(APIKey(name=f"Service {one}") for one in range(number)):
            event(key, timedelta(hours=1))

    make(2)
    admin_client.get(LIST)
    with CaptureQueriesContext(connection) as few:
        admin_client.get(LIST)
    make(48)
    with django_assert_num_queries(len(few)):
        admin_client.get(LIST)


@pytest.mark.parametrize("address", [LIST, LOG])
def test_a_search_for_a_text_goes_on_as_an_address_with_the_filters(admin_client: Client, address: str) -> None:
    response = admin_client.post(f"{address}search/", {"q": " TTS ", "status": "4"})
    assert (response.status_code, response["Location"]) == (302, f"{address}?q=TTS&status=4")
    assert admin_client.post(f"{address}search/", {"q": ""})["Location"] == address


def test_names_and_prefixes_are_found(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS-Backend")
    APIKey.objects.create(name="Other")
    assert listed(admin_client, q="tts") == {"TTS-Backend"}
    assert listed(admin_client, q=key.prefix) == {"TTS-Backend"}


@pytest.mark.parametrize("form", ["{}", "  {}\n", "X-API-Key: {}", 'curl -H "X-API-Key: {}" https://auth.test/'])
def test_a_pasted_key_leads_to_its_row_and_is_in_no_address(admin_client: Client, form: str) -> None:
    key = APIKey.objects.create(name="TTS")
    found = admin_client.post(f"{LIST}search/", {"q": form.format(key.key)})
    assert found["Location"] == page_of(key)
    in_the_log = admin_client.post(f"{LOG}search/", {"q": form.format(key.key)})
    assert in_the_log["Location"] == f"{LOG}?key={key.pk}"


def test_a_key_with_the_projects_prefix_and_one_typed_by_hand_are_found(admin_client: Client, settings: Any) -> None:
    settings.KEYS = {"PREFIX": "auth_live_"}
    key = APIKey.objects.create(name="TTS")
    typed = APIKey.objects.create(name="Old", key="swordfish")
    assert str(key.key).startswith("auth_live_")
    assert admin_client.post(f"{LIST}search/", {"q": key.key})["Location"] == page_of(key)
    assert admin_client.post(f"{LIST}search/", {"q": "swordfish"})["Location"] == page_of(typed)


@pytest.mark.parametrize("address", [LIST, LOG])
@pytest.mark.parametrize("text", ["0123456789abcdef" * 2 + "01234567", "0123456789ABCDEF" * 2 + "0", "x" + "f" * 45])
def test_what_may_be_a_key_that_is_not_here_is_in_no_address_and_on_no_page(
    admin_client: Client, address: str, text: str
) -> None:
    for send, to in ((admin_client.post, f"{address}search/"), (admin_client.get, address)):
        response: Any = send(to, {"q": text, "p": "2"})
        assert response.status_code == 302
        assert text not in response["Location"]
        page = text_of(admin_client.get(response["Location"]))
        assert text not in page
        assert "No key has this value" in page


def test_searching_takes_a_post_and_the_permission_to_view() -> None:
    key = APIKey.objects.create(name="TTS")
    client = staff("view_apikey")
    assert client.get(f"{LIST}search/").status_code == 405
    assert client.post(f"{LIST}search/", {"q": key.key}).status_code == 302
    assert client.post(f"{LOG}search/", {"q": key.key}).status_code == 403
    assert client.get(LOG, {"q": key.key}).status_code == 403
    assert staff(username="bob").post(f"{LIST}search/", {"q": key.key}).status_code == 403


def test_an_empty_list_says_what_to_do(admin_client: Client) -> None:
    assert "Make the first key" in text_of(admin_client.get(LIST))
    assert "Make the first key" not in text_of(staff("view_apikey").get(LIST))
    APIKey.objects.create(name="TTS")
    assert "No key matches" in text_of(admin_client.get(LIST, {"q": "nobody"}))


def test_two_thousand_keys_make_no_page_of_two_thousand_rows(admin_client: Client) -> None:
    APIKey.objects.bulk_create(APIKey(name=f"Service {one:04}") for one in range(300))
    assert len(admin_client.get(LIST).context["cl"].result_list) == 50
