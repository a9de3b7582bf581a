"""Holding the log against its seals: every change of a row is found, and the first is named."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from keys.audit import sealing, verifying
from keys.audit.seal_formats import FORMATS
from keys.models import AuditEvent
from tests.support.sealed_logs import (
    FULL,
    OPEN,
    REFUSED,
    STEP,
    a_day_ago,
    problems,
    undone,
    write,
    write_and_seal,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

events = AuditEvent._base_manager

# Another value for each column.
OTHERS: dict[str, Any] = {
    "at": datetime(2001, 1, 1, tzinfo=UTC), "event": "changed", "reason": "rate", "api_key_id": 8, "key_name": "tts",
    "key_prefix": "fedcba98", "method": "PUT", "path": "/other", "endpoint": "other", "status": 418,
    "duration_ms": 999, "address": "192.0.2.9", "user_agent": "other", "request_id": "r-2", "actor": "nobody",
    "count": 2, "detail": "x", "changes": {"rate": ["", "5/min"]}, "ticket": 1,
}  # fmt: skip


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
    "changes": st.none() | st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
    "api_key_id": st.none() | st.integers(1, 99), "ticket": st.none() | st.integers(0, 2**63 - 1),
}  # fmt: skip
MUTATIONS = st.just(_delete) | st.sampled_from([column for column in FORMATS[1].columns if column != "id"]).flatmap(
    lambda column: st.builds(_alter, st.just(column), VALUES.get(column, TEXT))
)


@pytest.mark.matrix
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
