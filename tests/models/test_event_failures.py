"""A change and its event are made together or not at all."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import Error, connection, transaction
from django.test import Client, override_settings

from keys.models import APIKey, AuditEvent
from keys.signals import key_changed
from tests.support.keys import assign, change
from tests.support.log import all_events

pytestmark = pytest.mark.django_db


@pytest.fixture
def no_audit_log(key: APIKey) -> Iterator[None]:
    """The log's table is not there."""
    AuditEvent.objects.exists()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_auditevent RENAME TO keys_gone")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE keys_gone RENAME TO keys_auditevent")


STEPS: dict[str, Callable[[APIKey], Any]] = {
    "create": lambda key: APIKey.objects.create(name="B"),
    "bulk_create": lambda key: APIKey.objects.bulk_create([APIKey(name="B"), APIKey(name="C")]),
    "save": lambda key: change(key, name="B"),
    "update": lambda key: APIKey.objects.update(rate="1000/min"),
    "bulk_update": lambda key: APIKey.objects.bulk_update([assign(key, name="D")], ["name"]),
    "rotate": lambda key: key.rotate(),
    "deactivate": lambda key: key.deactivate(),
    "delete": lambda key: key.delete(),
    "delete all": lambda key: APIKey.objects.all().delete(),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_what_cannot_be_recorded_does_not_happen(key: APIKey, no_audit_log: None, step: str) -> None:
    before = list(APIKey.objects.values())
    with pytest.raises(Error), transaction.atomic():
        STEPS[step](key)
    assert list(APIKey.objects.values()) == before


@pytest.mark.parametrize("step", STEPS)
def test_what_is_rolled_back_leaves_no_event(key: APIKey, step: str) -> None:
    before = list(APIKey.objects.values())
    with transaction.atomic():
        STEPS[step](key)
        assert all_events()
        transaction.set_rollback(True)
    assert all_events() == []
    assert list(APIKey.objects.values()) == before


def test_a_receiver_that_raises_undoes_the_change_and_the_copy_can_be_saved_again(key: APIKey) -> None:
    def object_to_it(**kwargs: Any) -> None:
        raise RuntimeError

    key_changed.connect(object_to_it)
    try:
        key.is_active = False
        with pytest.raises(RuntimeError):
            key.save()
        assert all_events() == []
        assert APIKey.objects.get().is_active
    finally:
        key_changed.disconnect(object_to_it)
    key.save()
    assert all_events() == [("deactivated", "")]
    assert not APIKey.objects.get().is_active


def test_other_code_hears_of_each_step(key: APIKey) -> None:
    heard: list[tuple[str, str, str]] = []

    def listen(*, key: APIKey, event: str, detail: str, **kwargs: Any) -> None:
        heard.append((key.name, event, detail))

    key_changed.connect(listen)
    try:
        change(key, name="B", is_active=False)
    finally:
        key_changed.disconnect(listen)
    assert heard == [("B", "deactivated", ""), ("B", "changed", "name")]


@pytest.mark.django_db(transaction=True)
def test_the_log_can_be_read_where_it_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    read_only, writable = {
        "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
        "postgresql": ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off"),
        "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"),
    }[connection.vendor]
    key = APIKey.objects.create(name="A")
    with override_settings(KEYS={"OUTCOME_DELAY": timedelta(hours=1)}):
        # The first outcome may be written at once; the second waits.
        for _ in range(2):
            Client().get("/guarded/", headers={"X-API-Key": key.key})
    with connection.cursor() as cursor:
        cursor.execute(read_only)
        try:
            statuses = list(AuditEvent.objects.filter(event="used").order_by("id").values_list("status", flat=True))
        finally:
            cursor.execute(writable)
    assert statuses[1:] == [None]
    assert "Outcomes wait to be added to the audit log" in caplog.text
    assert list(AuditEvent.objects.filter(event="used").values_list("status", flat=True)) == [200, 200]
