"""Verifying the log against its seals: every change is found, and the first is named."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from keys.audit import retention, sealing, verifying
from keys.audit.sealing import COLUMNS, SealError
from keys.audit.verifying import Findings
from keys.models import AuditEvent, AuditSeal
from tests.support.old_system import execute
from tests.support.partitions import months_ago, needs_partitions, start_log, suffix
from tests.support.sealed_logs import (
    FULL,
    KEY,
    OPEN,
    OTHER_KEY,
    REFUSED,
    STEP,
    a_day_ago,
    set_key,
    write,
    write_and_seal,
)

__all__ = ["set_key"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("key")]

events = AuditEvent._base_manager
DAY = timedelta(days=1)

# Another value for each column.
OTHERS: dict[str, Any] = {
    "at": datetime(2001, 1, 1, tzinfo=UTC), "event": "changed", "reason": "rate", "api_key_id": 8, "key_name": "tts",
    "key_prefix": "fedcba98", "method": "PUT", "path": "/other", "endpoint": "other", "status": 418,
    "duration_ms": 999, "address": "192.0.2.9", "user_agent": "other", "request_id": "r-2", "actor": "nobody",
    "count": 2, "detail": "x", "ticket": 1,
}  # fmt: skip


@contextmanager
def undone() -> Iterator[None]:
    """Forget what is done in the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def problems(findings: Findings | None = None) -> list[tuple[str, int, int | None]]:
    found = (findings or verifying.verify()).problems
    return [(problem.kind, problem.seal, problem.row) for problem in found]


class TestRows:
    def test_an_untouched_log_is_as_it_was_sealed(self) -> None:
        ids = write_and_seal()
        findings = verifying.verify()
        assert (findings.problems, findings.seals, findings.rows) == ([], 3, len(ids))
        assert findings.counts == {"altered": 0, "missing": 0, "added": 0}
        assert (findings.pruned, findings.unsealed, findings.back_dated.count) == (0, 0, 0)
        write(FULL, FULL)
        assert verifying.verify().unsealed == 2

    @pytest.mark.parametrize("column", OTHERS)
    def test_an_altered_row_is_named(self, column: str) -> None:
        ids = write_and_seal()
        # The outcome of the fourth of a seal, a use that has none yet, may still come.
        for pk in ids[4 : 7 if column == "status" else 8]:
            with undone():
                events.filter(pk=pk).update(**{column: OTHERS[column]})
                assert problems() == [("altered", 2, pk)]

    def test_a_missing_row_is_named(self) -> None:
        for position, pk in enumerate(write_and_seal()):
            with undone():
                events.filter(pk=pk).delete()
                assert problems() == [("missing", 1 + position // 4, pk)]

    def test_an_added_row_is_named(self) -> None:
        ids = write(*[FULL] * 6)
        # Somebody's transaction was rolled back, and its ids belong to nobody.
        events.filter(pk__in=[ids[0], ids[2], ids[4]]).delete()
        list(sealing.seal(most_rows=2))
        for number, pk in ((1, ids[0]), (1, ids[2]), (2, ids[4])):
            added = AuditEvent(pk=pk, **{**FULL, "at": a_day_ago()})
            added.save(force_insert=True)
            assert problems() == [("added", number, pk)]
            added.delete()
        assert problems() == []

    def test_rows_that_have_changed_places_are_altered(self) -> None:
        ids = write(FULL, {**FULL, "path": "/2"}, FULL)
        list(sealing.seal())
        events.filter(pk=ids[0]).update(id=2**40)
        events.filter(pk=ids[1]).update(id=ids[0])
        events.filter(pk=2**40).update(id=ids[1])
        assert problems() == [("altered", 1, ids[0]), ("altered", 1, ids[1])]

    def test_a_row_with_another_id_is_missing_and_where_it_came_added(self) -> None:
        ids = write_and_seal()
        events.filter(pk=ids[5]).update(id=ids[0] - 1)
        assert problems() == [("added", 1, ids[0] - 1), ("missing", 2, ids[5])]

    def test_the_first_comes_first_and_all_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = write_and_seal()
        monkeypatch.setattr(verifying, "MOST_NAMED", 3)
        events.filter(pk__in=ids[5:]).delete()
        events.filter(pk=ids[2]).update(path="/other")
        findings = verifying.verify()
        assert problems(findings) == [("altered", 1, ids[2]), ("missing", 2, ids[5]), ("missing", 2, ids[6])]
        assert findings.counts == {"altered": 1, "missing": 7, "added": 0}

    def test_an_emptied_log_is_not_as_it_was(self) -> None:
        write_and_seal()
        events.all().delete()
        assert verifying.verify().counts["missing"] == 12

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="The others keep to the types of their columns.")
    @pytest.mark.parametrize("value", ["'2001-99-99'", "12", "x'ff'", "CAST(x'ff' AS text)", "''"])
    @pytest.mark.parametrize("column", ["at", "path", "status"])
    def test_a_row_that_cannot_be_read_is_named(self, value: str, column: str) -> None:
        ids = write_and_seal()
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE keys_auditevent SET {column} = {value} WHERE id = {ids[5]}")
        assert problems() == [("altered", 2, ids[5])]

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="Only there a time may be beyond Python's.")
    @pytest.mark.parametrize("value", ["infinity", "12000-01-01", "0044-03-15 BC"])
    def test_a_time_that_cannot_be_read_is_named(self, value: str) -> None:
        ids = write_and_seal()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_auditevent SET at = %s WHERE id = %s", [value, ids[5]])
        assert problems() == [("altered", 2, ids[5])]


class TestOutcomes:
    def test_one_may_come_after_the_seal_once(self) -> None:
        ids = write(OPEN, OPEN, OPEN)
        list(sealing.seal())
        events.filter(pk=ids[0]).update(status=200, duration_ms=7_200_000)
        events.filter(pk=ids[1]).update(event="refused", reason="rate", status=429, duration_ms=1)
        findings = verifying.verify()
        assert (findings.problems, findings.concluded_later.count, findings.concluded_later.first) == ([], 2, ids[0])
        events.filter(pk=ids[2]).update(status=200, path="/other")
        assert problems() == [("altered", 1, ids[2])]

    def test_one_that_was_sealed_stays(self) -> None:
        ids = write(FULL, FULL)
        list(sealing.seal())
        events.filter(pk=ids[0]).update(status=None, duration_ms=None)
        events.filter(pk=ids[1]).update(status=500)
        assert problems() == [("altered", 1, ids[0]), ("altered", 1, ids[1])]


class TestLateRows:
    def test_a_row_that_names_an_earlier_time_is_worth_a_look(self) -> None:
        write_and_seal()
        late = write(FULL, at=timezone.now() - timedelta(days=9))
        list(sealing.seal())
        findings = verifying.verify()
        assert (findings.problems, findings.back_dated.count, findings.back_dated.first) == ([], 1, late[0])

    def test_a_clock_that_was_ahead_makes_no_other_row_late(self) -> None:
        write(FULL, at=timezone.now() + timedelta(days=99))
        write_and_seal()
        write_and_seal()
        assert verifying.verify().back_dated.count == 0


class TestRetention:
    def test_what_it_has_taken_may_be_missing(self) -> None:
        at = a_day_ago()
        write_and_seal()
        # In the middle of the second seal.
        retention.prune(at + timedelta(seconds=6))
        findings = verifying.verify()
        assert (findings.problems, findings.pruned) == ([], 4)
        retention.prune(at + timedelta(seconds=60))
        findings = verifying.verify()
        assert (findings.problems, findings.pruned, findings.rows) == ([], 9, 3)
        retention.prune(at + timedelta(seconds=60), life_cycle=True)
        findings = verifying.verify()
        assert (findings.problems, findings.pruned, findings.rows) == ([], 12, 0)

    def test_what_is_left_is_still_verified(self) -> None:
        at = a_day_ago()
        ids = write_and_seal()
        retention.prune(at + timedelta(seconds=6))
        events.filter(pk=ids[7]).update(path="/other")
        events.filter(pk=ids[4]).update(detail="a step before that time")
        events.filter(pk=ids[9]).delete()
        assert problems() == [("altered", 2, ids[4]), ("altered", 2, ids[7]), ("missing", 3, ids[9])]

    def test_steps_of_keys_are_no_uses(self) -> None:
        ids = write_and_seal()
        retention.prune(a_day_ago() + timedelta(seconds=60))
        events.filter(pk=ids[4]).delete()
        assert problems() == [("missing", 2, ids[4])]

    def test_deleting_without_a_word_of_it_is_found(self) -> None:
        ids = write_and_seal()
        events.filter(pk__lte=ids[5]).delete()
        assert verifying.verify().counts["missing"] == 6

    def test_an_interrupted_one_has_said_so_before(self) -> None:
        write_and_seal()

        def kill(deleted: int) -> None:
            # Nothing more can be written, as after a kill.
            events.filter(event="pruned", count__gt=0).delete()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            retention.prune(a_day_ago() + timedelta(seconds=60), batch_size=2, progress=kill)
        announced = events.filter(event="pruned", detail__contains='"is_done": false')
        assert announced.count() == 1
        events.filter(event="pruned", detail__contains='"is_done": true').delete()
        findings = verifying.verify()
        assert (findings.problems, findings.pruned) == ([], 2)

    def test_one_that_begins_meanwhile_is_no_false_alarm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_and_seal()
        prunings = retention.prunings
        begun: list[int] = []

        def then_prune() -> Any:
            found = prunings()
            if not begun:
                begun.append(retention.prune(a_day_ago() + timedelta(seconds=60)))
            return found

        monkeypatch.setattr(retention, "prunings", then_prune)
        findings = verifying.verify()
        assert (findings.problems, findings.pruned, begun) == ([], 9, [9])

    def test_a_forged_word_of_it_takes_nothing_that_has_to_be_kept(self) -> None:
        ids = write_and_seal()
        forged = json.dumps({"before": (timezone.now() + DAY).isoformat(), "life_cycle": True, "is_done": True})
        write({"event": "pruned", "detail": forged})
        for detail in (
            "",
            "null",
            "[]",
            '{"before": "2024-99-99", "life_cycle": true, "is_done": true}',
            '{"before": 5}',
            "events",
        ):
            write({"event": "pruned", "detail": detail})
        events.filter(pk__lte=ids[3]).delete()
        assert problems() == []
        assert verifying.verify(keep=2 * DAY).counts["missing"] == 4
        assert verifying.verify(keep=DAY / 2).problems == []

    def test_a_time_in_another_zone_and_with_microseconds_is_no_obstacle(self) -> None:
        at = a_day_ago()
        write(*[FULL] * 5, at=at, step=timedelta(milliseconds=400))
        list(sealing.seal())
        zone = datetime.strptime("+0530", "%z").tzinfo
        assert retention.prune((at + timedelta(seconds=1, microseconds=999_999)).astimezone(zone)) == 3
        assert (verifying.verify().problems, verifying.verify().pruned) == ([], 3)


@needs_partitions
class TestPartitions:
    @pytest.fixture(autouse=True)
    def months(self, key: str) -> None:
        """Three months, each with a step of a key's life and two uses."""
        start_log(3)
        for number in (3, 2, 1):
            write(STEP, FULL, FULL, at=months_ago(number))
        list(sealing.seal())

    def test_months_that_retention_dropped_may_be_missing(self) -> None:
        assert [count for _, count in retention.drop_months(months_ago(1))] == [2, 2]
        findings = verifying.verify()
        assert (findings.problems, findings.pruned, findings.rows) == ([], 4, 5)

    def test_one_that_somebody_dropped_is_found(self) -> None:
        list(retention.drop_months(months_ago(2)))
        execute(f"DROP TABLE keys_auditevent_{suffix(months_ago(1))}")
        assert verifying.verify().counts == {"altered": 0, "missing": 3, "added": 0}

    def test_one_id_in_two_partitions_is_found(self) -> None:
        first = AuditEvent.objects.earliest("at")
        AuditEvent(pk=first.pk, **{**FULL, "at": months_ago(1)}).save(force_insert=True)
        assert problems() == [("added", 1, first.pk)]


class TestSeals:
    @pytest.fixture(autouse=True)
    def ids(self, key: str) -> list[int]:
        return write_and_seal()

    @pytest.mark.parametrize(
        "name", [field.name for field in AuditSeal._meta.concrete_fields if field.name != "number"]
    )
    def test_an_altered_one_is_named(self, name: str) -> None:
        for seal in AuditSeal.objects.all():
            value = getattr(seal, name)
            if isinstance(value, datetime):
                other: Any = value + timedelta(microseconds=1)
            elif isinstance(value, int):
                other = value + 1
            elif isinstance(value, str):
                other = value[1:] + "x"
            else:
                other = bytes(value)[:-1] + b"x"
            with undone():
                AuditSeal.objects.filter(number=seal.number).update(**{name: other})
                assert problems()[0] == ("altered", seal.number, None)

    @pytest.mark.parametrize("numbers", [[1], [2], [1, 2]])
    def test_a_missing_one_is_named(self, numbers: list[int], ids: list[int]) -> None:
        AuditSeal.objects.filter(number__in=numbers).delete()
        # Rows of a seal that is there are verified none the less.
        events.filter(pk=ids[9]).update(path="/other")
        assert problems() == [("missing", numbers[0], None), ("altered", 3, ids[9])]

    def test_those_that_changed_places_are_named(self) -> None:
        for number, other in ((1, 99), (2, 1), (99, 2)):
            AuditSeal.objects.filter(number=number).update(number=other)
        assert problems() == [("altered", 1, None), ("altered", 2, None)]

    def test_one_made_without_the_key_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write(FULL)
        monkeypatch.setenv("KEYS_SEAL_KEY", OTHER_KEY)
        list(sealing.seal())
        monkeypatch.setenv("KEYS_SEAL_KEY", KEY)
        assert problems() == [("altered", 4, None)]
        seal = AuditSeal.objects.get(number=4)
        seal.key_id = AuditSeal.objects.get(number=1).key_id
        seal.digest = seal.computed_digest()
        seal.save()
        (problem,) = verifying.verify().problems
        assert problem.text == "Seal 4 has a wrong signature: it is forged."

    def test_those_of_an_earlier_key_are_good_as_long_as_it_is_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEYS_SEAL_KEY", f"{OTHER_KEY},{KEY}")
        write(FULL)
        list(sealing.seal())
        assert problems() == []
        monkeypatch.setenv("KEYS_SEAL_KEY", OTHER_KEY)
        assert problems() == [("altered", number, None) for number in (1, 2, 3)]
        assert "another key (37fb39ff) than those that are set" in verifying.verify().problems[0].text

    def test_one_that_does_not_follow_is_named(self) -> None:
        """Made with the key by somebody who rewrote the one before it."""
        seal = AuditSeal.objects.get(number=2)
        seal.made_at += timedelta(seconds=1)
        seal.digest = seal.computed_digest()
        seal.signature = sealing.sealing_keys()[0].sign(seal.digest)
        seal.save()
        assert problems() == [("altered", 3, None)]

    def test_without_any_there_is_nothing_to_go_by(self) -> None:
        AuditSeal.objects.all().delete()
        with pytest.raises(SealError, match="no seal"):
            verifying.verify()

    def test_without_a_key_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEYS_SEAL_KEY", "")
        with pytest.raises(SealError, match="KEYS_SEAL_KEY is not set"):
            verifying.verify()

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="The others keep to the types of their columns.")
    @pytest.mark.parametrize("name", ["made_at", "entries", "count", "digest"])
    def test_one_that_cannot_be_read_is_named(self, name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE keys_auditseal SET {name} = 'nothing' WHERE number = 2")
        assert problems()[0] == ("altered", 2, None)


class TestKeptElsewhere:
    @pytest.fixture
    def kept(self) -> list[dict[str, Any]]:
        write_and_seal()
        return [seal.described() for seal in AuditSeal.objects.all()]

    def test_the_same_are_good_and_newer_ones_too(self, kept: list[dict[str, Any]]) -> None:
        assert problems(verifying.verify(kept)) == []
        assert problems(verifying.verify(kept[1:2])) == []

    def test_newest_ones_that_are_gone_with_their_rows_are_named(self, kept: list[dict[str, Any]]) -> None:
        events.filter(pk__gte=kept[1]["first_id"]).delete()
        AuditSeal.objects.filter(number__gt=1).delete()
        assert problems() == []
        assert problems(verifying.verify(kept)) == [("missing", 2, None), ("missing", 3, None)]

    def test_those_that_were_made_anew_with_the_key_are_named(self, kept: list[dict[str, Any]]) -> None:
        events.filter(pk=kept[1]["first_id"]).update(path="/other")
        AuditSeal.objects.filter(number__gt=1).delete()
        anew = [seal.described() for seal in sealing.seal(most_rows=4)]
        assert problems() == []
        assert problems(verifying.verify(kept)) == [("altered", 2, None), ("altered", 3, None)]
        # They may have been kept beside the others.
        assert problems(verifying.verify([*kept, *anew])) == [("altered", 2, None), ("altered", 3, None)]

    def test_all_gone_is_worse(self, kept: list[dict[str, Any]]) -> None:
        AuditSeal.objects.all().delete()
        assert problems(verifying.verify(kept)) == [("missing", number, None) for number in (1, 2, 3)]


def _alter(column: str, value: Any) -> Callable[[list[int], int], tuple[str, int] | None]:
    def mutate(ids: list[int], position: int) -> tuple[str, int] | None:
        before = events.filter(pk=ids[position]).values_list(column, flat=True).get()
        events.filter(pk=ids[position]).update(**{column: value})
        after, event = events.filter(pk=ids[position]).values_list(column, "event").get()
        was_open = column == "status" and before is None and event == "used"
        return None if after == before or was_open else ("altered", ids[position])

    return mutate


def _delete(ids: list[int], position: int) -> tuple[str, int]:
    events.filter(pk=ids[position]).delete()
    return "missing", ids[position]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
NUMBER = st.none() | st.integers(0, 32_767)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "at": st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "address": st.none() | st.ip_addresses().map(str),
    "status": NUMBER, "duration_ms": NUMBER, "count": st.integers(0, 32_767),
    "api_key_id": st.none() | st.integers(1, 99), "ticket": st.none() | st.integers(0, 2**63 - 1),
}  # fmt: skip
MUTATIONS = st.just(_delete) | st.sampled_from([column for column in COLUMNS if column != "id"]).flatmap(
    lambda column: st.builds(_alter, st.just(column), VALUES.get(column, TEXT))
)


def test_any_single_change_is_found_and_named() -> None:
    ids = write(*[STEP, FULL, REFUSED, OPEN, {**FULL, "key_name": "", "path": ""}] * 2)
    list(sealing.seal(most_rows=3))

    @examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(ids) - 1), MUTATIONS)
    def check(position: int, mutate: Callable[[list[int], int], tuple[str, int] | None]) -> None:
        with undone():
            expected = mutate(ids, position)
            found = [(problem.kind, problem.row) for problem in verifying.verify().problems]
            assert found == ([] if expected is None else [expected])

    check()
