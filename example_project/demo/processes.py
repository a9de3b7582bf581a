"""The processes that the demo starts: each has its own settings and environment, and ends with the demo."""

import os
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, cast

from django.conf import settings
from django.core.management.base import CommandError

SECONDS_TO_START = 60
SECONDS_TO_STOP = 30


class Service:
    """A program that answers HTTP on 127.0.0.1, in a process of its own: a Django project, unless `module` is another.

    `name` is for people. `folder` is the working directory, if it is not to be ours. What the process writes to
    standard error goes to `log`.
    """

    def __init__(
        self, name: str, log: Path, folder: Path | None = None, module: str = "example_project.demo.serve"
    ) -> None:
        self.module = module
        self.name = name
        self.log = log
        self.folder = folder
        self.port = 0
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError(f"The {self.name} has not been launched.")
        return self._process

    def launch(self, environment: Mapping[str, str], without: Collection[str] = ()) -> None:
        """Start the process on the port that it had before, if any, and do not wait for it.

        It has our own environment, with the changes in `environment` and `without` some variables.
        """
        changed = _environment(environment)
        self.environment = {name: value for name, value in changed.items() if name not in without}
        command = [sys.executable, "-m", self.module, *([str(self.port)] if self.port else [])]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C is for us: we end the others when we have put our things in order.
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when the service can be connected to; CommandError if it ends instead, or takes too long."""
        alarm = threading.Timer(SECONDS_TO_START, self._running.kill)
        alarm.start()
        try:
            port = cast(IO[str], self._running.stdout).readline()
        finally:
            alarm.cancel()
        if not port:
            raise CommandError(f"The {self.name} did not start.\n{self.last_words()}")
        self.port = int(port)

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the service and wait until it answers."""
        self.launch(environment)
        self.wait_until_ready()

    def wait(self) -> None:
        """Return when the process has ended."""
        self._running.wait()

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=SECONDS_TO_STOP)  # closes its standard input, and waits for its end
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command with the service's environment and in its folder."""
        command = [sys.executable, "-m", "django", *arguments]
        return subprocess.run(  # noqa: S603
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"--- the end of what the {self.name} wrote", *text.splitlines()[-lines:]])


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return our own environment, changed so that a service works at 127.0.0.1 wherever we have been started."""
    search_path = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")]))
    local = {
        "PYTHONPATH": search_path,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "TRUSTED_PROXIES": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return {**os.environ, **local, **changes}
