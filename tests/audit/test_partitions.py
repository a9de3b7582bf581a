"""The audit log's partitions on PostgreSQL: which there are, where events find a place, and what is dropped."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.utils import timezone

from keys.audit import grants, partitions, retention, statements
from keys.audit.outcomes import Batch, CountedRow, Outcome
from keys.audit.partitions import Partition, PartitionError, missing, month_of, present, strays
from keys.audit.retention import Pruning
from keys.models import AuditEvent
from keys.models.fields import digests
from tests.support import runs
from tests.support.commands import found, run
from tests.support.keys import make_key
from tests.support.log import record, row
from tests.support.tables import (
    drop_partitions_since,
    execute,
    migrate,
    months_ago,
    needs_partitions,
    row_counts,
    start_log,
    suffix,
)

pytestmark = [needs_partitions, pytest.mark.django_db]

TABLE = [DEFAULT_DB_ALIAS]


def bounds() -> list[tuple[datetime | None, datetime | None]]:
    return [(partition.since, partition.until) for partition in present()]


def warnings() -> list[str]:
    return found("keys.W011", databases=TABLE)


def test_a_month_begins_in_utc() -> None:
    late = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert month_of(late) == datetime(2026, 12, 1, tzinfo=UTC)
    assert month_of(late, 1) == datetime(2027, 1, 1, tzinfo=UTC)
    assert month_of(late, -12) == datetime(2025, 12, 1, tzinfo=UTC)
    assert month_of(datetime.fromisoformat("2027-01-01T05:00:00+13:00")) == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_new_log_has_this_month_two_more_all_time_before_and_a_default() -> None:
    this = months_ago(0)
    assert bounds() == [
        (None, this),
        *((month_of(this, later), month_of(this, later + 1)) for later in range(3)),
        (None, None),
    ]
    assert [partition.is_default for partition in present()] == [False] * 4 + [True]
    assert missing() == []
    assert not warnings()


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/St_Johns"])
def test_the_time_zone_of_the_session_changes_nothing(zone: str) -> None:
    before = bounds()
    execute(f"SET LOCAL TIME ZONE '{zone}'")
    assert bounds() == before
    late = month_of(timezone.now(), 5)
    assert partitions.make(late)
    record(at=late - timedelta(seconds=1))
    record(at=late)
    assert list(strays()) == [month_of(late, -1)]
    execute("SET LOCAL TIME ZONE 'UTC'")
    assert row_counts() == {suffix(late): 1, "default": 1}
    assert (late, month_of(late, 1)) in bounds()


def test_an_event_of_any_time_has_a_place() -> None:
    now = timezone.now()
    events = [
        record(at=at)
        for at in (now, now - timedelta(days=36500), now + timedelta(days=36500), datetime(9999, 12, 31, tzinfo=UTC))
    ]
    assert row_counts() == {"past": 1, suffix(now): 1, "default": 2}
    assert list(AuditEvent.objects.order_by("id")) == events


def test_a_check_says_that_the_next_month_is_missing() -> None:
    drop_partitions_since()
    (warning,) = warnings()
    assert f"{months_ago(0):%Y-%m} and {months_ago(-1):%Y-%m}" in warning
    assert "keys_partition" in warning
    # Nothing is asked of a database that nobody asked about.
    assert not found("keys.W011")

    assert partitions.make(months_ago(0))
    assert "no partition" in warnings()[0]
    assert partitions.make(months_ago(-1))
    assert not warnings()


def test_a_check_says_that_events_found_no_partition() -> None:
    record(at=months_ago(-10))
    (warning,) = warnings()
    assert "default partition holds 1 event" in warning
    assert "keys_partition" in warning


def test_a_role_that_can_but_write_and_read_the_log_is_told_the_same() -> None:
    role = runs.own("web")
    execute(f"CREATE ROLE {role}")
    for statement in grants.grants(role):
        execute(statement)
    record(at=months_ago(-10))
    execute(f"SET LOCAL ROLE {role}")
    try:
        assert len(warnings()) == 1
        with pytest.raises(PartitionError, match="Only the database user that owns the audit log"):
            gather()
    finally:
        execute("RESET ROLE")


def test_holes_between_partitions_are_holes() -> None:
    start_log(4)
    for month in (3, 1):
        execute(f'DROP TABLE "{of(month).name}"')
    moments = [months_ago(month) + timedelta(hours=1) for month in (4, 3, 2, 1, 0, -3)]
    for at in moments:
        record(at=at)
    assert strays() == {months_ago(month): 1 for month in (3, 1, -3)}
    assert row_counts()["default"] == 3


def test_a_month_is_made_once() -> None:
    month = months_ago(-7)
    assert partitions.make(month)
    assert not partitions.make(month)
    assert (month, months_ago(-8)) in bounds()


def test_a_month_is_made_of_what_lies_in_the_default_partition() -> None:
    event, other = record(at=months_ago(-7)), record(at=months_ago(-9))
    assert partitions.make(months_ago(-7))
    assert row_counts() == {suffix(event.at): 1, "default": 1}
    assert set(AuditEvent.objects.all()) == {event, other}
    assert AuditEvent.objects.get(pk=event.pk).at == event.at


def gather() -> list[str]:
    made = []
    while (name := partitions.gather()) is not None:
        made.append(name.removeprefix("keys_auditevent_"))
    return made


def test_events_in_the_default_partition_get_partitions_of_their_own() -> None:
    drop_partitions_since()
    now = timezone.now()
    events = [record(at=now) for _ in range(5)]
    events += [record(at=months_ago(-number)) for number in (1, 40)]
    before = AuditEvent.objects.order_by("id").values_list()
    rows = list(before)

    # The few of another time are moved. The many become a partition as they are, together with the next month's.
    assert gather() == [suffix(months_ago(-40)), suffix(now)]
    assert row_counts() == {suffix(now): 6, suffix(months_ago(-40)): 1}
    assert (months_ago(0), months_ago(-2)) in bounds()
    assert list(before.all()) == rows
    assert missing() == [months_ago(-2)]
    assert not warnings()

    # And what comes now finds its place.
    record(at=now)
    record(at=months_ago(-2))
    assert row_counts()[suffix(now)] == 7
    assert row_counts()["default"] == 1


def test_every_partition_has_the_same_indexes_and_constraints_whatever_became_of_it() -> None:
    drop_partitions_since()
    for _ in range(2):
        record(at=timezone.now())
        record(at=months_ago(-3))
        gather()
        drop_partitions_since()
    partitions.make(months_ago(0))
    indexes = "SELECT replace(indexdef, tablename, '') FROM pg_indexes WHERE tablename = %s ORDER BY 1"
    (shape,) = {tuple(execute(indexes, [partition.name])) for partition in present()}
    assert len(shape) == 1 + len(AuditEvent._meta.indexes) + len(AuditEvent._meta.constraints)
    constraints = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = to_regclass(%s) ORDER BY 1"
    assert len({tuple(execute(constraints, [partition.name])) for partition in present()}) == 1


def of(months: int) -> Partition:
    """Return the partition of so many months ago."""
    return next(partition for partition in present() if partition.since == months_ago(months))


class TestDropping:
    @pytest.fixture(autouse=True)
    def a_log_of_three_months(self) -> None:
        start_log(3)
        self.key = make_key()
        AuditEvent.objects.all().delete()
        for month in (3, 2, 1):
            record(self.key, at=months_ago(month))
            record(at=months_ago(month) + timedelta(days=3), event="refused", reason="unknown", count=7)
            record(self.key, event="created", at=months_ago(month) + timedelta(days=1))
        record(at=timezone.now())

    def test_whole_months_go_and_what_was_done_to_keys_is_kept(self) -> None:
        kept = list(AuditEvent.objects.filter(event="created").order_by("id").values_list())
        dropped = list(retention.drop_months(months_ago(1) + timedelta(days=20)))
        assert [(partition.since, rows) for partition, rows in dropped] == [(months_ago(3), 2), (months_ago(2), 2)]
        assert row_counts() == {"past": 2, suffix(months_ago(1)): 3, suffix(months_ago(0)): 3}
        assert bounds()[:2] == [(None, months_ago(1)), (months_ago(1), months_ago(0))]
        assert list(AuditEvent.objects.filter(event="created").order_by("id").values_list()) == kept
        said = [(event.count, Pruning.read(event.detail)) for event in AuditEvent.objects.filter(event="pruned")]
        assert said == [(2, Pruning(months_ago(1), False, True)), (2, Pruning(months_ago(2), False, True))]
        assert list(retention.drop_months(months_ago(1))) == []

    def test_the_partition_of_the_time_before_may_have_been_dropped(self) -> None:
        execute("DROP TABLE keys_auditevent_past")
        assert [rows for _, rows in retention.drop_months(months_ago(1))] == [2, 2]
        assert row_counts()["past"] == 2
        assert bounds()[0] == (None, months_ago(1))

    def test_what_was_done_to_keys_goes_too_when_asked_for(self) -> None:
        dropped = list(retention.drop_months(months_ago(2), life_cycle=True))
        assert [rows for _, rows in dropped] == [3]
        pruning = Pruning.read(AuditEvent.objects.get(event="pruned").detail)
        assert pruning == Pruning(months_ago(2), True, True)
        assert pruning.sentence.startswith("events before ")
        assert "past" not in row_counts()

    def test_a_dropped_month_is_not_dropped_again(self) -> None:
        month = of(3)
        counts: list[int] = []
        assert partitions.drop(month, ["used"], counts.append) == 1
        assert partitions.drop(month, ["used"], counts.append) is None
        assert counts == [1]

    def test_a_month_is_there_whole_if_it_cannot_be_recorded_that_it_went(self) -> None:
        def fail(count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            partitions.drop(of(3), None, fail)
        assert row_counts()[suffix(months_ago(3))] == 3

    def test_a_late_event_of_a_dropped_month_has_a_place(self) -> None:
        list(retention.drop_months(months_ago(2)))
        record(at=months_ago(3))
        assert row_counts()["past"] == 2
        assert not warnings()

    def test_events_of_such_a_month_in_the_default_partition_are_no_obstacle(self) -> None:
        execute(f'DROP TABLE "{of(2).name}"')
        record(at=months_ago(2))
        dropped = list(retention.drop_months(months_ago(1)))
        assert [rows for _, rows in dropped] == [2, 1]
        assert "default" not in row_counts()

    def test_pruning_drops_whole_months_and_deletes_the_rest(self) -> None:
        seen: list[int] = []
        assert retention.prune(months_ago(1) + timedelta(days=1), progress=seen.append) == 5
        assert seen == [2, 4, 5]
        assert bounds()[0] == (None, months_ago(1))
        assert row_counts() == {"past": 2, suffix(months_ago(1)): 2, suffix(months_ago(0)): 5}
        # It says so before it deletes the rest.
        assert [event.count for event in AuditEvent.objects.filter(event="pruned")] == [1, 0, 2, 2]

    def test_what_lies_in_no_month_goes_too(self) -> None:
        long_ago = [datetime(1970, 1, 1, tzinfo=UTC), months_ago(30)]
        for at in long_ago:
            record(self.key, at=at)
            record(self.key, event="created", at=at)
        planned = run("keys_partition", "--older-than", "1d", "--dry-run")
        assert "2 events from the time before all months would be deleted." in planned.err
        done = run("keys_partition", "--older-than", "1d", "--json")
        assert "Deleted 2 events from the time before all months." in done.err
        past = json.loads(done.out)[3]
        assert (past["name"], past["action"]) == ("keys_auditevent_past", "pruned")
        # What was done to keys is kept, as that of the months.
        kept = AuditEvent.objects.filter(at__lt=months_ago(0))
        assert list(kept.order_by("event").values_list("event", flat=True).distinct()) == ["created"]
        assert kept.count() == 5
        assert [event.count for event in AuditEvent.objects.filter(event="pruned").order_by("id")][-2:] == [0, 2]
        again = run("keys_partition", "--older-than", "1d")
        assert again.err == ""
        assert "from the time before" in run("keys_partition", "--older-than", "1d", "--life-cycle").err
        assert "past" not in row_counts()

    def test_of_a_young_log_only_what_is_old_enough_goes(self) -> None:
        record(at=months_ago(9))
        record(at=months_ago(5))
        age = (timezone.now() - months_ago(7)).days
        assert "Deleted 1 events" in run("keys_partition", "--older-than", f"{age}d").err
        assert row_counts()["past"] == 1

    def test_pruning_goes_on_without_where_the_database_user_may_not(self) -> None:
        role = runs.own("writer")
        execute(f"CREATE ROLE {role}")
        execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        execute(f"SET LOCAL ROLE {role}")
        try:
            with pytest.raises(PartitionError, match="Only the database user that owns"):
                partitions.make(months_ago(-7))
            assert retention.prune(months_ago(1)) == 4
        finally:
            execute("RESET ROLE")
        assert bounds()[0] == (None, months_ago(3))


@pytest.mark.django_db(transaction=True)
def test_the_table_goes_with_its_partitions_and_comes_back() -> None:
    record(at=timezone.now())
    migrate("zero")
    assert execute("SELECT relname FROM pg_class WHERE relname LIKE 'keys\\_%%' AND relkind IN ('r', 'p')", []) == []
    assert not warnings()
    assert not present()
    migrate()
    assert missing() == []
    assert record(at=timezone.now()).pk == 1


@pytest.mark.django_db(transaction=True)
def test_tables_are_emptied_and_sequences_reset_as_any_others_are() -> None:
    for at in (timezone.now(), months_ago(1), months_ago(-20)):
        record(at=at)
    call_command("flush", interactive=False, verbosity=0)
    assert row_counts() == {}
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [AuditEvent]):
            cursor.execute(statement)
    assert record(at=timezone.now()).pk == 1


def locked() -> set[str]:
    """Return the partitions that this transaction has written to, or was ready to."""
    locks = "SELECT relname FROM pg_locks JOIN pg_class ON oid = relation WHERE mode = 'RowExclusiveLock' AND pid = %s"
    relations = {name for (name,) in execute(locks, [connection.connection.info.backend_pid])}
    return relations & {partition.name for partition in present()}


@pytest.mark.django_db(transaction=True)
def test_what_a_request_writes_touches_no_partition_but_that_of_its_month() -> None:
    key, now = make_key(), timezone.now()
    # PostgreSQL considers after five times whether a plan that is for every month is good enough.
    for _ in range(8):
        with transaction.atomic():
            _, handle = statements.find_and_record(digests(key.key), row(at=now), lambda key: True)
            assert handle is not None
            outcome = Outcome("used", "", 200, 5, *handle)
            assert statements.write_outcome(outcome)
            statements.write_batch(Batch([outcome, outcome], {CountedRow.written(handle, row()): 1}))
            touched = locked()
    assert touched == {f"keys_auditevent_{suffix(now)}"}
