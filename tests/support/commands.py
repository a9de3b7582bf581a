"""Runs management commands as people and cron jobs do, and returns their results."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Self, TextIO
from unittest.mock import patch

from django.core.management import call_command
from django.core.management.base import CommandError

from keys.models import APIKey, AuditEvent
from tests.support.processes import database_url

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """How a command ended: its exit status and what it wrote."""

    status: int
    out: str
    err: str


def run(*arguments: str, stdin: str | TextIO = "") -> Run:
    """Run a command in this process, inside the transaction of the test."""
    out, err, status = StringIO(), StringIO(), 0
    with patch("sys.stdin", StringIO(stdin) if isinstance(stdin, str) else stdin):
        try:
            call_command(*arguments, stdout=out, stderr=err)
        except CommandError as error:
            err.write(str(error))
            status = error.returncode
        except SystemExit as leaving:
            status = int(leaving.code or 0)
    return Run(status, out.getvalue(), err.getvalue())


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `manage.py` in its own process, on the test's database, whose rows must be committed."""
    streams: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **options,
    }
    environment = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        **streams,
    )


def finish(process: subprocess.Popen[str], stdin: str | None = None) -> Run:
    """Wait for a command to end. The result lacks what it wrote to a terminal."""
    with process:
        out, err = process.communicate(stdin, timeout=120)
    return Run(process.returncode, out or "", err or "")


def manage(*arguments: str, stdin: str = "") -> Run:
    """Run `manage.py` in its own process until it ends."""
    return finish(start(*arguments), stdin)


class Terminal:
    """A terminal that can be one of a command's streams, and what is written to it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.ours)

    def as_stdin(self) -> TextIO:
        """Return the terminal for a command in this process to read from; the caller closes it."""
        return os.fdopen(self.theirs)

    def start(self, *arguments: str, streams: Collection[str]) -> subprocess.Popen[str]:
        """Start `manage.py` with the terminal for these streams."""
        process = start(*arguments, **dict.fromkeys(streams, self.theirs), start_new_session=True)
        # Only the command keeps the other end open, so that reading ends when it exits.
        os.close(self.theirs)
        return process

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text has appeared."""
        seen = b""
        while text.encode() not in seen:
            assert select.select([self.ours], [], [], 120)[0], f"Nothing more than {seen!r} appeared."
            seen += os.read(self.ours, 4096)

    def read_to_end(self) -> str:
        seen = b""
        while True:
            try:
                part = os.read(self.ours, 4096)
            except OSError:  # on Linux: the other end was closed
                part = b""
            if not part:
                return seen.decode()
            seen += part


def make_key(name: str = "TTS-Backend", **fields: Any) -> APIKey:
    """Make a key; `created_at` may be given, too."""
    created_at = fields.pop("created_at", None)
    key = APIKey.objects.create(name=name, **fields)
    if created_at is not None:
        APIKey._base_manager.filter(pk=key.pk).update(created_at=created_at)
    return key


def record(key: APIKey | None = None, **fields: Any) -> AuditEvent:
    """Write an event as a request would have."""
    known = {} if key is None else {"api_key": key, "key_name": key.name, "key_prefix": key.prefix}
    event: AuditEvent = AuditEvent.objects.create(**{"event": "used", "status": 200, **known, **fields})
    return event
