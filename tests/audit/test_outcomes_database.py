"""Pending outcomes and the database: its transactions, its readers, its connections."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.handlers.base import BaseHandler
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings

from keys.audit import statements
from keys.audit.outcomes import Backlog, Batch, Outcome
from keys.audit.places import can_return_to
from keys.models import APIKey, AuditEvent


def statuses() -> list[int | None]:
    """What the database holds, which reading through `objects` would change first."""
    return list(AuditEvent._base_manager.filter(event="used").order_by("id").values_list("status", flat=True))


@pytest.fixture
def caller(settings: Settings) -> Client:
    settings.KEYS = {"OUTCOME_DELAY": timedelta(hours=1)}
    return Client(headers={"X-API-Key": APIKey.objects.create(name="TTS").key})


@pytest.mark.django_db
def test_inside_a_transaction_outcomes_are_written_at_once(caller: Client) -> None:
    for _ in range(3):
        caller.get("/guarded/")
    assert statuses() == [200, 200, 200]


@pytest.mark.django_db(transaction=True)
def test_whoever_reads_the_log_sees_every_outcome(caller: Client) -> None:
    for _ in range(3):
        caller.get("/guarded/")
    assert statuses()[1:] == [None, None]
    assert not AuditEvent.objects.died().exists()
    assert statuses() == [200, 200, 200]


@pytest.mark.django_db(transaction=True)
def test_a_queryset_is_built_where_no_query_is_allowed(caller: Client) -> None:
    for _ in range(3):
        caller.get("/guarded/")

    def refuse(execute: Any, sql: str, *others: Any) -> None:
        raise AssertionError("No query here.")

    with connection.execute_wrapper(refuse):
        events = AuditEvent.objects.filter(event="used")
    assert statuses()[1:] == [None, None]
    assert len(events.all()) == 3
    assert len(AuditEvent.objects.filter(status=200)) == 3


@pytest.mark.django_db(transaction=True)
def test_an_answer_from_memory_leaves_nothing_to_be_written(
    caller: Client, rf: RequestFactory, settings: Settings
) -> None:
    """A live server and its test share one connection: a write after the answer gets into the test's transaction."""
    settings.KEYS = {"OUTCOME_DELAY": timedelta(0)}
    connection.inc_thread_sharing()
    try:
        request = rf.get("/guarded/", headers={"X-API-Key": caller.defaults["HTTP_X_API_KEY"]})
        handler = BaseHandler()
        handler.load_middleware()
        assert handler.get_response(request).status_code == 200
        assert statuses() == [200]
    finally:
        connection.dec_thread_sharing()


def test_no_other_connection_writes_into_memory() -> None:
    options = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    assert not can_return_to(DatabaseWrapper(options))
    assert can_return_to(DatabaseWrapper({**options, "NAME": "keys.sqlite3"}))


@pytest.mark.django_db(transaction=True)
def test_a_reader_in_a_transaction_does_not_wait_for_the_writer(caller: Client) -> None:
    # On SQLite a writer waits for that transaction, which then must not wait for the writer.
    for _ in range(3):
        caller.get("/guarded/")
    waiting, errors = threading.Event(), []

    def read() -> None:
        try:
            waiting.set()
            list(AuditEvent.objects.all())
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        APIKey.objects.create(name="holds the lock")
        thread = threading.Thread(target=read)
        thread.start()
        waiting.wait()
        for _ in range(50):
            list(AuditEvent.objects.all())
    thread.join()
    assert errors == []
    assert statuses() == [200, 200, 200]


@pytest.mark.django_db(transaction=True)
def test_the_timer_closes_its_connection() -> None:
    used: list[tuple[threading.Thread, Any]] = []
    written = threading.Event()

    def write(batch: Batch) -> None:
        AuditEvent._base_manager.count()
        used.append((threading.current_thread(), connections["default"]))
        written.set()

    backlog = Backlog(lambda place: threading.current_thread() is not threading.main_thread(), write)
    backlog.add_outcome(Outcome("used", "", 200, 1, 0, timezone.now()), 0.01)
    assert written.wait(60)
    thread, wrapper = used[0]
    thread.join()
    assert wrapper.connection is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_written_from_an_event_loop() -> None:
    async def ask() -> bool:
        return statements.get_ready(None)

    assert statements.get_ready(None)
    assert not asyncio.run(ask())
    with transaction.atomic():
        assert not statements.get_ready(None)
