"""Outcomes and counts that are written late are written once, all of them, whatever happens in between."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from keys.audit.outcomes import LIMIT, Backlog, Batch, CountedRow, Outcome, RowHandle
from keys.audit.places import Place
from tests.support.log import AT

# Longer than any machine has been running, which is what `monotonic()` may count from.
LONG = 1e9


def outcome(number: int) -> Outcome:
    return Outcome("used", "", 200, 1, number, AT)


def counting(number: int) -> CountedRow:
    return CountedRow.written(RowHandle(number, AT), {})


class Writing(Backlog):
    """A backlog that writes into a list."""

    def __init__(self) -> None:
        super().__init__(self.get_ready, self.write)
        self.written: list[Batch] = []
        self.is_free = True
        self.error: Exception | None = None
        self.wrote = threading.Event()
        self.failures = threading.Semaphore(0)

    def get_ready(self, place: Place | None) -> bool:
        return self.is_free

    def write(self, batch: Batch) -> None:
        if self.error is not None:
            self.failures.release()
            raise self.error
        self.written.append(batch)
        self.wrote.set()

    def grow(self, row: CountedRow, delay: float) -> None:
        row.total += 1
        self.add_count(row, delay)

    @property
    def ids(self) -> list[int]:
        return [outcome.number for batch in self.written for outcome in batch.outcomes]


@pytest.fixture
def backlog() -> Iterator[Writing]:
    writing = Writing()
    yield writing
    writing.error = None
    writing.flush()


def test_the_first_is_written_at_once_and_the_others_together(backlog: Writing) -> None:
    one, other = counting(7), counting(8)
    for number in range(5):
        backlog.add_outcome(outcome(number), LONG)
        backlog.grow(one, LONG)
    backlog.grow(other, LONG)
    assert backlog.written == [Batch([outcome(0)])]
    backlog.flush()
    backlog.flush()
    assert backlog.written[1:] == [Batch([outcome(n) for n in range(1, 5)], {one: 6, other: 2})]


def test_each_is_written_at_once_where_that_is_wanted(backlog: Writing) -> None:
    for number in range(5):
        backlog.add_outcome(outcome(number), 0)
    assert len(backlog.written) == 5


def test_the_end_of_a_burst_is_written_by_itself(backlog: Writing) -> None:
    backlog.add_outcome(outcome(0), 0.01)
    backlog.wrote.clear()
    backlog.add_outcome(outcome(1), 0.01)
    assert backlog.wrote.wait(60)
    assert backlog.ids == [0, 1]


def test_a_failure_keeps_what_waits(backlog: Writing) -> None:
    backlog.error = RuntimeError("the database is gone")
    for number in range(3):
        with pytest.raises(RuntimeError):
            backlog.add_outcome(outcome(number), 0)
    row = counting(7)
    with pytest.raises(RuntimeError):
        backlog.grow(row, 0)
    backlog.error = None
    backlog.grow(row, 0)
    assert backlog.written == [Batch([outcome(n) for n in range(3)], {row: 3})]


@pytest.mark.parametrize("already_written", [0, 1], ids=["the first", "one that waited"])
def test_what_could_not_be_written_is_tried_again_without_another_request(
    backlog: Writing, monkeypatch: pytest.MonkeyPatch, already_written: int
) -> None:
    monkeypatch.setattr("keys.audit.outcomes.RETRY_DELAY", 0.01)
    for number in range(already_written):
        backlog.add_outcome(outcome(number), LONG)
    backlog.wrote.clear()
    backlog.error = RuntimeError("the database is gone")
    with suppress(RuntimeError):
        backlog.add_outcome(outcome(already_written), 0.01)
    # More than once, so that it was not the request alone that failed.
    assert all(backlog.failures.acquire(timeout=30) for _ in range(3))
    backlog.error = None
    assert backlog.wrote.wait(30)
    assert backlog.ids == list(range(already_written + 1))


def test_what_cannot_be_written_here_waits(backlog: Writing) -> None:
    backlog.is_free = False
    backlog.add_outcome(outcome(0), LONG)
    backlog.flush()
    assert backlog.written == []
    backlog.is_free = True
    backlog.flush()
    assert backlog.ids == [0]


def test_what_waits_is_bounded(backlog: Writing) -> None:
    backlog.is_free = False
    row = counting(7)
    for number in range(LIMIT + 5):
        backlog.add_outcome(outcome(number), LONG)
        backlog.grow(row, LONG)
    backlog.is_free = True
    backlog.flush()
    assert backlog.ids == list(range(5, LIMIT + 5))
    assert backlog.written[0].counts == {row: LIMIT + 6}


def test_threads_lose_nothing_and_write_nothing_twice(backlog: Writing) -> None:
    row, lock = counting(7), threading.Lock()

    def add(first: int) -> None:
        for number in range(first, first + 500):
            backlog.add_outcome(outcome(number), 0.0001)
            with lock:
                row.total += 1
            backlog.add_count(row, 0.0001)

    threads = [threading.Thread(target=add, args=(1_000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backlog.flush()
    assert sorted(backlog.ids) == sorted(1_000 * n + m for n in range(8) for m in range(500))
    counts = [batch.counts[row] for batch in backlog.written if row in batch.counts]
    assert (counts, counts[-1]) == (sorted(counts), 4_001)


def test_whoever_settles_waits_for_the_thread_that_is_at_it(backlog: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end, order = threading.Event(), threading.Event(), []

    def write(batch: Batch) -> None:
        begun.set()
        may_end.wait(60)
        order.append("written")

    def settle() -> None:
        backlog.flush()
        order.append("settled")

    monkeypatch.setattr(backlog, "_write", write)
    first = threading.Thread(target=backlog.add_outcome, args=(outcome(0), 0))
    first.start()
    begun.wait(60)
    second = threading.Thread(target=settle)
    second.start()
    # Where it does not wait it is done by now.
    second.join(0.2)
    may_end.set()
    second.join()
    first.join()
    assert order == ["written", "settled"]


SCRIPT = """
import os, sys
from datetime import datetime
from keys.audit.outcomes import Backlog, Outcome
def write(batch):
    print(os.getpid() == parent, [outcome.number for outcome in batch.outcomes], flush=True)
backlog = Backlog(lambda place: True, write)
parent = os.getpid()
for number in range(3):
    backlog.add_outcome(Outcome("used", "", 200, 1, number, datetime.now()), 1e9)
"""


@pytest.mark.parametrize(
    ("ending", "written"),
    [
        ("", "True [0]\nTrue [1, 2]\n"),
        ("sys.exit(3)", "True [0]\nTrue [1, 2]\n"),
        # A child that is forked, as workers are, begins with nothing.
        ("if os.fork(): os.wait()", "True [0]\nTrue [1, 2]\n"),
        ("if os.fork(): os.wait()\nelse: backlog.add_outcome(Outcome('used', '', 200, 1, 9, datetime.now()), 1e9)",
         "True [0]\nFalse [9]\nTrue [1, 2]\n"),
        # Its connections are still its parent's, which an end at both sides would close.
        ("from django.db import connections\nconnections.close_all = lambda: print(os.getpid() == parent, flush=True)\n"
         "if os.fork(): os.wait()",
         "True [0]\nTrue [1, 2]\nTrue\n"),
    ],
    ids=["end", "exit", "fork", "fork that goes on", "fork with connections"],
)  # fmt: skip
def test_a_process_that_ends_leaves_nothing(ending: str, written: str) -> None:
    script = "import django\nfrom django.conf import settings\nsettings.configure()\n" + SCRIPT + ending
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (written, "")
