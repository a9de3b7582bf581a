"""Holding the log against its seals: the seals themselves, and those that are kept elsewhere."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from keys.audit import sealing, verifying
from keys.audit.sealing import SealError
from keys.models import AuditEvent, AuditSeal
from tests.support.sealed_logs import FULL, KEY, OTHER_KEY, problems, undone, write, write_and_seal

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

events = AuditEvent._base_manager


def another(value: Any) -> Any:
    """Return a value of the same kind that is never the same."""
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("y" if value.endswith("x") else "x")
    return bytes(value)[:-1] + bytes([value[-1] ^ 1])


class TestSeals:
    @pytest.fixture(autouse=True)
    def ids(self, seal_key: str) -> list[int]:
        return write_and_seal()

    @pytest.mark.parametrize(
        "name", [field.name for field in AuditSeal._meta.concrete_fields if field.name != "number"]
    )
    def test_an_altered_one_is_named(self, name: str) -> None:
        for seal in AuditSeal.objects.all():
            other = another(getattr(seal, name))
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
    @pytest.mark.parametrize(
        "change", ["made_at = made_at || '+00:00'", "entries = CAST(entries AS TEXT)", "digest = CAST(digest AS BLOB)"]
    )
    def test_one_in_another_spelling_is_named(self, change: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE keys_auditseal SET {change} WHERE number = 2")
        assert problems()[0] == ("altered", 2, None)

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
