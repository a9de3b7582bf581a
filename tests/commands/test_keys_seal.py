"""keys_seal and keys_verify, as people and cron jobs run them."""

import json
import re
from pathlib import Path

import pytest

from keys.models import AuditEvent, AuditSeal
from tests.support.commands import manage, run
from tests.support.sealed_logs import FULL, KEY, OPEN, OTHER_KEY, write, write_and_seal

pytestmark = pytest.mark.django_db


@pytest.mark.usefixtures("seal_key")
class TestSeal:
    def test_each_seal_is_a_line_for_keeping_and_nothing_else_is_on_standard_output(self) -> None:
        write(*[FULL] * 5)
        done = run("keys_seal", "--rows", "2")
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert [line["number"] for line in lines] == [1, 2, 3]
        assert lines == [seal.described() for seal in AuditSeal.objects.all()]
        assert (done.status, done.err) == (0, "Sealed 5 events with 3 seals.\n")
        assert KEY not in done.out

    def test_there_may_be_nothing_to_seal(self) -> None:
        done = run("keys_seal")
        assert (done.status, done.out, done.err) == (0, "", "Sealed 0 events with 0 seals.\n")

    @pytest.mark.parametrize("rows", ["0", "100001", "-1"])
    def test_a_seal_has_a_sensible_number_of_rows(self, rows: str) -> None:
        assert (run("keys_seal", "--rows", rows).status, AuditSeal.objects.count()) == (1, 0)

    def test_without_a_key_it_fails_in_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KEYS_SEAL_KEY")
        done = run("keys_seal")
        assert done.status == 1
        assert done.err == "KEYS_SEAL_KEY is not set; `manage.py keys_generate` makes a good value."


@pytest.mark.usefixtures("seal_key")
class TestVerify:
    def test_a_log_that_is_as_it_was(self) -> None:
        write_and_seal()
        write(FULL)
        done = run("keys_verify")
        assert done.status == 0
        assert re.fullmatch(r"Seals: 3, the last of .* UTC\. Rows verified: 12\.\nNot sealed yet: 1\.\n", done.out), (
            done.out
        )
        assert "--against" in done.err

    def test_the_first_row_that_is_not_is_named(self) -> None:
        ids = write_and_seal()
        AuditEvent.objects.filter(pk=ids[5]).update(path="/other")
        AuditEvent.objects.filter(pk=ids[9]).delete()
        done = run("keys_verify")
        assert done.status == 1
        first, second, *_ = done.out.splitlines()
        assert re.fullmatch(rf"Row {ids[5]} of .* UTC, in seal 2, was altered\.", first)
        assert re.fullmatch(rf"Row {ids[9]} of .* UTC, in seal 3, is missing\.", second)

    def test_many_are_counted(self) -> None:
        write_and_seal()
        AuditEvent.objects.all().delete()
        assert "\nAnd 2 more.\n" in run("keys_verify").out

    def test_what_is_worth_a_look_is_named(self) -> None:
        ids = write(OPEN, FULL)
        run("keys_seal")
        AuditEvent.objects.filter(pk=ids[0]).update(status=200)
        done = run("keys_verify")
        assert done.status == 0
        assert f"Got their outcome after the seal: 1, the first of them row {ids[0]}.\n" in done.out

    def test_as_json(self) -> None:
        ids = write_and_seal()
        assert json.loads(run("keys_verify", "--json").out)["ok"] is True
        AuditEvent.objects.filter(pk=ids[5]).delete()
        done = run("keys_verify", "--json")
        found = json.loads(done.out)
        assert (done.status, found["ok"]) == (1, False)
        assert found["counts"] == {"altered": 0, "missing": 1, "added": 0}
        (problem,) = found["problems"]
        assert (problem["kind"], problem["seal"], problem["row"]) == ("missing", 2, ids[5])

    def test_against_what_was_kept(self, tmp_path: Path) -> None:
        kept = tmp_path / "seals.jsonl"
        write(*[FULL] * 4)
        kept.write_text(run("keys_seal", "--rows", "2").out)
        done = run("keys_verify", "--against", str(kept))
        assert (done.status, done.err) == (0, "")
        AuditEvent.objects.filter(pk__gte=AuditSeal.objects.get(number=2).first_id).delete()
        AuditSeal.objects.filter(number=2).delete()
        assert run("keys_verify").status == 0
        done = run("keys_verify", "--against", str(kept))
        assert done.status == 1
        assert re.match(r"Seal 2 \(2 events, rows \d+ to \d+, of .*\) was kept elsewhere and is missing\.\n", done.out)

    def test_a_file_that_holds_no_seals_is_no_comfort(self, tmp_path: Path) -> None:
        write_and_seal()
        kept = tmp_path / "seals.jsonl"
        assert "cannot be read" in run("keys_verify", "--against", str(kept)).err
        for text, message in (("", "holds no seals"), ("\n{}", "Line 2"), ("x", "Line 1"), ("[]", "is not a seal")):
            kept.write_text(text)
            done = run("keys_verify", "--against", str(kept))
            assert done.status == 1
            assert message in done.err
        kept.write_bytes(b"\xff")
        assert run("keys_verify", "--against", str(kept)).err == "What was given is not text in UTF-8."

    def test_how_long_rows_have_to_be_kept(self) -> None:
        write_and_seal()
        assert run("keys_prune", "--older-than", "1h").status == 0
        assert run("keys_verify").status == 0
        assert "Gone, as retention says: 9.\n" in run("keys_verify").out
        assert run("keys_verify", "--keep", "30d").status == 1
        assert run("keys_verify", "--keep", "soon").status == 1

    def test_without_seals_or_their_key_it_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "There is no seal" in run("keys_verify").err
        write_and_seal()
        monkeypatch.setenv("KEYS_SEAL_KEY", OTHER_KEY)
        done = run("keys_verify")
        assert done.status == 1
        assert "is signed with another key" in done.out


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("seal_key")
def test_in_processes_of_their_own() -> None:
    write_and_seal(rows=3)
    assert manage("keys_verify").status == 0
    AuditEvent.objects.filter(event="used").delete()
    done = manage("keys_verify")
    assert done.status == 1
    assert "is missing" in done.out
