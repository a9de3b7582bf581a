"""Rows that are put in as they are, by `loaddata` or a package that puts rows back, are in the log, too."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import models, transaction
from django.utils import timezone

from keys import actor, tokens
from keys.models import APIKey, AuditEvent, audit_event
from tests.support.callers import opens
from tests.support.keys import change

pytestmark = pytest.mark.django_db

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def key() -> APIKey:
    made = APIKey.objects.create(name="A", scopes=["users:read"])
    # JSON keeps milliseconds.
    APIKey._base_manager.update(created_at=timezone.now().replace(microsecond=0))
    AuditEvent.objects.all().delete()
    return made


@pytest.fixture
def dump(tmp_path: Path) -> Callable[..., Path]:
    def dumped(*labels: str, **changed: Any) -> Path:
        """Write a fixture; the fields of each key may be changed in it."""
        path = tmp_path / "fixture.json"
        call_command("dumpdata", *(labels or ("keys.APIKey",)), output=str(path), verbosity=0)
        rows = json.loads(path.read_text())
        for row in rows:
            if row["model"] == "keys.apikey":
                row["fields"] |= changed
        path.write_text(json.dumps(rows))
        return path

    return dumped


def load(path: Path) -> None:
    call_command("loaddata", str(path), verbosity=0)


def told() -> list[tuple[str, str, Any]]:
    return list(AuditEvent.objects.steps().order_by("id").values_list("event", "detail", "changes"))


def test_a_deleted_key_that_comes_back(key: APIKey, dump: Callable[..., Path]) -> None:
    path, token = dump(), str(key.key)
    key.delete()
    AuditEvent.objects.all().delete()
    assert not opens(token)
    AuditEvent.objects.all().delete()
    load(path)
    assert opens(token)
    event = AuditEvent.objects.steps().get()
    assert (event.event, event.detail, event.key_name, event.key_prefix) == ("created", "loaded", "A", token[:8])
    assert event.changes == {"name": [None, "A"], "is_active": [None, True], "scopes": [None, ["users:read"]]}
    assert event.actor.startswith("command line: ")
    assert event.actor.endswith(" (loaddata)")


def test_a_key_that_is_made_stronger(key: APIKey, dump: Callable[..., Path]) -> None:
    key.deactivate()
    AuditEvent.objects.all().delete()
    load(dump(scopes=["*"], is_active=True, rate="5/min"))
    assert told() == [
        ("activated", "loaded", {"is_active": [False, True]}),
        ("changed", "loaded: scopes, rate", {"scopes": [["users:read"], ["*"]], "rate": ["", "5/min"]}),
    ]


def test_a_key_that_stays_as_it_is(key: APIKey, dump: Callable[..., Path]) -> None:
    load(dump())
    assert told() == []


def test_a_fixture_with_a_token(tmp_path: Path) -> None:
    fields = {"name": "A", "key": TOKEN, "created_at": "2026-01-01T00:00:00Z", "scopes": []}
    fixture = tmp_path / "keys.json"
    fixture.write_text(json.dumps([{"model": "keys.apikey", "pk": 1, "fields": fields}]))
    load(fixture)
    assert [event for event, *_ in told()] == ["created"]
    row = str([*AuditEvent.objects.values()])
    assert TOKEN not in row
    assert tokens.digest(TOKEN) not in row


PUT: list[Callable[[Any], None]] = [
    lambda loaded: loaded.save(),
    lambda loaded: loaded.object.save_base(raw=True),
    lambda loaded: models.Model.save_base(loaded.object, raw=True, using="default"),
]


@pytest.mark.parametrize("put", PUT)
def test_however_it_is_put_back(key: APIKey, put: Callable[[Any], None]) -> None:
    text = serializers.serialize("json", [APIKey.objects.get()])

    def put_back() -> None:
        (loaded,) = serializers.deserialize("json", text)
        put(loaded)

    change(key, scopes=[])
    AuditEvent.objects.all().delete()
    with actor.acting_as("user: alice"):
        put_back()
    assert told() == [("changed", "loaded: scopes", {"scopes": [[], ["users:read"]]})]
    assert AuditEvent.objects.get().actor == "user: alice"
    key.delete()
    AuditEvent.objects.all().delete()
    put_back()
    assert [(event, detail) for event, detail, _ in told()] == [("created", "loaded")]


def test_what_is_rolled_back_was_not_loaded(key: APIKey) -> None:
    text = serializers.serialize("json", [key])
    key.delete()
    AuditEvent.objects.all().delete()
    with transaction.atomic():
        for one in serializers.deserialize("json", text):
            one.save()
        assert told()
        transaction.set_rollback(True)
    assert told() == []
    assert not APIKey.objects.exists()


def test_what_was_loaded_can_be_saved(key: APIKey) -> None:
    loaded: Any = next(iter(serializers.deserialize("json", serializers.serialize("json", [key]))))
    loaded.save()
    AuditEvent.objects.all().delete()
    change(loaded.object, scopes=["*"])
    assert told() == [("changed", "scopes", {"scopes": [["users:read"], ["*"]]})]


class TestAFixtureWithTheLog:
    """The log of the fixture keeps its ids, which seals name, beside the events of what is loaded."""

    def test_that_is_loaded_into_an_empty_database(self, dump: Callable[..., Path]) -> None:
        for number in range(5):
            change(APIKey.objects.create(name=f"Key {number}"), rate="5/min")
        # As in a database whose ids begin.
        AuditEvent.objects.all().delete()
        first = 1_000_000
        AuditEvent.objects.bulk_create(
            [
                AuditEvent(pk=first + number, at=timezone.now(), event="changed", detail=f"{number}", changes={})
                for number in range(30)
            ]
        )
        before = list(AuditEvent.objects.order_by("pk").values("pk", "detail"))
        path = dump("keys.APIKey", "keys.AuditEvent")
        APIKey.objects.all().delete()
        AuditEvent.objects.all().delete()
        for number, row in enumerate(rows := json.loads(path.read_text())):
            if row["model"] == "keys.apikey":
                for one in serializers.deserialize("python", [row]):
                    one.save()
                # The next ids would be those of the fixture's events.
                AuditEvent._base_manager.filter(api_key=row["pk"], detail="loaded").update(id=first + number)
        path.write_text(json.dumps([row for row in rows if row["model"] == "keys.auditevent"]))
        load(path)
        log = AuditEvent.objects.order_by("pk")
        assert list(log.exclude(detail=audit_event.LOADED).values("pk", "detail")) == before
        assert log.filter(event="created", detail=audit_event.LOADED).count() == 5
        load(path)
        assert AuditEvent.objects.count() == 35
        # The next one has an id of its own.
        APIKey.objects.create(name="B")

    def test_that_is_loaded_a_second_time(self, key: APIKey, dump: Callable[..., Path]) -> None:
        path = dump()
        key.delete()
        load(path)
        whole = dump("keys")
        before = AuditEvent.objects.count()
        load(whole)
        assert AuditEvent.objects.count() == before

    def test_that_holds_an_old_event(self, key: APIKey, dump: Callable[..., Path]) -> None:
        key.deactivate()
        AuditEvent.objects.update(at=timezone.now() - timedelta(days=400))
        path = dump("keys")
        APIKey.objects.all().delete()
        AuditEvent.objects.all().delete()
        load(path)
        assert [(event, detail) for event, detail, _ in told()] in (
            [("deactivated", ""), ("created", "loaded")],
            [("created", "loaded"), ("deactivated", "")],
        )
