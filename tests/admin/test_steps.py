"""Rotating and deactivating in the admin: asked about, done once, on record."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.admin import DEACTIVATE, LIST, ROTATE, form_of, page_of, staff, text_of

pytestmark = pytest.mark.django_db

TOKEN = re.compile(r"\b[0-9a-f]{40}\b")
WEEK = str(7 * 24 * 3600)


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"])


def used(key: APIKey, address: str, ago: timedelta = timedelta(minutes=3)) -> None:
    AuditEvent.objects.create(
        at=timezone.now() - ago, event="used", api_key=key, key_name=key.name, key_prefix=key.prefix,
        method="GET", path="/x/", status=200, address=address, user_agent="python-requests/2",
    )  # fmt: skip


def test_the_buttons_of_a_keys_page_lead_to_the_questions(admin_client: Client, key: APIKey) -> None:
    text = text_of(admin_client.get(page_of(key)))
    assert f"{ROTATE}?keys={key.pk}" in text
    assert f"{DEACTIVATE}?keys={key.pk}" in text


def test_the_question_says_who_still_uses_the_key(admin_client: Client, key: APIKey) -> None:
    used(key, "192.0.2.7")
    for address in (ROTATE, DEACTIVATE):
        text = text_of(admin_client.get(address, {"keys": key.pk}))
        assert "192.0.2.7" in text
        assert "python-requests/2" in text
        assert "3 minutes ago" in text
    assert APIKey.objects.get().is_active


def test_rotating_shows_the_successor_once(admin_client: Client, key: APIKey) -> None:
    question = admin_client.get(ROTATE, {"keys": key.pk})
    answer = admin_client.post(ROTATE, {"keys": key.pk, "grace": WEEK})
    (token,) = set(TOKEN.findall(text_of(answer)))
    successor = APIKey.objects.get(key=token)
    key.refresh_from_db()
    assert question.status_code == answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert key.replaced_by == successor
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)
    assert set(AuditEvent.objects.filter(event="rotated").values_list("actor", flat=True)) == {"user: admin"}


def test_rotating_again_with_an_old_page_makes_no_second_successor(admin_client: Client, key: APIKey) -> None:
    token = TOKEN.findall(text_of(admin_client.post(ROTATE, {"keys": key.pk, "grace": WEEK})))[0]
    again = text_of(admin_client.post(ROTATE, {"keys": key.pk, "grace": "0"}))
    assert APIKey.objects.count() == 2
    assert not TOKEN.findall(again)
    assert token not in again
    assert "Rotated before" in again
    assert APIKey.objects.get(pk=key.pk).state == "retiring"


def test_a_key_that_was_deactivated_in_the_meantime_is_not_rotated(admin_client: Client, key: APIKey) -> None:
    key.deactivate()
    answer = text_of(admin_client.post(ROTATE, {"keys": key.pk, "grace": WEEK}))
    assert "Nothing was rotated" in answer
    assert APIKey.objects.count() == 1


def test_the_usual_grace_is_chosen_in_advance(admin_client: Client, key: APIKey) -> None:
    text = text_of(admin_client.get(ROTATE, {"keys": key.pk}))
    assert re.search(rf'value="{WEEK}"[^>]*checked', text)


@pytest.mark.parametrize("grace", ["", "-1", "soon", "12345"])
def test_a_grace_that_was_not_offered_is_asked_for_again(admin_client: Client, key: APIKey, grace: str) -> None:
    assert "errorlist" in text_of(admin_client.post(ROTATE, {"keys": key.pk, "grace": grace}))
    assert APIKey.objects.count() == 1


def test_several_keys_are_rotated_at_once_from_the_list(admin_client: Client, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other")
    selected = {"action": "rotate_selected", "_selected_action": [key.pk, other.pk]}
    question = text_of(admin_client.post(LIST, selected))
    keys = re.findall(r'name="keys" value="([\d,]+)"', question)[0]
    answer = text_of(admin_client.post(ROTATE, {"keys": keys, "grace": "0"}))
    assert len(set(TOKEN.findall(answer))) == 2
    assert {APIKey.objects.get(pk=pk).state for pk in (key.pk, other.pk)} == {"expired"}


def test_too_many_keys_are_not_rotated_at_once(admin_client: Client) -> None:
    keys = [APIKey.objects.create(name=f"Service {number}") for number in range(21)]
    selected = {"action": "rotate_selected", "_selected_action": [key.pk for key in keys]}
    assert "at most 20 keys" in text_of(admin_client.post(LIST, selected, follow=True))
    admin_client.post(ROTATE, {"keys": ",".join(str(key.pk) for key in keys), "grace": WEEK})
    assert APIKey.objects.count() == 21


def test_deactivating_is_asked_about_and_done(admin_client: Client, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other")
    question = admin_client.post(LIST, {"action": "deactivate_selected", "_selected_action": [key.pk, other.pk]})
    assert APIKey.objects.filter(is_active=True).count() == 2
    keys = re.findall(r'name="keys" value="([\d,]+)"', text_of(question))[0]
    done = admin_client.post(DEACTIVATE, {"keys": keys}, follow=True)
    assert "2 keys are refused from now on" in text_of(done)
    assert not APIKey.objects.filter(is_active=True).exists()
    recorded = AuditEvent.objects.filter(event="deactivated").values_list("key_name", "actor")
    assert set(recorded) == {("TTS", "user: admin"), ("Other", "user: admin")}


def test_deactivating_twice_is_one_event(admin_client: Client, key: APIKey) -> None:
    admin_client.post(DEACTIVATE, {"keys": key.pk})
    admin_client.post(DEACTIVATE, {"keys": key.pk})
    assert AuditEvent.objects.filter(event="deactivated").count() == 1


def test_a_question_about_many_keys_takes_a_fixed_number_of_queries(
    admin_client: Client, django_assert_max_num_queries: object
) -> None:
    keys = [APIKey.objects.create(name=f"Service {number}") for number in range(60)]
    selected = {"action": "deactivate_selected", "_selected_action": [key.pk for key in keys]}
    with django_assert_max_num_queries(15):  # type: ignore[operator]
        admin_client.post(LIST, selected)


@pytest.mark.parametrize("chosen", ["", "0", "x", "99999999999999999999", "1;DROP"])
def test_keys_that_are_none_are_refused(admin_client: Client, chosen: str) -> None:
    assert admin_client.get(ROTATE, {"keys": chosen}).status_code == 404
    assert admin_client.post(DEACTIVATE, {"keys": chosen}).status_code == 404


@pytest.mark.parametrize("permissions", [("add_apikey",), ("change_apikey",), ("delete_apikey",)])
def test_rotating_takes_the_permissions_to_add_and_to_change(key: APIKey, permissions: tuple[str, ...]) -> None:
    client = staff("view_apikey", *permissions)
    assert client.get(ROTATE, {"keys": key.pk}).status_code == 403
    assert client.post(ROTATE, {"keys": key.pk, "grace": "0"}).status_code == 403
    client.post(LIST, {"action": "rotate_selected", "_selected_action": key.pk})
    assert APIKey.objects.count() == 1


def test_who_may_add_and_change_may_rotate(key: APIKey) -> None:
    client = staff("view_apikey", "add_apikey", "change_apikey")
    assert TOKEN.findall(text_of(client.post(ROTATE, {"keys": key.pk, "grace": "0"})))
    assert AuditEvent.objects.filter(event="rotated").get().actor == "user: alice"


def test_deactivating_takes_the_permission_to_change(key: APIKey) -> None:
    staff("view_apikey", "add_apikey", "delete_apikey").post(DEACTIVATE, {"keys": key.pk})
    assert APIKey.objects.get().is_active
    staff("change_apikey", username="bob").post(DEACTIVATE, {"keys": key.pk})
    assert not APIKey.objects.get().is_active


def test_a_page_of_the_old_key_says_when_it_may_go(admin_client: Client, key: APIKey) -> None:
    successor = key.rotate()
    assert "safe to deactivate" in text_of(admin_client.get(page_of(key)))
    used(key, "192.0.2.9", timedelta(0))
    text = text_of(admin_client.get(page_of(key)))
    assert "not yet safe to deactivate" in text
    assert "192.0.2.9" in text
    assert str(successor) in text
    assert str(key) in text_of(admin_client.get(page_of(successor)))
    assert form_of(admin_client.get(page_of(successor)))["name"] == ["TTS"]


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
