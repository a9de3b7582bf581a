"""Each step of a key's life is in the log, with who did it, in the transaction that did it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from keys import actor
from keys.models import APIKey, AuditEvent
from tests.support.keys import assign, change
from tests.support.log import all_events

pytestmark = pytest.mark.django_db


class TestWhatIsTold:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: APIKey.objects.create(name="B"),
            lambda: APIKey(name="B").save(),
            lambda: APIKey.objects.get_or_create(name="B"),
            lambda: APIKey.objects.update_or_create(name="B"),
            lambda: APIKey.objects.bulk_create([APIKey(name="B")]),
            lambda: async_to_sync(APIKey.objects.all().acreate)(name="B"),
        ],
    )
    def test_of_a_new_key(self, make: Callable[[], Any]) -> None:
        make()
        event = AuditEvent.objects.get()
        made = APIKey.objects.get()
        assert (event.event, event.detail, event.actor, event.count) == ("created", "", "", 1)
        assert (event.api_key_id, event.key_name, event.key_prefix) == (made.pk, "B", made.prefix)
        assert (event.status, event.method, event.path, event.address) == (None, "", "", None)
        assert timezone.now() - event.at < timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("values", "events"),
        [
            ({"name": "B"}, [("changed", "name")]),
            ({"scopes": [], "rate": "1000/min"}, [("changed", "scopes, rate")]),
            ({"is_active": False}, [("deactivated", "")]),
            ({"is_active": False, "name": "B"}, [("deactivated", ""), ("changed", "name")]),
            ({"key": "f" * 40}, [("changed", "key")]),
            ({"expires_at": None, "is_active": True}, []),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("how", ["save", "update", "bulk_update", "update_or_create", "aupdate"])
    def test_of_a_change(self, key: APIKey, how: str, values: dict[str, Any], events: list[tuple[str, str]]) -> None:
        match how:
            case "update":
                APIKey.objects.filter(name="A").update(**values)
            case "aupdate":
                async_to_sync(APIKey.objects.filter(name="A").aupdate)(**values)
            case "update_or_create":
                APIKey.objects.update_or_create(name="A", defaults=values)
            case "bulk_update":
                APIKey.objects.bulk_update([assign(key, **values)], [*values])
            case _:
                change(key, **values)
        assert [(event, set(detail.split(", "))) for event, detail in all_events()] == [
            (event, set(detail.split(", "))) for event, detail in events
        ]

    def test_of_an_activation(self, key: APIKey) -> None:
        key.deactivate()
        change(key, is_active=True)
        APIKey.objects.update(is_active=False)
        APIKey.objects.update(is_active=True)
        assert all_events() == [("deactivated", ""), ("activated", "")] * 2

    def test_of_a_second_deactivation_nothing(self, key: APIKey) -> None:
        for _ in range(2):
            key.deactivate()
            APIKey.objects.update(is_active=False)
        assert all_events() == [("deactivated", "")]

    def test_of_many_keys_each(self, key: APIKey) -> None:
        APIKey.objects.bulk_create([APIKey(name=name) for name in "BCD"])
        APIKey.objects.filter(name__in="BC").update(is_active=False)
        APIKey.objects.order_by("name").exclude(name="C").update(rate="1000/min")
        APIKey.objects.filter(is_active=True).delete()
        rows = AuditEvent.objects.order_by("id").values_list("event", "key_name")
        assert sorted(rows) == sorted(
            [("created", name) for name in "BCD"]
            + [("deactivated", name) for name in "BC"]
            + [("changed", name) for name in "ABD"]
            + [("deleted", name) for name in "AD"]
        )

    def test_of_an_update_that_renames_what_it_found_by_name(self, key: APIKey) -> None:
        APIKey.objects.filter(name="A").update(name="B")
        assert all_events() == [("changed", "name")]

    def test_of_a_rotation(self, key: APIKey) -> None:
        successor = key.rotate(timedelta(hours=1))
        [created, rotated] = AuditEvent.objects.order_by("id")
        assert (created.event, created.api_key_id) == ("created", successor.pk)
        assert (rotated.event, rotated.api_key_id) == ("rotated", key.pk)
        assert rotated.detail == f"successor {successor.prefix}, accepted until {key.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        key.rotate()
        assert len(all_events()) == 2

    def test_of_a_deletion(self, key: APIKey) -> None:
        successor, pk = key.rotate(), key.pk
        AuditEvent.objects.all().delete()
        key.delete()
        successor.delete()
        rows = AuditEvent.objects.order_by("id").values_list("event", "api_key_id", "key_name")
        assert list(rows) == [("deleted", pk, "A"), ("deleted", rows[1][1], "A")]

    def test_of_what_never_happened_nothing(self, key: APIKey) -> None:
        APIKey.objects.filter(name="nobody").update(is_active=False)
        APIKey.objects.filter(name="nobody").delete()
        APIKey.objects.bulk_create([])
        APIKey.objects.bulk_update([], ["name"])
        key.save()
        assert all_events() == []


class TestWhoDidIt:
    @pytest.mark.parametrize(
        "step",
        [
            lambda key: APIKey.objects.create(name="B"),
            lambda key: change(key, name="B"),
            lambda key: key.deactivate(),
            lambda key: key.rotate(),
            lambda key: key.delete(),
            lambda key: APIKey.objects.update(rate="1000/min"),
            lambda key: APIKey.objects.all().delete(),
        ],
    )
    def test_is_in_every_event(self, key: APIKey, step: Callable[[APIKey], Any]) -> None:
        with actor.acting_as("user: alice"):
            step(key)
        assert {event.actor for event in AuditEvent.objects.all()} == {"user: alice"}

    def test_a_name_is_cut_and_cleaned_of_control_characters(self, key: APIKey) -> None:
        with actor.acting_as("user: \x1b[31m\n" + "x" * 200):
            key.deactivate()
        name = AuditEvent.objects.get().actor
        assert name.startswith("user: \\x1b[31m\\n")
        assert len(name) == 150
