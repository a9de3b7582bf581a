"""A release that adds a column to the log verifies the seals of earlier ones, and seals the column from then on."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models

from keys.audit import seal_formats, sealing, verifying
from keys.audit.seal_formats import FORMATS, JSON, NUMBER, TEXT, Format, Kind
from keys.audit.sealing import SealError
from keys.models import AuditEvent, AuditSeal
from keys.models.fields import SortedJSONField
from tests.audit import test_columns
from tests.support.commands import run
from tests.support.sealed_logs import FULL, KEY, OTHER_KEY, problems, write, write_and_seal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("seal_key")]

events: Any = AuditEvent._base_manager  # which has a column that the types do not know

NEWEST = seal_formats.newest().number
NEXT = NEWEST + 1

# A column of a later release, its kind, a value in it and another one.
ADDED: dict[str, tuple[Any, Kind, Any, Any]] = {
    "text": (lambda: models.CharField(max_length=40, blank=True, default=""), TEXT, "eu-west", "eu-east"),
    "number": (lambda: models.BigIntegerField(null=True), NUMBER, 7, 8),
    "json": (lambda: SortedJSONField(null=True), JSON, {"a": 1}, {"a": 2}),
}


@pytest.fixture(params=ADDED)
def added(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Any, Any]]:
    """The log has another column, `region`, for the length of the test."""
    make, kind, value, other = ADDED[request.param]
    model: Any = AuditEvent
    model.add_to_class("region", make())
    field = model._meta.get_field("region")
    try:
        with connection.schema_editor() as editor:
            editor.add_field(AuditEvent, field)
        yield kind, value, other
    finally:
        AuditEvent.objects.all().delete()
        with connection.schema_editor() as editor:
            editor.remove_field(AuditEvent, field)
        AuditEvent._meta.local_fields.remove(field)
        del model.region
        apps.clear_cache()


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes this the release that seals the new column."""

    def release(kind: Kind) -> None:
        monkeypatch.setitem(FORMATS, NEXT, Format(NEXT, {**FORMATS[NEWEST].columns, "region": kind}))

    return release


def test_a_column_that_no_format_has_fails_the_tests_with_the_way_out(
    added: tuple[Kind, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_columns, "COLUMNS", [field.attname for field in AuditEvent._meta.concrete_fields])
    with pytest.raises(AssertionError, match=r"No seal covers region\. In keys/audit/seal_formats\.py add to FORMATS"):
        test_columns.test_each_column_is_sealed()


def test_old_seals_hold_and_new_ones_cover_the_column(added: tuple[Kind, Any, Any], released: Any) -> None:
    kind, value, other = added
    old = write_and_seal()
    kept = [seal.described() for seal in AuditSeal.objects.order_by("number")]
    released(kind)
    assert problems(verifying.verify(kept)) == []
    new = write({**FULL, "region": value}, FULL)
    list(sealing.seal())
    assert list(AuditSeal.objects.order_by("number").values_list("format", flat=True)) == [NEWEST] * 3 + [NEXT]
    findings = verifying.verify(kept)
    assert (findings.problems, findings.rows, findings.filled_later.count) == ([], len(old) + 2, 0)
    # Altered is what is under a new seal, and to be looked at what came under an old one.
    events.filter(pk__in=[*old[:2], *new]).update(region=other)
    findings = verifying.verify(kept)
    assert problems(findings) == [("altered", 4, new[0]), ("altered", 4, new[1])]
    assert (findings.filled_later.count, findings.filled_later.first) == (2, old[0])
    assert f"Hold what their seal does not cover: 2, the first of them row {old[0]}.\n" in run("keys_verify").out
    events.filter(pk=old[0]).update(path="/other")
    assert problems()[0] == ("altered", 1, old[0])


def test_an_outcome_may_still_come_under_either(added: tuple[Kind, Any, Any], released: Any) -> None:
    kind, value, _ = added
    use = {**FULL, "status": None, "duration_ms": None}
    ids = write(use)
    list(sealing.seal())
    released(kind)
    ids += write({**use, "region": value})
    list(sealing.seal())
    events.filter(pk__in=ids).update(status=200)
    findings = verifying.verify()
    assert (findings.problems, findings.concluded_later.count) == ([], 2)


def test_the_format_of_a_seal_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    write_and_seal()
    monkeypatch.setitem(FORMATS, NEXT, Format(NEXT, FORMATS[NEWEST].columns))
    AuditSeal.objects.filter(number=2).update(format=NEXT)
    assert problems() == [("altered", 2, None)]


class TestUnknown:
    """Seals of a later release, and those from before formats."""

    @pytest.mark.parametrize(
        ("number", "sentence"),
        [
            (0, "has the format 0, of a time before formats had numbers: no release verifies it."),
            (9, f"has the format 9, and this release knows none after {NEWEST}: a later release made it."),
        ],
    )
    def test_they_are_one_sentence(self, number: int, sentence: str) -> None:
        write_and_seal()
        for seal in AuditSeal.objects.filter(number__gt=1):
            seal.format = number
            seal.digest = seal.computed_digest()
            seal.signature = sealing.sealing_keys()[0].sign(seal.digest)
            seal.save()
        done = run("keys_verify")
        assert (done.status, done.out.splitlines()[0]) == (1, f"Seal 2 {sentence}")
        assert problems() == [("altered", 2, None)]
        write(FULL)
        done = run("keys_seal")
        assert (done.status, done.out, done.err) == (1, "", f"Seal 3, the newest, {sentence}")
        assert [line.count('"number"') for line in run("keys_seal", "--again").out.splitlines()] == [1, 1, 1]

    def test_a_seal_after_them_is_verified(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = write_and_seal()
        AuditSeal.objects.filter(number__lt=3).update(format=0)
        events.filter(pk=ids[9]).update(path="/other")
        assert problems() == [("altered", 1, None), ("altered", 3, ids[9])]
        monkeypatch.setenv("KEYS_SEAL_KEY", f"{OTHER_KEY},{KEY}")
        assert len(problems()) == 2

    def test_a_newest_seal_that_cannot_be_read_is_a_sentence(self) -> None:
        write_and_seal()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_auditseal SET digest = '' WHERE number = 3")
        AuditSeal.objects.filter(number=3).update(format=77)
        with pytest.raises(SealError, match="Seal 3, the newest, has the format 77"):
            list(sealing.seal())


def test_every_format_begins_alike_and_has_what_an_outcome_changes() -> None:
    for number, form in FORMATS.items():
        assert form.number == number
        assert [*form.columns][:3] == ["id", "at", "event"]
        assert {"reason", "status", "duration_ms"} < form.columns.keys()
    assert seal_formats.newest() is FORMATS[max(FORMATS)]
