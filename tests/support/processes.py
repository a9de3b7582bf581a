"""Other processes on the tests' database: `manage.py shell`."""

import os
import subprocess
import sys

from django.conf import settings
from django.db import connection


class Shell:
    """A `manage.py shell -c`. Lines that begin with `print("ready", flush=True); input()` wait for `go`."""

    def __init__(self, lines: str) -> None:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "shell", "-v", "0", "-c", lines]
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
        """Wait until it ends, and return what it printed. Fails if the lines failed."""
        printed, errors = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, errors
        return printed


def at_once(*lines: str) -> list[str]:
    """Run each of the texts in its own shell, all at the same time, and return what each printed."""
    shells = [Shell(f'print("ready", flush=True); input()\n{each}') for each in lines]
    for shell in shells:
        shell.wait_until_ready()
    for shell in shells:
        shell.go()
    return [shell.output() for shell in shells]


def database_url() -> str:
    """Return the URL of the tests' database. The test must be a transactional one."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return "{vendor}://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(vendor=connection.vendor, **database)
