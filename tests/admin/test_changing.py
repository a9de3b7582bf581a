"""Changing a key in the admin. A page opened before somebody else's change undoes nothing of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from tests.support.admin import LIST, form_of, page_of, staff, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read", "employees:read"], allowed_ips=["10.0.0.0/8"])


def opened(client: Client, key: APIKey) -> dict[str, Any]:
    return form_of(client.get(page_of(key)))


def test_a_change_is_saved_and_is_on_record_with_who_made_it(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    response = admin_client.post(page_of(key), {**form, "name": "TTS-2", "scopes": ["users:read"]})
    assert response.status_code == 302
    key.refresh_from_db()
    assert (key.name, key.scopes, key.allowed_ips) == ("TTS-2", ["users:read"], ["10.0.0.0/8"])
    event = AuditEvent.objects.order_by("-id")[0]
    assert (event.event, event.actor, set(event.detail.split(", "))) == ("changed", "user: admin", {"name", "scopes"})


def test_saving_what_nobody_touched_changes_nothing(admin_client: Client, key: APIKey) -> None:
    before = APIKey.objects.values().get()
    assert admin_client.post(page_of(key), opened(admin_client, key)).status_code == 302
    assert APIKey.objects.values().get() == before
    assert AuditEvent.objects.count() == 1


def test_an_old_page_does_not_unlock_a_deactivated_key(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    APIKey.objects.get().deactivate()
    assert admin_client.post(page_of(key), {**form, "name": "TTS-2"}).status_code == 302
    row = APIKey.objects.get()
    assert (row.is_active, row.name) == (False, "TTS-2")


def test_an_old_page_does_not_widen_the_scopes_again(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    APIKey.objects.update(scopes=["users:read"])
    admin_client.post(page_of(key), {**form, "name": "TTS-2"})
    assert APIKey.objects.get().scopes == ["users:read"]


def test_an_old_page_does_not_lengthen_the_life_of_a_rotated_key(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    key.rotate(timedelta(hours=1))
    until = APIKey.objects.get(pk=key.pk).expires_at
    admin_client.post(page_of(key), {**form, "name": "TTS-2"})
    row = APIKey.objects.get(pk=key.pk)
    assert (row.name, row.expires_at, row.replaced_by_id is not None) == ("TTS-2", until, True)


def test_a_field_that_both_have_changed_is_an_error(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    APIKey.objects.update(scopes=["employees:read"])
    response = admin_client.post(page_of(key), {**form, "name": "TTS-2", "scopes": ["users:read"]})
    assert response.status_code == 200
    assert "Somebody else has changed this since you opened the page; now it is: employees:read." in text_of(response)
    row = APIKey.objects.get()
    assert (row.name, row.scopes) == ("TTS", ["employees:read"])
    # Saving the page once more does not push it through: it is as old as before.
    assert admin_client.post(page_of(key), {**form_of(response), "scopes": ["users:read"]}).status_code == 200
    assert APIKey.objects.get().scopes == ["employees:read"]


def test_both_having_made_the_same_change_is_no_error(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    APIKey.objects.update(scopes=["users:read"])
    assert admin_client.post(page_of(key), {**form, "scopes": ["users:read"]}).status_code == 302


def test_a_change_in_the_moment_of_saving_is_a_message(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    is_done: list[bool] = []

    def change_before_the_first_update(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # What another connection commits between the form's look at the row and the save.
        if "keys_apikey" in sql and "users:read" not in sql and looks_again(sql) and not is_done:
            is_done.append(True)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE keys_apikey SET name = 'Somebody'")
        return execute(sql, params, many, context)

    selects = 0

    def looks_again(sql: str) -> bool:
        nonlocal selects
        selects += sql.startswith("SELECT") and "key_name" not in sql
        return selects == 2

    with connection.execute_wrapper(change_before_the_first_update):
        response = admin_client.post(page_of(key), {**form, "name": "TTS-2"}, follow=True)
    assert is_done
    assert "Somebody else changed the same field while you saved" in text_of(response)
    assert not APIKey.objects.filter(name="TTS-2").exists()


def test_a_page_whose_snapshot_was_tampered_with_changes_nothing(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    response = admin_client.post(page_of(key), {**form, "name": "TTS-2", "opened_with": "nonsense"})
    assert "Open it again" in text_of(response)
    assert APIKey.objects.get().name == "TTS"


def test_the_page_of_one_key_is_no_snapshot_of_another(admin_client: Client, key: APIKey) -> None:
    other = APIKey.objects.create(name="Other")
    form = opened(admin_client, other)
    assert admin_client.post(page_of(key), {**form, "name": "TTS-2"}).status_code == 200
    assert APIKey.objects.get(pk=key.pk).name == "TTS"


def test_unticking_active_refuses_the_key(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    del form["is_active"]
    admin_client.post(page_of(key), form)
    assert not APIKey.objects.get().is_active
    assert AuditEvent.objects.order_by("-id").values_list("event", flat=True)[0] == "deactivated"


def test_wildcards_and_scopes_registered_no_more_stay(admin_client: Client, key: APIKey, settings: Any) -> None:
    settings.KEYS = {}
    APIKey.objects.update(scopes=["*", "users:*", "old:read"])
    settings.KEYS = {"SCOPES": {"users:read": "Read users."}}
    form = opened(admin_client, key)
    assert form["scopes"] == ["*", "users:*", "old:read"]
    assert admin_client.post(page_of(key), {**form, "name": "TTS-2"}).status_code == 302
    assert APIKey.objects.values_list("name", "scopes").get() == ("TTS-2", ["*", "users:*", "old:read"])
    form = opened(admin_client, key)
    refused = admin_client.post(page_of(key), {**form, "scopes": ["*", "old:read"]})
    assert "not registered" in text_of(refused)
    assert admin_client.post(page_of(key), {**form, "scopes": ["*"]}).status_code == 302
    assert APIKey.objects.get().scopes == ["*"]


def test_an_expiry_to_the_microsecond_is_not_taken_for_a_change(admin_client: Client, key: APIKey) -> None:
    until = timezone.now().replace(microsecond=123456) + timedelta(days=30)
    APIKey.objects.update(expires_at=until)
    admin_client.post(page_of(key), {**opened(admin_client, key), "name": "TTS-2"})
    assert APIKey.objects.values_list("name", "expires_at").get() == ("TTS-2", until)


def test_an_expiry_is_set_and_taken_away(admin_client: Client, key: APIKey) -> None:
    form = opened(admin_client, key)
    admin_client.post(page_of(key), {**form, "expires_at_0": "2099-01-31", "expires_at_1": "12:30"})
    assert APIKey.objects.get().expires_at == datetime.fromisoformat("2099-01-31T12:30:00Z")
    form = opened(admin_client, key)
    admin_client.post(page_of(key), {**form, "expires_at_0": "", "expires_at_1": ""})
    assert APIKey.objects.get().expires_at is None


def test_no_page_and_no_history_shows_a_key_or_its_digest(admin_client: Client, key: APIKey) -> None:
    token, digest = str(key.key), str(APIKey.objects.get().key)
    for address in (page_of(key), page_of(key, "history"), "/admin/keys/apikey/", "/admin/keys/auditevent/"):
        text = text_of(admin_client.get(address))
        assert token not in text
        assert digest not in text
        assert "sha256" not in text


def test_deleting_keeps_the_log_and_names_who_did_it(admin_client: Client, key: APIKey) -> None:
    admin_client.post(page_of(key, "delete"), {"post": "yes"})
    other = APIKey.objects.create(name="Other")
    admin_client.post("/admin/keys/apikey/", {"action": "delete_selected", "_selected_action": other.pk, "post": "yes"})
    assert not APIKey.objects.exists()
    deleted = AuditEvent.objects.filter(event="deleted").values_list("key_name", "actor", "api_key_id")
    assert set(deleted) == {("TTS", "user: admin", key.pk), ("Other", "user: admin", other.pk)}
    assert AuditEvent.objects.filter(event="created").count() == 2


def test_a_key_with_events_can_be_deleted_by_who_may_not_change_the_log(key: APIKey) -> None:
    client = staff("view_apikey", "delete_apikey")
    assert client.post(page_of(key, "delete"), {"post": "yes"}).status_code == 302
    assert not APIKey.objects.exists()


def test_who_may_only_view_sees_the_key_and_changes_nothing(key: APIKey) -> None:
    client = staff("view_apikey")
    before = APIKey.objects.values().get()
    page = client.get(page_of(key))
    assert page.status_code == 200
    assert "employees:read" in text_of(page)
    assert "10.0.0.0/8" in text_of(page)
    assert client.post(page_of(key), {"name": "Mine"}).status_code == 403
    assert client.post(page_of(key, "delete"), {"post": "yes"}).status_code == 403
    for action in ("rotate_selected", "deactivate_selected", "delete_selected"):
        client.post("/admin/keys/apikey/", {"action": action, "_selected_action": key.pk, "post": "yes"})
    assert client.post("/admin/keys/apikey/rotate/", {"keys": key.pk, "grace": "0"}).status_code == 403
    assert client.post("/admin/keys/apikey/deactivate/", {"keys": key.pk}).status_code == 403
    assert APIKey.objects.values().get() == before
    assert AuditEvent.objects.count() == 1


def test_deleting_is_told_from_deactivating(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS")
    selected = {"action": "delete_selected", "_selected_action": key.pk}
    for page in (admin_client.get(page_of(key, "delete")), admin_client.post(LIST, selected)):
        assert "To refuse it and keep it here, deactivate it instead." in text_of(page)
