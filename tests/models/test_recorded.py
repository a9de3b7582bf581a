"""Life-cycle events are written by a call: disconnecting a receiver does not prevent them."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import signals as model_signals
from pytest_django import Settings

from keys import signals
from keys.models import APIKey, AuditEvent
from tests.support.keys import change

pytestmark = pytest.mark.django_db

STEPS: dict[str, tuple[Callable[[APIKey], Any], list[str]]] = {
    "create": (lambda key: APIKey.objects.create(name="B"), ["created"]),
    "bulk_create": (lambda key: APIKey.objects.bulk_create([APIKey(name="B"), APIKey(name="C")]), ["created"] * 2),
    "save": (lambda key: change(key, name="B"), ["changed"]),
    "update": (lambda key: APIKey.objects.update(rate="1000/min"), ["changed"]),
    "rotate": (lambda key: key.rotate(), ["created", "rotated"]),
    "deactivate": (lambda key: key.deactivate(), ["deactivated"]),
    "delete": (lambda key: key.delete(), ["deleted"]),
    "delete all": (lambda key: APIKey.objects.all().delete(), ["deleted"]),
    "delete some": (lambda key: APIKey.objects.filter(name="A").with_last_used().delete(), ["deleted"]),
}


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every receiver of this app and of Django's model signals is disconnected."""
    ours = (signals.key_changed, signals.key_used, signals.key_refused, signals.key_life_cycle)
    for signal in (*ours, model_signals.pre_save, model_signals.post_save, model_signals.post_delete):
        monkeypatch.setattr(signal, "receivers", [])
        signal.sender_receivers_cache.clear()


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_on_record_whoever_listens(nobody_listens: None, step: str) -> None:
    key = APIKey.objects.create(name="A")
    before = AuditEvent.objects.count()
    take, expected = STEPS[step]
    take(key)
    assert sorted(AuditEvent.objects.order_by("id")[before:].values_list("event", flat=True)) == expected


def test_an_event_is_nothing_for_receivers_of_other_packages() -> None:
    heard: list[Any] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        heard.append(sender)

    model_signals.post_save.connect(hear)
    try:
        APIKey.objects.create(name="A")
    finally:
        model_signals.post_save.disconnect(hear)
    assert heard == [APIKey]


def test_a_slice_of_keys_cannot_be_deleted() -> None:
    APIKey.objects.create(name="A")
    with pytest.raises(TypeError):
        APIKey.objects.all()[:1].delete()
    assert APIKey.objects.count() == 1
    assert not AuditEvent.objects.filter(event="deleted").exists()


class Router:
    """Reads go to a replica, which no test has; whatever writes there, or decides there, fails."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


@pytest.mark.parametrize("step", ["save", "rotate", "deactivate", "delete"])
def test_a_key_that_was_read_from_a_replica_is_changed_where_it_is_written(settings: Settings, step: str) -> None:
    key = APIKey.objects.create(name="A")
    settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
    key._state.db = "replica"
    take, expected = STEPS[step]
    take(key)
    events = AuditEvent._base_manager.using("default").order_by("id").values_list("event", flat=True)
    assert sorted(events[1:]) == expected
