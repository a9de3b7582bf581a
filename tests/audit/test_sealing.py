"""Sealing the finished part of the log: which rows, in which batches, and with concurrent writers."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone
from pytest_django import Settings

from keys.audit import retention, sealing
from keys.audit.sealing import SealError, unpack
from keys.models import AuditEvent, AuditSeal
from tests.support.sealed_logs import FULL, KEY, OPEN, OTHER_KEY, STEP, numbers, problems, write, write_and_seal
from tests.support.tables import execute

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

HOUR = timedelta(hours=1)


def sealed() -> list[int]:
    return [entry.id for seal in AuditSeal.objects.all() for entry in unpack(bytes(seal.entries), seal.count)]


def test_each_row_is_in_one_seal_and_each_seal_names_the_one_before() -> None:
    ids = write_and_seal(rows=10, most_rows=4)
    assert sealed() == ids
    seals = list(AuditSeal.objects.all())
    assert [(seal.number, seal.first_id, seal.last_id, seal.count) for seal in seals] == [
        (1, ids[0], ids[3], 4),
        (2, ids[4], ids[7], 4),
        (3, ids[8], ids[9], 2),
    ]
    assert [seal.previous for seal in seals] == ["", seals[0].digest, seals[1].digest]
    assert list(sealing.seal()) == []
    more = write(FULL)
    assert [seal.number for seal in sealing.seal()] == [4]
    assert sealed() == ids + more


def test_what_is_younger_than_the_margin_waits() -> None:
    now = timezone.now()
    ids = write(FULL, at=now - 2 * HOUR) + write(FULL, at=now - HOUR / 2)
    list(sealing.seal())
    assert sealed() == ids[:1]


def test_the_margin_is_a_setting(settings: Settings) -> None:
    settings.KEYS = {"SEAL_AFTER": timedelta(days=2)}
    ids = write(FULL)
    assert list(sealing.seal()) == []
    settings.KEYS = {"SEAL_AFTER": timedelta(0)}
    list(sealing.seal())
    assert sealed() == ids


def test_a_row_that_came_late_is_sealed_when_it_has_come() -> None:
    write_and_seal()
    late = write(FULL, at=timezone.now() - timedelta(days=9))
    list(sealing.seal())
    assert sealed()[-1:] == late


def test_rows_behind_a_young_one_wait_for_it_however_old_they_say_they_are() -> None:
    now = timezone.now()
    (old,) = write(FULL, at=now - 2 * HOUR)
    write(OPEN, at=now)
    write(FULL, at=now - 2 * HOUR)
    list(sealing.seal())
    assert sealed() == [old]


def test_a_clock_that_is_ahead_keeps_nothing_open() -> None:
    now = timezone.now()
    ids = write(FULL, at=now - 2 * HOUR) + write(FULL, at=now + timedelta(days=999)) + write(FULL, at=now - 2 * HOUR)
    write(FULL, at=now + timedelta(days=999))
    list(sealing.seal())
    assert sealed() == ids


def test_the_first_of_several_keys_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    write_and_seal(rows=1)
    monkeypatch.setenv("KEYS_SEAL_KEY", f"{OTHER_KEY},{KEY}")
    write(FULL)
    list(sealing.seal())
    first, second = AuditSeal.objects.all()
    assert first.key_id == sealing.sealing_keys()[1].id != second.key_id == sealing.sealing_keys()[0].id


@pytest.mark.parametrize("value", ["", " , ", "short", f"{KEY},short"])
def test_without_a_good_key_nothing_is_sealed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KEYS_SEAL_KEY", value)
    write(FULL)
    with pytest.raises(SealError) as raised:
        list(sealing.seal())
    assert "KEYS_SEAL_KEY" in str(raised.value)
    assert "short" not in str(raised.value).removesuffix("a key shorter than 32 characters.")
    assert numbers() == []


# Of times that Python does not have; and whether the database sorts them before all others.
TIMES = {
    "postgresql": {"infinity": False, "-infinity": True, "0044-03-15 BC": True, "33658-09-27": False},
    "mysql": {"0000-00-00": True},
    "sqlite": {"": True, "12000-01-01": True, "2001-99-99 00:00:00": True, "never": False},
}[connection.vendor]


@pytest.mark.parametrize("time", TIMES)
def test_a_time_that_cannot_be_read_keeps_no_row_from_being_sealed(time: str) -> None:
    ids = write(FULL, FULL, FULL)
    lenient = "SET STATEMENT sql_mode = '' FOR " if connection.vendor == "mysql" else ""
    execute(f"{lenient}UPDATE keys_auditevent SET at = %s WHERE id = %s", [time, ids[1]])
    assert [seal.count for seal in sealing.seal()] == [3]
    assert problems() == []
    retention.prune(timezone.now() - timedelta(hours=1))
    # Retention may take what is sorted before, and nobody else.
    assert problems() == []
    AuditEvent._base_manager.filter(pk=ids[1]).delete()
    assert problems() == ([] if TIMES[time] else [("missing", 1, ids[1])])


class TestTogether:
    """Several at once, each on a connection of its own."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def test_two_at_once_make_one_chain(self) -> None:
        ids = write(*[FULL] * 40)
        begin, errors = threading.Barrier(3), []

        def work() -> None:
            try:
                begin.wait(30)
                list(sealing.seal(most_rows=3))
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert sealed() == ids
        assert numbers() == list(range(1, len(numbers()) + 1))

    def test_who_is_overtaken_goes_on_from_there(self) -> None:
        ids = write(*[FULL] * 6)
        slow = sealing.seal(most_rows=2)
        assert next(slow).number == 1
        assert [seal.number for seal in sealing.seal(most_rows=3)] == [2, 3]
        more = write(STEP)
        assert list(slow) == []
        list(sealing.seal())
        assert sealed() == ids + more


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only there ids are given out ahead of the row.")
class TestOpenTransactions:
    """A transaction has taken an id, and rows with later ones can be seen already."""

    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.fixture
    def other(self) -> Any:
        """A connection of somebody else, who has written a row and not committed it."""
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO keys_auditevent (at, event, reason, key_name, key_prefix, method, path, endpoint,"
                " user_agent, request_id, actor, count, detail) VALUES (now() - interval '1 day', 'created', '', '',"
                " '', '', '', '', '', '', '', 1, 'first')"
            )
        yield other
        other.close()

    def test_nothing_is_sealed_over_its_head(self, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        write(FULL)
        monkeypatch.setattr(sealing, "PATIENCE", 0)
        with pytest.raises(SealError, match="stays open"):
            list(sealing.seal())
        other.commit()
        list(sealing.seal())
        assert len(sealed()) == 2
        assert AuditEvent.objects.get(pk=sealed()[0]).detail == "first"

    def test_it_is_waited_for(self, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        write(FULL)
        # It ends as soon as it is waited for.
        monkeypatch.setattr(sealing, "sleep", lambda seconds: other.commit())
        list(sealing.seal())
        assert len(sealed()) == 2

    def test_our_own_transaction_is_not_waited_for(self, other: Any) -> None:
        write(FULL)
        with transaction.atomic():
            write(FULL)
            other.commit()
            list(sealing.seal())
        assert len(sealed()) == 3
