"""Nobody waits for a lock of the log while another thread writes, nor in a child that was forked meanwhile."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError

from keys.audit.floods import WHOLE_ROWS, Floods
from keys.audit.outcomes import Backlog, Batch, CountedRow, Outcome, RowHandle
from keys.audit.places import Place
from keys.networks import parse_address
from tests.support.log import AT, row

ADDRESS = parse_address("192.0.2.1")
PATIENCE = 60
LONG = 1e9


class ListSink:
    """Rows in a list. `insert` waits where a test tells it to, as for a connection of a pool."""

    shares_key_database = False

    def __init__(self) -> None:
        self.rows: list[int] = []  # the count of each
        self.later: list[tuple[bool, int]] = []  # what was left for later: whether the row is written, and its count
        self.may_insert = threading.Event()
        self.may_insert.set()
        self.is_waiting = threading.Semaphore(0)
        self.fails = False

    def place(self) -> Place:
        return Place("list")

    def may_be_rolled_back(self) -> bool:
        return False

    def insert(self, row: dict[str, Any]) -> RowHandle:
        if not self.may_insert.is_set():
            self.is_waiting.release()
            assert self.may_insert.wait(PATIENCE)
        if self.fails:
            raise OperationalError
        self.rows.append(1)
        return RowHandle(len(self.rows), row["at"], self.place())

    def add_outcome(self, handle: RowHandle, row: dict[str, Any], may_be_gone: bool) -> None:
        raise NotImplementedError

    def count_again(self, counted: CountedRow) -> bool:
        self.rows[counted.number - 1] = counted.total
        return True

    def count_later(self, counted: CountedRow) -> None:
        self.later.append((counted.is_written, counted.total))

    def existing(self, handles: Any) -> set[RowHandle]:
        return {*handles}


@pytest.fixture
def sink() -> Iterator[ListSink]:
    sink = ListSink()
    yield sink
    sink.may_insert.set()


@pytest.fixture
def refuse(sink: ListSink) -> Any:
    floods, refused = Floods(), row(event="refused", reason="unknown", at=datetime(2026, 3, 1, 12, tzinfo=UTC))

    def refuse() -> None:
        with suppress(OperationalError):
            floods.record(dict(refused), ADDRESS, sink)

    return refuse


def in_thread(act: Any) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_whole_rows_are_inserted_beside_each_other(sink: ListSink, refuse: Any) -> None:
    sink.may_insert.clear()
    threads = [in_thread(refuse) for _ in range(WHOLE_ROWS)]
    assert all(sink.is_waiting.acquire(timeout=PATIENCE) for _ in threads)
    sink.may_insert.set()
    for thread in threads:
        thread.join()
    assert sink.rows == [1] * WHOLE_ROWS


@pytest.mark.parametrize("fails", [False, True], ids=["inserted", "failed"])
def test_refusals_do_not_wait_for_the_counted_row(sink: ListSink, refuse: Any, fails: bool) -> None:
    for _ in range(WHOLE_ROWS):
        refuse()
    sink.may_insert.clear()
    first = in_thread(refuse)
    assert sink.is_waiting.acquire(timeout=PATIENCE)
    for _ in range(3):
        refuse()  # would wait for ever
    sink.fails = fails
    sink.may_insert.set()
    first.join()
    if fails:
        # Its own refusal was answered with 503; those of the others are counted in a row that comes later.
        assert (sink.rows, sink.later) == ([1] * WHOLE_ROWS, [(False, 3)])
    else:
        assert (sink.rows, sink.later) == ([1] * (WHOLE_ROWS + 1), [(True, 4)])
    sink.fails = False
    refuse()
    assert sink.rows == [1] * WHOLE_ROWS + [1 if fails else 5]


def outcome(number: int, place: Place) -> Outcome:
    return Outcome("used", "", 200, 1, number, AT, place)


def test_nobody_waits_for_a_thread_that_waits_for_a_connection() -> None:
    may_connect, is_waiting = threading.Event(), threading.Event()
    written: list[Batch] = []

    def connect(place: Place | None) -> bool:
        if threading.current_thread() is not threading.main_thread():
            is_waiting.set()
            may_connect.wait(PATIENCE)
        return True

    backlog = Backlog(connect, written.append)
    place = Place("default")
    backlog.add_outcome(outcome(0, place), LONG)
    backlog.add_outcome(outcome(1, place), LONG)
    other = in_thread(backlog.flush)
    assert is_waiting.wait(PATIENCE)
    backlog.flush()
    backlog.add_outcome(outcome(2, place), 0)
    assert [len(batch.outcomes) for batch in written] == [1, 1, 1]
    may_connect.set()
    other.join()


def test_a_request_does_not_wait_for_the_thread_that_writes() -> None:
    is_writing, may_end, written = threading.Event(), threading.Event(), []

    def write(batch: Batch) -> None:
        is_writing.set()
        may_end.wait(PATIENCE)
        written.extend(batch.outcomes)

    backlog = Backlog(lambda place: True, write)
    other = in_thread(lambda: backlog.add_outcome(outcome(0, Place("default")), 0))
    assert is_writing.wait(PATIENCE)
    backlog.add_outcome(outcome(1, Place("default")), LONG)  # would wait for ever
    may_end.set()
    other.join()
    backlog.flush()
    assert [each.number for each in written] == [0, 1]


def test_a_place_that_fails_is_in_no_other_s_way() -> None:
    written: list[Batch] = []
    here, gone = Place("default", "here"), Place("default", "gone")

    def write(batch: Batch) -> None:
        if batch.place == gone:
            raise OperationalError
        written.append(batch)

    backlog = Backlog(lambda place: True, write)
    for number in range(3):
        with suppress(OperationalError):
            backlog.add_outcome(outcome(number, gone), LONG)
        backlog.add_outcome(outcome(number, here), LONG)
    with pytest.raises(OperationalError):
        backlog.flush()
    assert [{each.place for each in batch.outcomes} for batch in written] == [{here}, {here}]
    assert [each.number for batch in written for each in batch.outcomes] == [0, 1, 2]
    backlog.forget(gone)
    backlog.flush()


FORK = """
import logging, os, threading, django
logging.disable()
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "keys"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}, USE_TZ=True)
django.setup()
from django.core.management import call_command
from django.test import RequestFactory
from keys.audit.floods import floods
from keys.audit.sinks import backlog
from keys.decorators import GUARD
from keys.models import AuditEvent
from keys.verification import check
held, may_end = threading.Event(), threading.Event()
refused = RequestFactory().get("/", headers={{"X-API-Key": "0" * 40}})
call_command("migrate", verbosity=0)
for _ in range(8):
    check(refused, GUARD)

def hold():
    with {lock}:
        held.set()
        may_end.wait()

threading.Thread(target=hold).start()
held.wait()
if os.fork() == 0:
    for _ in range(8):
        check(refused, GUARD)
    print(list(AuditEvent.objects.order_by("id").values_list("count", flat=True)), flush=True)
    os._exit(0)
pid, status = os.wait()
may_end.set()
print(status)
"""


@pytest.mark.matrix
@pytest.mark.parametrize(
    "lock",
    [
        "floods._lock",
        "floods._minutes[max(floods._minutes)]._lock",
        "next(iter(floods._minutes[max(floods._minutes)]._buckets.values())).lock",
        "floods._minutes[max(floods._minutes)]._room._lock",
        "backlog._batch_lock",
        "backlog._write_lock",
    ],
)
def test_a_lock_that_is_held_at_a_fork_is_free_in_the_child(lock: str) -> None:
    script = FORK.format(lock=lock)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # The child has rows of its own, beside those that the parent left.
    assert (ended.stdout, ended.stderr) == ("[1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 1, 3]\n0\n", "")
