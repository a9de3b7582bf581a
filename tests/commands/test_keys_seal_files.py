"""keys_seal and the file of its lines: no seal without its line, and no chain goes on in the file of another."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from keys.audit import sealing
from keys.models import AuditEvent, AuditLog, AuditSeal
from tests.support.commands import Run, finish, run, start
from tests.support.processes import ROOT, database_url
from tests.support.sealed_logs import FULL, numbers, undone, write, write_and_seal

pytestmark = [pytest.mark.matrix, pytest.mark.django_db, pytest.mark.usefixtures("seal_key")]

events = AuditEvent._base_manager


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A file with the lines of three seals, of two rows each."""
    write(*[FULL] * 6)
    path = tmp_path / "seals.jsonl"
    assert append(path, "--rows", "2").status == 0
    return path


def append(path: Path, *arguments: str) -> Run:
    return run("keys_seal", "--append", str(path), *arguments)


def against(path: Path) -> Run:
    return run("keys_verify", "--against", str(path))


def lines(text: str | Path) -> list[Any]:
    return [json.loads(line) for line in (text if isinstance(text, str) else text.read_text()).splitlines()]


def described() -> list[dict[str, Any]]:
    return [seal.described() for seal in AuditSeal.objects.order_by("number")]


def restore(*, seals: int, rows: int) -> None:
    """Put the database back to when it had so many seals and rows."""
    AuditSeal.objects.filter(number__gt=seals).delete()
    first = AuditEvent.objects.order_by("pk")[rows].pk
    events.filter(pk__gte=first).delete()


class TestWritten:
    """A seal is made once its line is written."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def seal(self, redirection: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" manage.py keys_seal --rows 2 {redirection}', sys.executable],
            cwd=ROOT, text=True, capture_output=True, timeout=120,
            env={**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "example_project.settings"},
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("redirection", "reason"), [("> /dev/full", "No space left on device"), (">&-", "it is closed")]
    )
    def test_none_without_its_line(self, redirection: str, reason: str) -> None:
        write(FULL, FULL, FULL)
        done = self.seal(redirection)
        assert (done.returncode, numbers()) == (1, [])
        assert f"Seal 1 cannot be written to standard output: {reason}." in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
        done = self.seal("")
        assert (done.returncode, lines(done.stdout)) == (0, described())

    def test_none_into_a_pipe_that_nobody_reads(self) -> None:
        write(FULL, FULL, FULL)
        reading, writing = os.pipe()
        os.close(reading)
        process = start("keys_seal", stdout=writing)
        os.close(writing)
        done = finish(process)
        assert (done.status, numbers()) == (1, [])
        assert "cannot be written to standard output: Broken pipe." in done.err
        assert "Exception" not in done.err

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="The database is a file as well.")
    def test_none_when_there_is_no_room_for_the_end_of_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "seals.jsonl"
        write(FULL)
        assert append(path).status == 0
        path.write_bytes(before := path.read_bytes().rstrip())
        write(FULL)
        size = (len(before), len(before))
        done = finish(
            start(
                "keys_seal", "--append", str(path), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, size)
            )
        )
        assert done.status == 1
        assert f"The last line has no end: {path} cannot be written: File too large." in done.err
        assert (path.read_bytes(), numbers()) == (before, [1])

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="The database is a file as well.")
    def test_none_when_the_file_is_full(self, tmp_path: Path) -> None:
        path = tmp_path / "seals.jsonl"
        write(*[FULL] * 6)
        assert append(path, "--rows", "2").status == 0
        write(*[FULL] * 4)
        # Room for a line and a part of the next.
        limit = len(path.read_bytes()) * 4 // 3 + 100
        process = start(
            "keys_seal", "--append", str(path), "--rows", "2",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        done = finish(process)
        assert done.status == 1
        assert "Seal 5 has no line:" in done.err
        assert numbers() == [1, 2, 3, 4]
        assert lines(path) == described()
        assert append(path, "--rows", "2").status == 0
        assert lines(path) == described()


class TestAgain:
    def test_lines_can_be_written_out_again_without_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write_and_seal()
        monkeypatch.delenv("KEYS_SEAL_KEY")
        write(FULL)
        for _ in range(2):
            done = run("keys_seal", "--again")
            assert (done.status, lines(done.out), done.err) == (0, described(), "")
        assert lines(run("keys_seal", "--again", "--from", "3").out) == described()[2:]
        assert run("keys_seal", "--again", "--from", "9").out == ""
        assert len(numbers()) == 3

    def test_one_that_was_altered_is_a_sentence(self) -> None:
        write_and_seal()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE keys_auditseal SET entries = %s WHERE number = 2", [b""])
        assert run("keys_seal", "--again").status == 0
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("UPDATE keys_auditseal SET made_at = 'never' WHERE number = 2")
            done = run("keys_seal", "--again")
            assert (done.status, done.err) == (1, "Seal 2 was altered: keys_verify says more.")

    @pytest.mark.parametrize("others", [["--append", "x"], ["--begin"], ["--moved"]])
    def test_it_goes_alone(self, others: list[str]) -> None:
        assert "--again goes alone" in run("keys_seal", "--again", *others).err


class TestAppend:
    def test_the_lines_of_new_seals_are_appended_once(self, kept: Path) -> None:
        assert lines(kept) == described()
        assert (append(kept).out, append(kept).err) == ("", "Sealed 0 events with 0 seals.\n")
        write(FULL)
        append(kept)
        assert lines(kept) == described()
        assert len(numbers()) == 4
        assert against(kept).status == 0

    def test_what_the_file_lacks_is_appended(self, kept: Path, tmp_path: Path) -> None:
        write(FULL)
        assert run("keys_seal").out
        first, *_ = kept.read_text().splitlines(keepends=True)
        for content in ("", first, kept.read_text(), first + '{"number": 2, "fo', first.rstrip()):
            path = tmp_path / "again.jsonl"
            path.write_text(content)
            assert append(path).status == 0
            assert lines(path) == described()
        assert append(tmp_path / "new.jsonl").status == 0
        assert lines(tmp_path / "new.jsonl") == described()

    def test_a_line_whose_seal_was_not_committed_becomes_that_seal(self, kept: Path) -> None:
        """Killed between the two."""
        AuditSeal.objects.filter(number__gt=1).delete()
        write(FULL)
        done = append(kept, "--rows", "2")
        assert (done.status, done.err) == (0, "Sealed 1 events with 1 seals.\n")
        assert lines(kept) == described()
        assert against(kept).status == 0

    def test_a_database_that_was_put_back_does_not_go_on_in_the_file(self, kept: Path) -> None:
        before = kept.read_bytes()
        restore(seals=1, rows=3)
        write(FULL, FULL)
        done = append(kept)
        assert done.status == 1
        assert done.err.startswith(f"Seal 2 in {kept} is not in this database, which is a copy, or was restored")
        assert (numbers(), kept.read_bytes()) == ([1], before)

    def test_nor_does_a_copy_whose_chain_went_another_way(self, kept: Path) -> None:
        before = kept.read_bytes()
        restore(seals=1, rows=3)
        write(FULL, FULL, FULL)
        run("keys_seal", "--rows", "1")
        assert len(numbers()) > 3
        for arguments in ([], ["--begin"]):
            done = append(kept, *arguments)
            assert done.status == 1
            assert done.err.startswith(f"Seal 3 in {kept} is another one in this database, which is a copy")
            assert kept.read_bytes() == before

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"{}\n", "Line 1"),
            (b"hello\n", "is not a seal"),
            (b"hello", "is not a seal"),
            (b"to do:\n- milk", "Line 2"),
            (b'{"name": "x"}', "Line 1"),
            (b"[" * 100_000, "Line 1"),
            (b"\xff\xfe\n", "Line 1"),
            (b"\xff\xfe\n\0", "Line 2"),
            (b'{"number": 1}\n\0', "Line 2"),
        ],
    )
    def test_nor_is_any_file_appended_to(self, tmp_path: Path, content: bytes, sentence: str) -> None:
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        write(FULL)
        done = append(path)
        assert (done.status, sentence in done.err, path.read_bytes(), numbers()) == (1, True, content, [])

    def test_nor_what_is_no_file(self, tmp_path: Path) -> None:
        write(FULL)
        for path, sentence in (
            (Path("/dev/full"), "is no file"),
            (tmp_path, "cannot be opened"),
            (tmp_path / "a/b", "be opened"),
        ):
            done = append(path)
            assert (done.status, sentence in done.err, numbers()) == (1, True, [])


class TestBegin:
    """A chain after a restore."""

    def test_what_was_lost_is_named_by_seal_and_the_chain_goes_on(self, kept: Path) -> None:
        lost = lines(kept)[1:]
        restore(seals=1, rows=3)
        write(FULL, FULL)
        done = against(kept)
        assert done.status == 1
        for line, said in zip(lost, done.out.splitlines(), strict=False):
            rows = f"rows {line['first_id']} to {line['last_id']}"
            assert said.startswith(f"Seal {line['number']} (2 events, {rows}, of {line['since']} to")
            assert said.endswith("was kept elsewhere and is missing.")
        done = append(kept, "--begin")
        assert (done.status, done.err) == (0, "Sealed 3 events with 1 seals.\n")
        assert numbers() == [1, 4]
        write(FULL)
        assert append(kept).status == 0
        assert numbers() == [1, 4, 5]
        done = against(kept)
        assert done.status == 0
        first, second, third, *_ = done.out.splitlines()
        assert first == "Seals 2 to 3 were lost before seal 4 began a new chain."
        assert second.startswith("Seal 2 (2 events, rows")
        assert third.startswith("Seal 3 (2 events, rows")
        assert "Seals 2 to 3 were lost" in run("keys_verify").out
        found = json.loads(run("keys_verify", "--json").out)
        assert (found["ok"], [one["seal"] for one in found["lost"]]) == (True, [2])
        # Rows of the new chain are verified like any others.
        events.filter(pk=AuditEvent.objects.order_by("pk")[2].pk).update(path="/other")
        assert "in seal 4, was altered." in run("keys_verify").out

    def test_a_database_from_before_the_first_seal(self, kept: Path) -> None:
        AuditSeal.objects.all().delete()
        ids = [*AuditEvent.objects.order_by("pk").values_list("pk", flat=True)]
        events.filter(pk__in=ids[1:]).delete()
        assert append(kept, "--begin").status == 0
        assert numbers() == [4]
        done = against(kept)
        assert (done.status, done.out.splitlines()[0]) == (0, "Seals 1 to 3 were lost before seal 4 began a new chain.")
        with undone():
            AuditEvent(pk=ids[0] - 1, **{**FULL, "at": AuditEvent.objects.get(pk=ids[0]).at}).save(force_insert=True)
            assert run("keys_verify").status == 1

    def test_nobody_without_the_key_says_so(self, kept: Path) -> None:
        write(FULL)
        append(kept)
        seal = AuditSeal.objects.get(number=4)
        AuditSeal.objects.filter(number__in=[2, 3]).delete()
        assert "Seal 2 and up to 3 is missing." in run("keys_verify").out
        seal.previous = AuditSeal.objects.get(number=1).digest
        seal.digest = seal.computed_digest()
        seal.save()
        assert "it is forged" in run("keys_verify").out

    def test_it_is_not_for_every_day(self, kept: Path, tmp_path: Path) -> None:
        write(FULL)
        for path in (kept, tmp_path / "new.jsonl"):
            done = append(path, "--begin")
            assert (done.status, "its chain goes on without --begin" in done.err) == (1, True)
        assert "--begin needs --append" in run("keys_seal", "--begin").err
        assert len(numbers()) == 3

    def test_without_a_row_to_seal_nothing_begins(self, kept: Path) -> None:
        before = kept.read_bytes()
        restore(seals=1, rows=2)
        done = append(kept, "--begin")
        assert (done.status, done.err) == (
            1, "No event is old enough to be sealed, so no new chain has begun: try again later."
        )  # fmt: skip
        assert (numbers(), kept.read_bytes()) == ([1], before)

    def test_rows_that_are_still_there_give_the_seals_again(self, kept: Path) -> None:
        """A restore that lost the seals alone lost nothing."""
        AuditSeal.objects.all().delete()
        assert append(kept).status == 0
        assert lines(kept) == described()
        assert list(sealing.seal()) == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Elsewhere a copy cannot be told from its original.")
class TestCopies:
    """A copy finds the number of another server, or the name of another database, beside its log's id."""

    @pytest.fixture(autouse=True)
    def copied(self, seal_key: None, kept: Path) -> None:
        AuditLog.objects.all().delete()
        AuditLog.objects.create(home="7/production/public")
        write(FULL)

    def test_writes_into_no_file(self, kept: Path, tmp_path: Path) -> None:
        before = kept.read_text()
        for path in (kept, tmp_path / "another.jsonl"):
            refused = append(path)
            assert (refused.status, numbers()) == (1, [1, 2, 3])
            assert "This database is a copy" in refused.err
        assert kept.read_text() == before

    def test_goes_on_once_it_is_told(self, kept: Path) -> None:
        assert append(kept, "--moved").status == 0
        assert append(kept).status == 0
        assert [line["number"] for line in lines(kept)] == numbers() == [1, 2, 3, 4]
        again = append(kept, "--moved")
        assert (again.status, "no copy" in again.err) == (1, True)

    def test_behind_a_stream_keys_ship_is_told(self, kept: Path, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis://127.0.0.1:1/0"}
        refused = append(kept, "--moved")
        assert (refused.status, "keys_ship --moved" in refused.err) == (1, True)

    def test_without_a_file_there_is_nothing_to_move(self) -> None:
        assert run("keys_seal", "--moved").status == 1
