"""What cannot be written out has not happened, and the exit status tells the truth whatever becomes of the words."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from keys.models import APIKey, AuditEvent
from keys.models.fields import Digest
from keys.signals import key_changed
from tests.support.commands import Run, Terminal, finish, manage, run, start
from tests.support.keys import make_key
from tests.support.other_packages import authtoken

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]

FULL = "No space left on device"


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is written when it is flushed, as it is for people; not at once, as in many containers."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "")


def to_a_pipe_that_nobody_reads(*arguments: str) -> Run:
    ours, theirs = os.pipe()
    os.close(ours)
    process = start(*arguments, stdout=theirs)
    os.close(theirs)
    return finish(process)


def to_a_pipe_that_is_full(*arguments: str) -> Run:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while os.write(theirs, b"x" * 4096):
            pass
    process = start(*arguments, stdout=theirs)
    os.close(theirs)
    failed = finish(process)
    os.close(ours)
    return failed


def to_a_terminal_that_is_gone(*arguments: str) -> Run:
    terminal = Terminal()
    process = terminal.start(*arguments, streams=["stdout"])
    os.close(terminal.ours)
    return finish(process)


LOST: dict[str, Callable[..., Run]] = {
    "full disk": lambda *arguments: manage(*arguments, redirection=">/dev/full"),
    "closed": lambda *arguments: manage(*arguments, redirection=">&-"),
    "only readable": lambda *arguments: manage(*arguments, redirection="1</dev/null"),
    "pipe": to_a_pipe_that_nobody_reads,
    "full pipe": to_a_pipe_that_is_full,
    "terminal": to_a_terminal_that_is_gone,
}
lost = pytest.mark.parametrize("write", LOST.values(), ids=LOST)


def state() -> list[dict[str, Any]]:
    return [*APIKey.objects.order_by("pk").values(), *AuditEvent.objects.order_by("pk").values()]


def one_sentence(failed: Run) -> str:
    assert failed.status == 1
    assert failed.out == ""
    (line,) = failed.err.splitlines()
    assert line.startswith("CommandError: ")
    assert line.endswith(".")
    return line


@lost
def test_a_key_that_nobody_can_read_is_not_made(write: Callable[..., Run]) -> None:
    assert "Nothing was changed, because" in one_sentence(write("keys_create", "TTS-Backend"))
    assert state() == []


@lost
def test_an_old_key_is_not_ended_by_one_that_nobody_can_read(write: Callable[..., Run]) -> None:
    key = make_key()
    before = state()
    assert "Nothing was changed, because" in one_sentence(write("keys_rotate", key.prefix, "--grace", "0"))
    assert state() == before
    key.refresh_from_db()
    assert key.state == "active"
    assert key.rotate() != key


@lost
def test_the_output_may_be_written_at_once(write: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    assert "Nothing was changed, because" in one_sentence(write("keys_create", "TTS-Backend"))
    assert state() == []


@pytest.mark.parametrize("redirection", [">/dev/full 2>/dev/full", ">&- 2>&-", ">/dev/full 2>&1"])
def test_neither_words_nor_a_key_can_get_out(redirection: str) -> None:
    failed = manage("keys_create", "TTS-Backend", redirection=redirection)
    assert (failed.status, failed.out, failed.err) == (1, "", "")
    assert state() == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["keys_list"], 1),
        (["keys_list", "--json"], 1),
        (["keys_list", "--unused", "1d"], 1),
        (["keys_usage", "--json"], 1),
        (["keys_generate"], 1),
        # 1 would say that the key is refused.
        (["keys_explain"], 2),
    ],
)
def test_a_report_that_is_lost_is_no_success(arguments: list[str], status: int) -> None:
    make_key(created_at=timezone.now() - timedelta(days=2))
    AuditEvent._base_manager.update(at=timezone.now() - timedelta(days=2))
    failed = manage(*arguments, stdin="nonsense\n", redirection=">/dev/full")
    assert (failed.status, failed.out) == (status, "")
    assert failed.err.endswith(f"CommandError: Standard output cannot be written: {FULL}.\n")
    assert "Traceback" not in failed.err


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_note_that_is_lost_changes_nothing(redirection: str) -> None:
    made = manage("keys_create", "TTS-Backend", redirection=redirection)
    key = APIKey.objects.get(key=made.out.strip())
    rotated = manage("keys_rotate", "TTS-Backend", "--grace", "0", redirection=redirection)
    successor = APIKey.objects.get(key=rotated.out.strip())
    ended = manage("keys_deactivate", successor.prefix, redirection=redirection)
    assert (made.status, rotated.status, ended.status) == (0, 0, 0)
    assert [APIKey.objects.get(pk=each.pk).state for each in (key, successor)] == ["expired", "inactive"]
    assert manage("keys_deactivate", "nobody", redirection=redirection).status == 1
    assert manage("keys_explain", stdin="", redirection=redirection).status == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_an_encoding_lacks_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    made = manage("keys_create", "翻訳")
    assert made.status == 0
    assert APIKey.objects.get(key=made.out.strip()).name == "翻訳"
    assert "Made \\u7ffb\\u8a33" in made.err
    listed = manage("keys_list")
    assert (listed.status, listed.err) == (0, "")
    assert "\\u7ffb\\u8a33" in listed.out


def test_a_reader_may_take_its_time() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    filling = 0
    while True:
        try:
            filling += os.write(theirs, b"." * 4096)
        except BlockingIOError:
            break
    os.set_blocking(theirs, True)
    process = start("keys_create", "TTS-Backend", stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as reader:
        token = reader.read()[filling:].decode()
    assert finish(process).status == 0
    assert APIKey.objects.filter(key=token.strip()).exists()


def test_a_file_holds_the_key(tmp_path: Path) -> None:
    made = manage("keys_create", "TTS-Backend", redirection=f">{tmp_path / 'key'}")
    assert (made.status, made.out) == (0, "")
    assert APIKey.objects.filter(key=(tmp_path / "key").read_text().strip()).exists()


def test_keys_of_another_package_are_not_imported_without_their_report() -> None:
    authtoken()

    class Full(StringIO):
        def flush(self) -> None:
            raise OSError(28, FULL)

    with pytest.raises(CommandError, match=f"^Nothing was changed, because .*: {FULL}"):
        call_command("keys_import", "authtoken", stdout=Full())
    assert state() == []
    assert run("keys_import", "authtoken").status == 0
    assert len(state()) == 2


class Broken:
    """A stream of somebody's own, whose `write` fails."""

    def write(self, text: str) -> int:
        raise RuntimeError("The widget is gone.")


def test_a_stream_of_ones_own_may_fail_in_its_own_way() -> None:
    key = make_key()
    before = state()
    for arguments in (["keys_create", "TTS"], ["keys_rotate", key.prefix]):
        with pytest.raises(RuntimeError, match="widget"):
            call_command(*arguments, stdout=Broken())
    closed = StringIO()
    closed.close()
    with pytest.raises(CommandError, match="it is closed"):
        call_command("keys_create", "TTS", stdout=closed)
    assert state() == before
    call_command("keys_deactivate", key.prefix, stderr=Broken())
    key.refresh_from_db()
    assert not key.is_active


@pytest.fixture
def commit_fails() -> Iterator[None]:
    """There is a key, and a receiver writes a row that the database refuses at the end of the transaction."""
    numbers = count(1)

    def add(**kwargs: object) -> None:
        Group.permissions.through.objects.create(group_id=-1, permission_id=-next(numbers))

    make_key()
    key_changed.connect(add)
    yield
    key_changed.disconnect(add)


@pytest.mark.skipif(connection.vendor == "mysql", reason="MariaDB refuses such a row at once.")
@pytest.mark.parametrize("command", ["keys_create", "keys_rotate"])
def test_a_key_that_was_written_out_and_not_committed_is_said_to_be_none(command: str, commit_fails: None) -> None:
    before = state()
    failed = run(command, "TTS-Backend")
    assert failed.status == 1
    assert not APIKey.objects.filter(key=failed.out.strip()).exists()
    assert "what was written to standard output is not valid unless keys_list shows it" in failed.err
    assert state() == before


def test_whoever_uses_a_key_when_it_is_committed_finds_no_secret() -> None:
    seen: list[Any] = []

    def remember(instance: APIKey, **kwargs: object) -> None:
        transaction.on_commit(lambda: seen.append(instance.key))

    post_save.connect(remember, sender=APIKey)
    try:
        run("keys_create", "TTS-Backend")
        run("keys_rotate", "TTS-Backend")
    finally:
        post_save.disconnect(remember, sender=APIKey)
    assert [type(secret) for secret in seen] == [Digest, Digest]
