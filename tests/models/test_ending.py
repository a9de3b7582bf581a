"""The end of a key: each way takes effect at once, and no old copy undoes it."""

import copy
import pickle
from typing import Any

import pytest
from django.db import connection

from keys.models import APIKey, AuditEvent
from tests.support.callers import opens
from tests.support.keys import stored
from tests.support.log import events

pytestmark = pytest.mark.django_db


class TestEnding:
    def by_save(self, key: APIKey) -> None:
        key.is_active = False
        key.save()

    def by_save_of_one_field(self, key: APIKey) -> None:
        key.is_active = False
        key.save(update_fields=["is_active"])

    def by_method(self, key: APIKey) -> None:
        key.deactivate()

    def by_update(self, key: APIKey) -> None:
        APIKey.objects.filter(pk=key.pk).update(is_active=False)

    def by_bulk_update(self, key: APIKey) -> None:
        key.is_active = False
        APIKey.objects.bulk_update([key], ["is_active"])

    def by_update_or_create(self, key: APIKey) -> None:
        APIKey.objects.update_or_create(pk=key.pk, defaults={"is_active": False})

    def by_raw_sql(self, key: APIKey) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_apikey SET is_active = %s WHERE id = %s", [False, key.pk])

    def by_deleting(self, key: APIKey) -> None:
        APIKey.objects.get(pk=key.pk).delete()

    def by_deleting_all(self, key: APIKey) -> None:
        APIKey.objects.all().delete()

    @pytest.mark.parametrize("end", [name for name in vars() if name.startswith("by_")])
    def test_a_key_is_refused_from_the_next_request_on(self, end: str) -> None:
        key = APIKey.objects.create(name="A")
        assert opens(key.key)
        token = key.key
        getattr(self, end)(key)
        assert not opens(token)
        assert APIKey.objects.filter(key=token, is_active=True).first() is None

    def test_deleting_keeps_what_the_log_says(self) -> None:
        key = APIKey.objects.create(name="A")
        pk, token = key.pk, key.key
        opens(token)
        APIKey.objects.create(name="B")
        key.delete()
        opens(token)
        rows = AuditEvent.objects.filter(key_name="A").order_by("id")
        assert list(rows.values_list("event", "api_key_id", "key_prefix")) == [
            (event, pk, token[:8]) for event in ("created", "used", "deleted")
        ]
        assert AuditEvent.objects.get(event="refused").reason == "unknown"


class TestDeactivation:
    @pytest.mark.parametrize("change", [{}, {"name": "B"}, {"is_active": True}, {"scopes": []}], ids=str)
    def test_is_not_undone_by_an_old_copy(self, made: APIKey, old: APIKey, change: dict[str, Any]) -> None:
        made.deactivate()
        for name, value in change.items():
            setattr(old, name, value)
        old.save()
        assert stored(made, "is_active") is False
        assert not opens(made.key)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])  # noqa: S301
    def test_nor_by_a_copy_of_a_copy(self, made: APIKey, old: APIKey, duplicate: Any) -> None:
        twin = duplicate(old)
        made.deactivate()
        twin.name = "B"
        twin.save()
        assert (stored(made, "is_active"), stored(made, "name")) == (False, "B")

    def test_nor_by_raw_sql_ahead_of_the_copy(self, made: APIKey, old: APIKey) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_apikey SET is_active = %s", [False])
        old.name = "B"
        old.save()
        assert not opens(made.key)

    def test_by_an_old_copy_takes_effect(self, made: APIKey, old: APIKey) -> None:
        made.name = "B"
        made.save()
        old.deactivate()
        assert (old.is_active, stored(made, "is_active"), stored(made, "name")) == (False, False, "B")
        assert not opens(made.key)

    def test_takes_an_activation_on_purpose_to_undo(self, made: APIKey, old: APIKey) -> None:
        made.deactivate()
        old.refresh_from_db()
        old.is_active = True
        old.save()
        assert opens(made.key)
        assert [event for event, _ in events(made)] == ["created", "deactivated", "activated", "used"]

    def test_of_a_copy_that_was_deactivated_itself(self, made: APIKey) -> None:
        made.deactivate()
        made.is_active = True
        made.save()
        assert opens(made.key)

    def test_after_a_bulk_update_is_not_undone(self, made: APIKey) -> None:
        made.deactivate()
        old = APIKey.objects.get(pk=made.pk)
        old.is_active = True
        APIKey.objects.bulk_update([old], ["is_active"])
        APIKey.objects.get(pk=made.pk).deactivate()
        old.save()
        assert not opens(made.key)

    def test_that_was_left_out_of_a_save_is_made_by_the_next(self, made: APIKey) -> None:
        made.name, made.is_active = "B", False
        made.save(update_fields=["name"])
        assert stored(made, "is_active") is True
        made.save()
        assert stored(made, "is_active") is False
