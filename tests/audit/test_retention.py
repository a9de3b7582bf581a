"""Deleting old events: which ones, in which batches, and with concurrent writers."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import actor
from keys.audit import retention
from keys.audit.retention import Pruning
from keys.models import AuditEvent
from tests.support.commands import run
from tests.support.keys import make_key
from tests.support.log import record
from tests.support.tables import execute

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)
OLD, NEW = CUTOFF - timedelta(days=1), CUTOFF + timedelta(days=1)


def fill(rows: int, at: datetime = OLD, **fields: Any) -> None:
    """Write many events, a second apart and ending at that time."""
    AuditEvent.objects.bulk_create(
        AuditEvent(**{"event": "used", "status": 200, "at": at - timedelta(seconds=second), **fields})
        for second in range(rows)
    )


def times() -> list[datetime]:
    return list(AuditEvent.objects.filter(event__in=["used", "refused"]).order_by("at").values_list("at", flat=True))


@pytest.mark.django_db
def test_events_from_before_the_time_go_and_the_others_stay() -> None:
    fill(7)
    fill(2, event="refused", reason="unknown", count=400)
    record(at=CUTOFF)
    record(at=NEW)
    assert retention.prune(CUTOFF) == 9
    assert times() == [CUTOFF, NEW]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has times that Python has not.")
@pytest.mark.django_db
@pytest.mark.parametrize("command", ["keys_prune", "keys_partition"])
@pytest.mark.parametrize("time", ["-infinity", "0044-03-15 BC"])
def test_it_reaches_times_that_python_does_not_have(time: str, command: str) -> None:
    ids = [record(event=event, at=OLD).pk for event in ("used", "refused", "changed")]
    execute("UPDATE keys_auditevent SET at = %s", [time])
    done = run(command, "--older-than", "1d")
    assert done.status == 0, done.err
    assert execute("SELECT id FROM keys_auditevent WHERE event <> 'pruned'") == [(ids[-1],)]


@pytest.mark.django_db
def test_what_was_done_to_keys_is_kept_unless_asked_for() -> None:
    key = make_key()
    AuditEvent.objects.update(at=OLD)
    record(key, at=OLD)
    assert retention.prune(CUTOFF) == 1
    assert [event.event for event in AuditEvent.objects.all()] == ["pruned", "pruned", "created"]
    assert retention.prune(CUTOFF, life_cycle=True) == 1
    assert [event.event for event in AuditEvent.objects.all()] == ["pruned"] * 4


@pytest.mark.django_db
def test_the_log_says_that_it_was_pruned_by_whom_and_how_much() -> None:
    fill(3)
    with actor.acting_as("command line: root"):
        retention.prune(CUTOFF)
        retention.prune(CUTOFF)
    pruned = AuditEvent.objects.filter(event="pruned").order_by("id")
    begun, done = Pruning(CUTOFF, False, False), Pruning(CUTOFF, False, True)
    assert [(Pruning.read(event.detail), event.count) for event in pruned] == [(begun, 0), (done, 3), (done, 0)]
    assert begun.sentence == "deleting uses and refusals before 2024-06-01 00:00:00 UTC"
    assert done.sentence == "uses and refusals before 2024-06-01 00:00:00 UTC"
    assert {event.actor for event in pruned} == {"command line: root"}


@pytest.mark.django_db
def test_an_interrupted_prune_is_on_the_log_with_what_it_did() -> None:
    fill(10)

    def interrupt(deleted: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retention.prune(CUTOFF, batch_size=4, progress=interrupt)
    assert AuditEvent.objects.filter(event="pruned").latest("id").count == 4
    assert len(times()) == 6


@pytest.mark.django_db
def test_the_oldest_events_go_first_in_batches_of_the_given_size() -> None:
    fill(10)
    # Written later, though older: rows come in the order of their primary keys only by and large.
    fill(3, at=OLD - timedelta(days=30))
    left: list[int] = []
    oldest: list[datetime] = []

    def note(deleted: int) -> None:
        left.append(len(times()))
        oldest.extend(times()[:1])

    assert retention.prune(CUTOFF, batch_size=2, progress=note) == 13
    assert left == [11, 9, 7, 5, 3, 1, 0]
    assert oldest == sorted(oldest)


@pytest.mark.django_db
def test_events_of_one_moment_are_no_obstacle() -> None:
    fill(10)
    AuditEvent.objects.update(at=OLD)
    record(at=NEW)
    assert retention.prune(CUTOFF, batch_size=3) == 10
    assert times() == [NEW]


@pytest.mark.django_db
def test_a_batch_is_one_look_by_the_index_on_time_and_one_delete_by_a_range_of_primary_keys() -> None:
    fill(20)
    with CaptureQueriesContext(connection) as queries:
        retention.prune(CUTOFF, batch_size=10)
    statements, table = [query["sql"] or "" for query in queries], connection.ops.quote_name("keys_auditevent")
    looks = [sql for sql in statements if sql.startswith("SELECT") and f"FROM {table}" in sql]
    deletes = [sql for sql in statements if sql.startswith("DELETE")]
    assert (len(looks), len(deletes)) == (3, 2)
    assert all("BETWEEN" in sql and connection.ops.quote_name("id") in sql for sql in deletes)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # On a table as small as this the planner would read all of it.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
        for look in looks:
            cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + look)
            plan = str(cursor.fetchall())
            assert ("keys_auditevent_past_at_idx" if connection.vendor == "postgresql" else "keys_event_at") in plan
            assert "SORT" not in plan.upper()
            assert "TEMP B-TREE" not in plan.upper()


def in_a_thread(work: Any) -> list[Any]:
    """Do some work on a database connection of its own, and return its result in a list, or the error."""
    results: list[Any] = []

    def do() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=do)
    thread.start()
    thread.join(timeout=60)
    return results


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_committed_and_lets_a_writer_through_before_the_next() -> None:
    fill(50)
    seen: list[Any] = []

    def write_and_look() -> int:
        AuditEvent.record_step("changed", "while pruning", using="default")
        return len(times())

    retention.prune(CUTOFF, batch_size=10, progress=lambda deleted: seen.extend(in_a_thread(write_and_look)))
    assert seen == [40, 30, 20, 10, 0]
    assert AuditEvent.objects.filter(detail="while pruning").count() == 5


@pytest.mark.django_db(transaction=True)
def test_writers_lose_nothing_while_the_log_is_pruned() -> None:
    fill(3000)
    is_pruned, is_writing = threading.Event(), threading.Event()
    written: list[Any] = []

    def write_until_pruned() -> int:
        count = 0
        while not is_pruned.is_set():
            record(at=timezone.now())
            count += 1
            is_writing.set()
        return count

    writer = threading.Thread(target=lambda: written.extend(in_a_thread(write_until_pruned)))
    writer.start()
    try:
        assert is_writing.wait(timeout=60)
        deleted = retention.prune(CUTOFF, batch_size=100)
    finally:
        is_pruned.set()
        writer.join(timeout=60)
    assert deleted == 3000
    assert len(times()) == written[0] > 0


@pytest.mark.django_db(transaction=True)
def test_two_prunes_at_once_delete_each_event_once() -> None:
    fill(1000)
    other: list[Any] = []
    has_begun, may_end = threading.Event(), threading.Event()

    def pause(deleted: int) -> None:
        has_begun.set()
        may_end.wait(timeout=60)

    thread = threading.Thread(
        target=lambda: other.extend(in_a_thread(lambda: retention.prune(CUTOFF, batch_size=100, progress=pause)))
    )
    thread.start()
    try:
        assert has_begun.wait(timeout=60)
        deleted = retention.prune(CUTOFF, batch_size=150)
    finally:
        may_end.set()
        thread.join(timeout=60)
    assert (other, deleted, times()) == ([100], 900, [])
