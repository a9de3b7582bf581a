"""Runs management commands and system checks as people and cron jobs do, and says what became of them."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import StringIO
from typing import Any, Self, TextIO
from unittest.mock import patch

from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import path
from pytest_django import Settings

from tests.support.processes import ROOT, database_url


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


def start(*arguments: str, redirection: str = "", **options: Any) -> subprocess.Popen[str]:
    """Start `manage.py` in a process of its own, on the database of the test, which must have been committed.

    `redirection` is a shell's, such as `>/dev/full`.
    """
    streams: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **options,
    }
    environment = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    command = [sys.executable, "manage.py", *arguments]
    if redirection:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        **streams,
    )


def finish(process: subprocess.Popen[str], stdin: str | None = None) -> Run:
    """Wait for the end of a command. What it wrote to a terminal is not in the result."""
    with process:
        out, err = process.communicate(stdin, timeout=120)
    return Run(process.returncode, out or "", err or "")


def manage(*arguments: str, stdin: str = "", redirection: str = "") -> Run:
    """Run `manage.py` to its end in a process of its own."""
    return finish(start(*arguments, redirection=redirection), stdin)


class Terminal:
    """A terminal that a command can be given for one of its streams, and what appears on it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.ours)

    def as_stdin(self) -> TextIO:
        """Return the terminal for a command in this process to read from; closing it is the caller's."""
        return os.fdopen(self.theirs)

    def start(self, *arguments: str, streams: Collection[str]) -> subprocess.Popen[str]:
        """Start `manage.py` with the terminal for these of its streams."""
        options: dict[str, Any] = dict.fromkeys(streams, self.theirs)
        process = start(*arguments, **options, start_new_session=True)
        # The other end is the command's alone, so that reading ends when it does.
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
            except OSError:  # how Linux says that the other end has been closed
                part = b""
            if not part:
                return seen.decode()
            seen += part


def found(check_id: str, *, deploy: bool = False, databases: list[str] | None = None) -> list[str]:
    """Return, as they are printed, the messages of one id."""
    # None means no database before Django 6, and every one since.
    messages = run_checks(tags=["keys"], include_deployment_checks=deploy, databases=databases or [])
    return [str(message) for message in messages if message.id == check_id]


def serve(settings: Settings, *views: Callable[..., Any]) -> None:
    """Let the URLconf hold nothing but the views, at /0/, /1/ and so on."""
    settings.ROOT_URLCONF = tuple(path(f"{number}/", view) for number, view in enumerate(views))
