"""Making a key in the admin: seen once, in the answer to the POST, and kept nowhere."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.admin import ADD, form_of, staff, text_of

pytestmark = pytest.mark.django_db

TOKEN = re.compile(r"\b[0-9a-f]{40}\b")


def added(client: Client, **changes: Any) -> Any:
    return client.post(ADD, {**form_of(client.get(ADD)), "name": "TTS-Backend", **changes})


def test_the_key_is_in_the_answer_to_the_post_and_opens_its_row(admin_client: Client) -> None:
    response = added(admin_client)
    (token,) = set(TOKEN.findall(text_of(response)))
    assert response.status_code == 200
    assert APIKey.objects.get(key=token).name == "TTS-Backend"
    assert "no-store" in response["Cache-Control"]


def test_the_key_is_shown_with_a_command_that_works(admin_client: Client, client: Client) -> None:
    text = text_of(added(admin_client))
    command = re.search(r"curl -H &quot;X-API-Key: (\w+)&quot; http://testserver(\S+)<", text) or re.search(
        r'curl -H "X-API-Key: (\w+)" http://testserver(\S+)<', text
    )
    assert command is not None
    assert client.get(f"{command[2]}guarded/", headers={"x-api-key": command[1]}).status_code == 200


@pytest.mark.parametrize("button", ["_save", "_addanother", "_continue", "_saveasnew", "_popup"])
def test_no_button_leads_past_the_key(admin_client: Client, button: str) -> None:
    response = added(admin_client, **{button: "1"})
    assert response.status_code == 200
    assert APIKey.objects.filter(key=TOKEN.findall(text_of(response))[0]).exists()


def test_the_key_is_kept_neither_in_a_session_nor_a_cookie_nor_the_history(admin_client: Client) -> None:
    response = added(admin_client)
    token = TOKEN.findall(text_of(response))[0]
    kept = [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [str(morsel) for morsel in admin_client.cookies.values()]
    kept += [f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all()]
    kept += [str(row) for row in AuditEvent.objects.values()]
    assert not [text for text in kept if token in text or token[8:24] in text]
    assert token not in text_of(admin_client.get("/admin/"))


def test_a_form_that_is_sent_again_makes_no_second_key_and_says_so(admin_client: Client) -> None:
    data = {**form_of(admin_client.get(ADD)), "name": "TTS-Backend"}
    token = TOKEN.findall(text_of(admin_client.post(ADD, data)))[0]
    again = admin_client.post(ADD, data)
    assert APIKey.objects.count() == 1
    assert token not in text_of(again)
    assert "was sent before" in text_of(again)
    assert "no-store" in again["Cache-Control"]


def test_each_opening_of_the_form_makes_a_key_of_its_own(admin_client: Client) -> None:
    added(admin_client)
    added(admin_client)
    assert APIKey.objects.count() == 2


def test_a_form_that_was_wrong_at_first_makes_one_key(admin_client: Client) -> None:
    wrong = added(admin_client, name="")
    assert not APIKey.objects.exists()
    data = {**form_of(wrong), "name": "TTS-Backend"}
    admin_client.post(ADD, data)
    admin_client.post(ADD, data)
    assert APIKey.objects.count() == 1


def test_somebody_else_can_still_send_a_form_of_the_same_number(admin_client: Client) -> None:
    data = {**form_of(admin_client.get(ADD)), "name": "TTS-Backend"}
    admin_client.post(ADD, data)
    staff("add_apikey").post(ADD, data)
    assert APIKey.objects.count() == 2


def test_the_defaults_are_ticked_and_what_is_ticked_is_kept(admin_client: Client) -> None:
    assert form_of(admin_client.get(ADD))["scopes"] == ["users:read", "employees:read"]
    added(admin_client, scopes=["tracking:write"])
    assert APIKey.objects.get().scopes == ["tracking:write"]


def test_no_scope_ticked_is_no_scope(admin_client: Client) -> None:
    added(admin_client, scopes=[])
    assert APIKey.objects.get().scopes == []


def test_scopes_have_their_sentences(admin_client: Client) -> None:
    assert "Read the details of employees." in text_of(admin_client.get(ADD))


def test_without_a_registry_scopes_are_written(admin_client: Client, settings: Any) -> None:
    settings.KEYS = {}
    assert added(admin_client, scopes="orders:read\n\n  orders:write ").status_code == 200
    assert APIKey.objects.get().scopes == ["orders:read", "orders:write"]


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("scopes", ["users:burn"], "users:burn is not one of the available choices"),
        ("allowed_ips", "10.0.0.0/8\n10.0.0.1/8", "bits set to the right"),
        ("rate", "often", "is not a rate"),
        ("expires_at_0", "2020-01-01", "Enter a valid time"),
    ],
)
def test_what_cannot_be_is_an_error_beside_its_field(
    admin_client: Client, field: str, value: Any, complaint: str
) -> None:
    response = added(admin_client, **{field: value})
    assert complaint in text_of(response)
    assert not APIKey.objects.exists()


def test_a_moment_that_has_passed_is_an_error(admin_client: Client) -> None:
    response = added(admin_client, expires_at_0="2020-01-01", expires_at_1="00:00")
    assert "has passed" in text_of(response)
    assert not APIKey.objects.exists()


def test_a_lifetime_is_chosen_in_days(admin_client: Client) -> None:
    added(admin_client, lifetime="90", allowed_ips="10.0.0.0/8\n2001:db8::/32", rate="100/min")
    key = APIKey.objects.get()
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    assert (key.allowed_ips, key.rate) == (["10.0.0.0/8", "2001:db8::/32"], "100/min")


def test_a_lifetime_and_a_moment_are_one_too_many(admin_client: Client) -> None:
    response = added(admin_client, lifetime="90", expires_at_0="2099-01-01", expires_at_1="00:00")
    assert "not both" in text_of(response)
    assert not APIKey.objects.exists()


def test_who_made_it_is_on_record(admin_client: Client) -> None:
    added(admin_client)
    assert AuditEvent.objects.values_list("event", "actor").get() == ("created", "user: admin")


def test_an_address_may_fill_in_the_form(admin_client: Client) -> None:
    form = form_of(admin_client.get(f"{ADD}?name=TTS&scopes=tracking:write&form_id=1"))
    assert (form["name"], form["scopes"]) == (["TTS"], ["tracking:write"])


def test_without_the_permission_nothing_is_made() -> None:
    client = staff("view_apikey", "change_apikey", "delete_apikey")
    assert client.get(ADD).status_code == 403
    assert client.post(ADD, {"name": "TTS"}).status_code == 403
    assert not APIKey.objects.exists()
