"""Other processes that work on the tests' database, and waiting for what they do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
# Nobody waits so long but where something is wrong, or the machine does too much at once.
SECONDS_TO_WAIT = 60


class Shell:
    """A `manage.py shell -c`. Lines that begin with `print("ready", flush=True); input()` wait for `go`."""

    def __init__(self, lines: str) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c", lines]
        environment = {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def output(self) -> str:
        """Wait for the end and return what was printed. Fails where the lines failed."""
        printed, errors = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, errors
        return printed


def at_once(*lines: str) -> list[str]:
    """Run lines in a shell of their own each, all at the same time, and return what each printed."""
    shells = [Shell(f'print("ready", flush=True); input()\n{each}') for each in lines]
    for shell in shells:
        shell.wait_until_ready()
    for shell in shells:
        shell.go()
    return [shell.output() for shell in shells]


def database_url() -> str:
    """Return the address of the tests' database. Its test must be a transactional one."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return "{vendor}://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(vendor=connection.vendor, **database)


def eventually(is_so: Callable[[], bool], seconds: float = SECONDS_TO_WAIT) -> bool:
    """Ask again and again, for a bounded time, what another process is about to make true; return the last answer."""
    end = monotonic() + seconds
    while not (said := is_so()) and monotonic() < end:
        sleep(0.02)
    return said
