"""`keys_partition`: what it does, says and leaves, and what happens when others are at work at the same time."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from keys.audit import retention, statements
from keys.audit.partitions import missing, present
from keys.models import AuditEvent
from tests.audit.test_retention import in_a_thread
from tests.benchmarks import retention as benchmark
from tests.support.commands import run
from tests.support.log import record, row
from tests.support.tables import (
    drop_partitions_since,
    months_ago,
    needs_partitions,
    reset_partitions,
    row_counts,
    start_log,
    suffix,
)


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL has partitions.")
@pytest.mark.django_db
def test_a_database_without_partitions_is_told_so_in_a_sentence() -> None:
    plain = run("keys_partition")
    assert (plain.status, plain.out) == (0, "")
    assert "without partitions; keys_prune deletes what is old" in plain.err
    assert run("keys_partition", "--json").out == "[]\n"
    # Nothing was there to be made, but something was to be forgotten, and has not been.
    asked = run("keys_partition", "--older-than", "365d")
    assert asked.status == 1
    assert "keys_prune" in asked.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--older-than", "yesterday"], "is not a length of time"),
        (["--wait", "long"], "is not a length of time"),
        (["--ahead", "0"], "--ahead is a number from 1 to 120."),
        (["--ahead", "121"], "--ahead is a number from 1 to 120."),
    ],
)
@pytest.mark.django_db
def test_mistakes_are_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    result = run("keys_partition", *arguments)
    assert (result.status, result.out) == (1, "")
    assert sentence in result.err


@needs_partitions
@pytest.mark.django_db
class TestKeeping:
    def test_months_are_made_ahead(self) -> None:
        made = run("keys_partition", "--ahead", "4")
        assert made.status == 0
        assert [line.split()[1] for line in made.err.splitlines()] == [
            f"keys_auditevent_{suffix(months_ago(-number))}." for number in (3, 4)
        ]
        assert missing(ahead=4) == []
        again = run("keys_partition", "--ahead", "4")
        assert (again.status, again.err) == (0, "")

    def test_people_get_a_table(self) -> None:
        record(at=timezone.now())
        lines = run("keys_partition").out.splitlines()
        assert lines[0].split() == ["PARTITION", "SINCE", "BEFORE", "EVENTS", "SIZE", "NOTES"]
        assert [line.split()[0] for line in lines[1:]] == [partition.name for partition in present()]
        assert lines[2].split()[1:3] == [f"{months_ago(0):%Y-%m-%d}", f"{months_ago(-1):%Y-%m-%d}"]
        assert run("keys_partition", "-v", "0").out == ""

    def test_months_are_dropped_when_they_are_old_enough(self) -> None:
        start_log(3)
        record(at=months_ago(2))
        record(at=months_ago(1))
        age = timezone.now() - months_ago(1)
        kept = run("keys_partition", "--older-than", f"{age.days + 2}d")
        assert f"Dropped keys_auditevent_{suffix(months_ago(3))} with 0 events." in kept.err
        assert row_counts() == {suffix(months_ago(2)): 1, suffix(months_ago(1)): 1, suffix(months_ago(0)): 1}
        dropped = run("keys_partition", "--older-than", f"{age.days}d", "--json")
        assert dropped.err == f"Dropped keys_auditevent_{suffix(months_ago(2))} with 1 events.\n"
        assert [(each["name"][16:], each["rows"]) for each in json.loads(dropped.out) if each["action"]] == [
            (suffix(months_ago(2)), 1)
        ]
        assert AuditEvent.objects.filter(event="pruned", actor__startswith="command line: ").count() == 2

    def test_a_dry_run_does_nothing(self) -> None:
        start_log(2)
        record(at=months_ago(2))
        record(at=months_ago(-30))
        before, lay = present(), row_counts()
        planned = run("keys_partition", "--dry-run", "--older-than", "1d", "--ahead", "3", "--json")
        assert planned.status == 0
        assert planned.err.splitlines() == [
            "Nothing is done: 2 partitions would be made and 2 dropped.",
            "1 events have a time that is yet to come: a clock was wrong, and no age reaches them.",
        ]
        assert [(each["name"][16:], each["action"]) for each in json.loads(planned.out) if each["action"]] == [
            (suffix(months_ago(2)), "dropped"),
            (suffix(months_ago(1)), "dropped"),
            (suffix(months_ago(-3)), "made"),
            (suffix(months_ago(-30)), "made"),
        ]
        assert (present(), row_counts()) == (before, lay)
        assert not AuditEvent.objects.filter(event="pruned").exists()

    def test_the_fields_of_the_json_are_stable(self) -> None:
        listed = json.loads(run("keys_partition", "--json").out)
        assert listed[1].pop("size") > 0
        assert listed[1] == {
            "name": f"keys_auditevent_{suffix(months_ago(0))}", "is_default": False, "rows": 0, "action": "",
            "since": f"{months_ago(0):%Y-%m}-01T00:00:00Z", "until": f"{months_ago(-1):%Y-%m}-01T00:00:00Z",
        }  # fmt: skip
        assert (listed[0]["since"], listed[-1]["until"], listed[-1]["is_default"]) == (None, None, True)


@needs_partitions
@pytest.mark.django_db(transaction=True)
class TestTogether:
    @pytest.fixture(autouse=True)
    def put_back(self) -> Iterator[None]:
        yield
        reset_partitions()

    def test_it_may_run_from_several_places_at_once(self) -> None:
        start_log(4)
        for month in (4, 3):
            record(at=months_ago(month))
        drop_partitions_since()
        for _ in range(20):
            record(at=timezone.now())
        record(at=months_ago(-20))

        age = (timezone.now() - months_ago(2)).days
        runs = [Thread(lambda: partition("--older-than", f"{age}d")) for _ in range(4)]
        said = [line for each in runs for line in each.result()]
        done = [line for line in said if line.startswith(("Made ", "Dropped ", "Deleted "))]
        assert len(done) == len(set(done)), done
        assert row_counts() == {suffix(months_ago(0)): 22, suffix(months_ago(-20)): 1}
        assert AuditEvent.objects.filter(event="pruned").count() == 2
        assert missing() == []

    def test_writers_lose_nothing_while_their_month_is_made(self) -> None:
        """The worst moment: all of them write into the default partition, which is taken away."""
        drop_partitions_since()
        is_made = threading.Event()
        have_begun = threading.Barrier(4)

        def write() -> list[int]:
            written: list[int] = []
            while len(written) < 20 or not is_made.is_set():
                written.append(statements.insert(row(at=timezone.now())).number)
                if len(written) == 10:
                    have_begun.wait(timeout=60)
            return written

        writers = [Thread(write) for _ in range(3)]
        try:
            have_begun.wait(timeout=60)
            made = run("keys_partition")
        finally:
            is_made.set()
            written = [writer.result() for writer in writers]
        assert made.status == 0, made.err
        ids = sorted(each for some in written for each in some)
        assert list(AuditEvent.objects.order_by("id").values_list("id", flat=True)) == ids
        assert row_counts() == {suffix(months_ago(0)): len(ids)}

    def test_it_lets_go_of_what_another_transaction_holds_and_writers_go_on(self) -> None:
        start_log(1)
        record(at=months_ago(1))
        with transaction.atomic():
            AuditEvent.objects.count()  # a report or a dump, which reads every partition
            waiting = Thread(lambda: partition("--older-than", "1d", "--wait", "1s"))
            for _ in range(20):
                in_a_thread(lambda: record(at=timezone.now()))
            with pytest.raises(CommandError) as given_up:
                waiting.result()
        assert str(given_up.value) == "Another transaction has held the audit log for 1 s; try again when it has ended."
        assert row_counts() == {suffix(months_ago(1)): 1, suffix(months_ago(0)): 20}
        assert run("keys_partition", "--older-than", "1d").status == 0
        assert row_counts() == {suffix(months_ago(0)): 21}

    def test_pruning_says_so_too_where_another_transaction_holds_the_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start_log(1)
        record(at=months_ago(1))
        monkeypatch.setattr(retention, "drop_months", partial(retention.drop_months, patience=0.0))
        with transaction.atomic():
            AuditEvent.objects.count()
            (pruned,) = in_a_thread(lambda: run("keys_prune", "--older-than", "1d"))
        assert pruned.status == 1
        assert "Another transaction has held the audit log" in pruned.err
        assert row_counts() == {suffix(months_ago(1)): 1}

    def test_the_benchmark_of_retention_finds_what_it_looks_for(self) -> None:
        month = benchmark.begin_months_ago(2)
        benchmark.fill(month, 2000)
        result = benchmark.drop(month, alone=0)
        assert (result.dropped, result.failed) == (2000, 0)
        assert result.written > 0
        assert AuditEvent.objects.filter(event="used").count() >= result.written
        assert all(line.count(":") for line in benchmark.report(result))


def partition(*arguments: str) -> list[str]:
    """Run the command, and return what it says that it has done."""
    said = StringIO()
    call_command("keys_partition", *arguments, stdout=StringIO(), stderr=said)
    return said.getvalue().splitlines()


class Thread(threading.Thread):
    """Work in a thread with a database connection of its own, begun at once."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work
        self._results: list[Any] = []
        self.start()

    def run(self) -> None:
        self._results = in_a_thread(self._work)

    def result(self) -> Any:
        """Wait for the end and return what came of it; raise what it raised."""
        self.join(timeout=60)
        (result,) = self._results
        if isinstance(result, Exception):
            raise result
        return result
