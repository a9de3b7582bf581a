"""Moves a project step by step as the manual says, while it serves: releases, a rolling restart, and its clients.

`<project>/before/` holds the project as it was; `<project>/step_<n>/` holds the files that a step brings or changes.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import requests

from tests.docs.pages import block, blocks
from tests.projects.calling import Call
from tests.projects.running import PROJECTS
from tests.support import runs
from tests.support.processes import ROOT, SECONDS_TO_WAIT, eventually

PAGE = "docs/moves.md"
DEPLOYING = "# Four moves, step by step"
GUNICORN = (
    "gunicorn", "django.core.wsgi:get_wsgi_application()", "--workers", "2", "--threads", "4", "--pid", "gunicorn.pid",
    "--no-control-socket",
)  # fmt: skip
# Commands that tell of the clients' calls, for which a team leaves them some time.
MEASURING = re.compile("keys_(usage|legacy)")
# Calls fill the machine: the commands go first, or a move takes minutes.
PATIENT = ("nice", "-n", "15")


class Callers:
    """The clients of a project, in a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _do(self, *what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, name: str, *, keeps_connection: bool = False, **headers: str) -> None:
        """Let a client call from now on; `_` in a header's name stands for `-`."""
        sent = {header.replace("_", "-"): value for header, value in headers.items()}
        self._do("start", name, sent, keeps_connection)

    def stop(self, name: str) -> None:
        self._do("stop", name)

    def wait(self, calls: int = 100) -> None:
        """Wait until each client has called so many times more."""
        self._do("wait", calls)

    def calls(self) -> dict[str, list[Call]]:
        """Return what became of each request of each client until now."""
        return {name: [Call(**call) for call in calls] for name, calls in self._do("calls").items()}


class Move:
    """A project that serves, its releases, and the manual's section about its move."""

    def __init__(self, name: str, heading: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self._heading, self._folder = name, heading, folder
        self._environment = environment
        self._release = folder / "releases" / "0"
        shutil.copytree(PROJECTS / name / "before", self._release / name)
        self._finish_release()
        (folder / "current").symlink_to(self._release)
        self.url = ""
        self.callers: Callers
        self.server: subprocess.Popen[bytes]
        # When each command of each step began and ended; `./deploy` ends when nothing of the release before is left.
        self.times: dict[tuple[int, str], tuple[float, float]] = {}

    def _finish_release(self) -> None:
        shutil.copy(PROJECTS / "manage.py", self._release)
        script = self._release / "deploy"
        script.write_text(f"set -eu\n{block(PAGE, DEPLOYING, 'sh')}")
        script.chmod(0o755)

    def follow(self, step: int) -> str:
        """Do what the manual says of this step: its files, and its commands, with what they have to print.

        Returns all that they printed.
        """
        before, self._release = self._release, self._folder / "releases" / str(step)
        shutil.copytree(before, self._release, ignore=shutil.ignore_patterns("__pycache__"))
        if (files := PROJECTS / self.name / f"step_{step}").exists():
            shutil.copytree(files, self._release / self.name, dirs_exist_ok=True)
        self._finish_release()
        everything = ""
        for line in lines_of(self._heading, step):
            command, _, expected = (part.strip() for part in line.partition("  # "))
            if MEASURING.search(command):
                self.callers.wait(20)
            started = monotonic()
            printed = self._deploy() if command == "./deploy" else self.sh(command)
            self.times[step, command] = started, monotonic()
            assert expected in printed, (command, printed)
            everything += printed
        return everything

    def sh(self, command: str, **variables: str) -> str:
        """Run a line of a shell in the newest release, and return what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self._release, env={**self._environment, **variables},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout

    def shell(self, lines: str) -> str:
        """Run lines in `manage.py shell` of the newest release, and return what they printed."""
        return self.sh('python manage.py shell -v 0 -c "$LINES"', LINES=lines)

    def _deploy(self) -> str:
        """Put the newest release in the place of the one before; return when nothing of that is at work any more."""
        old = self._workers()
        printed = self.sh("./deploy")
        assert eventually(lambda: not old & self._workers()), self.said()
        return printed

    def said(self) -> str:
        return (self._folder / "gunicorn.log").read_text()

    def _workers(self) -> set[str]:
        said = self.said()
        booted, ended = r"Booting worker with pid: (\d+)", r"Worker exiting \(pid: (\d+)\)"
        return {*re.findall(booted, said)} - {*re.findall(ended, said)}

    def call(self, **headers: str) -> requests.Response:
        """Send one request as a client does."""
        sent = {header.replace("_", "-"): value for header, value in headers.items()}
        return requests.get(f"{self.url}/call/", headers=sent, timeout=SECONDS_TO_WAIT)

    def rows(self) -> list[dict[str, Any]]:
        """Return the log's rows about requests."""
        fields = ("request_id", "event", "reason", "key_name", "owner", "status", "count")
        lines = f"""
import json
from keys.models import AuditEvent
print(json.dumps([*AuditEvent.objects.exclude(method="").order_by("pk").values({", ".join(map(repr, fields))})]))
"""
        return list(json.loads(self.shell(lines)))

    def stop(self) -> None:
        """Let the service end, which writes what it still knows of its requests."""
        self.server.terminate()
        assert self.server.wait(SECONDS_TO_WAIT) == 0


def lines_of(heading: str, step: int) -> list[str]:
    """Return the lines of a step's block for a shell, without the comment that names the step."""
    texts = [text.replace("\\\n", "").splitlines() for language, text in blocks(PAGE, heading) if language == "sh"]
    (lines,) = (lines for first, *lines in texts if first == f"# step {step}")
    return lines


@contextmanager
def moving(name: str, heading: str, folder: Path, **variables: str) -> Iterator[Move]:
    """Run a project as it was before, on a database of its own, until the end of the block."""
    runs.begin()
    environment = {
        **os.environ,
        **variables,
        "KEYS_WORLD": name,
        "DJANGO_SETTINGS_MODULE": f"{name}.settings",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    served = {**environment, "KEYS_DATABASE_IS_MADE": "yes"}
    current = {"PYTHONPATH": f"{ROOT}:{folder / 'current'}"}
    move = Move(name, heading, folder, served)
    with ExitStack() as stack:
        stack.enter_context(_lent_database({**environment, **current}))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        move.url = f"http://127.0.0.1:{port}"
        stack.enter_context(_serving(move, folder, listener, {**served, **current}))
        move.callers = stack.enter_context(_calling(port))
        yield move


@contextmanager
def _lent_database(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.projects.lend_database"], env=environment, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "The database was not made."
        yield
    finally:
        process.communicate(timeout=SECONDS_TO_WAIT)
    assert process.returncode == 0


@contextmanager
def _serving(move: Move, folder: Path, listener: socket.socket, environment: dict[str, str]) -> Iterator[None]:
    # Connections wait on a socket that is open already.
    with (folder / "gunicorn.log").open("w") as log:
        move.server = subprocess.Popen(
            [*PATIENT, sys.executable, "-m", *GUNICORN, "--bind", f"fd://{listener.fileno()}"],
            env=environment, cwd=folder, stdout=log, stderr=log, pass_fds=[listener.fileno()],
        )  # fmt: skip
        try:
            yield
        finally:
            move.server.terminate()
            move.server.wait(SECONDS_TO_WAIT)
            print(move.said())


@contextmanager
def _calling(port: int) -> Iterator[Callers]:
    process = subprocess.Popen(
        [*PATIENT, sys.executable, "-m", "tests.projects.calling", str(port)], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Callers(process)
    finally:
        process.communicate(timeout=SECONDS_TO_WAIT)
    assert process.returncode == 0
