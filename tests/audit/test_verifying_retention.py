"""Holding the log against its seals: what retention took may be missing, and nothing else."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from keys.audit import retention, sealing, verifying
from keys.models import AuditEvent
from tests.support.sealed_logs import FULL, STEP, a_day_ago, problems, write, write_and_seal
from tests.support.tables import execute, months_ago, needs_partitions, start_log, suffix

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

events = AuditEvent._base_manager
DAY = timedelta(days=1)


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
    def months(self, seal_key: str) -> None:
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
