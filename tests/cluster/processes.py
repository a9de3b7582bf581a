"""Programs that are started, killed and started again, each with whatever it started itself, and none left behind."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.processes import eventually

# How long anything may take on a slow machine that others use too, in seconds.
PATIENCE = 120.0
# Below the ports that the system gives to outgoing connections, one of which could take that of a killed server.
PORTS = range(15_000, 32_000)
# Each keeps a port for this run: another cluster on this machine sees that the same one is taken for datagrams.
_reservations: list[socket.socket] = []


class ClusterError(Exception):
    """The cluster did not do what it has to before anything can be counted."""


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as something is so. Raises ClusterError where it is not in time."""
    if not eventually(is_so, seconds):
        raise ClusterError(f"In {seconds:.0f} s it did not come to this: {what}.")


def free_port() -> int:
    """Return a port of this machine on which nobody listens, and no other cluster will until the workspace is gone."""
    for port in random.sample(PORTS, len(PORTS)):
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                _reservations.append(reservation)
                return port
        except OSError:
            reservation.close()
    raise ClusterError("No port is free.")


def program(name: str) -> str | None:
    """Return where a program is: on the path, or where Debian puts servers; None if it is not installed."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", *map(str, reversed(by_version))]
    return shutil.which(name, path=os.pathsep.join(places))


def path_of(name: str) -> str:
    """Return where a program is that is known to be installed."""
    path = program(name)
    assert path is not None, f"{name} is not installed"
    return path


def new_folder(folder: Path) -> Path:
    """Make a folder, and return it."""
    folder.mkdir()
    return folder


def unprivileged() -> dict[str, Any]:
    """Return what makes `Popen` start a server as PostgreSQL's own user, where we are root: they refuse to be root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that servers of another user can reach into, and that is gone after the block, as are their ports."""
    with tempfile.TemporaryDirectory(prefix="keys-cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            while _reservations:
                _reservations.pop().close()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no second Ctrl-C, or other signal to end, keep the block from its end."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def give_away(folder: Path) -> Path:
    """Let the unprivileged user of `unprivileged` write into a folder."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    return folder


class Process:
    """A program and the processes it starts in its group. Its output goes to a file, which is kept over its lives."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self._command, self._environment, self._options = command, environment or {}, options
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ClusterError(f"{self.name} was never started.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it does not run."""
        if not self.is_running:
            self._spawn()

    def begin(self) -> None:
        """Start it, and return when it is ready; again where it ends before it is, as a server may after a crash."""

        def has_come_up() -> bool:
            self.start()
            return self.is_ready()

        wait_until(has_come_up, f"{self.name} is ready")

    def is_ready(self) -> bool:
        """Tell whether it does what it is there for."""
        return self.is_running

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
                **self._options,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop the program where it is; its connections stay open, and nobody is answered."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a program that was frozen go on, with what was sent to it meanwhile."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the program and its group with SIGKILL, if it was ever started, and return when it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self, seconds: float = PATIENCE) -> None:
        """Wait for the end of the program."""
        wait_until(lambda: not self.is_running, f"{self.name} has ended", seconds)

    def log(self) -> str:
        """Return all of its output."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def said(self, lines: int = 15) -> str:
        """Return the last lines of its output."""
        return "\n".join(f"  {self.name}: {line}" for line in self.log().splitlines()[-lines:])
