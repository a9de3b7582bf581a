"""Real servers in their own processes, on the tests' database."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

from tests.support.processes import database_url

WSGI = "example_project.wsgi:application"
ASGI = "example_project.asgi:application"
GUNICORN = (
    "-m",
    "gunicorn",
    WSGI,
    "--bind",
    "fd://{fd}",
    "--workers",
    "1",
    "--threads",
    "4",
    "--preload",
    "--no-control-socket",
)
# By default uvicorn trusts the X-Forwarded-For of a peer on its own machine.
UVICORN = ("-m", "uvicorn", ASGI, "--fd", "{fd}", "--no-proxy-headers")

SECONDS_TO_WAIT = 60  # seconds; reached only on an error, or on an overloaded machine


class Server:
    """A server that is starting or running; its socket is open already, so connections wait for it."""

    def __init__(self, process: subprocess.Popen[bytes], address: tuple[str, int]) -> None:
        self.process = process
        self.address = address

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, SECONDS_TO_WAIT)

    def send(self, *lines: bytes, path: bytes = b"/guarded/", method: bytes = b"GET") -> bytes:
        """Send a request with these header lines, and return everything until the server disconnects."""
        with self.connect() as client:
            start = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
            # A server may disconnect before it has read all of a bad request.
            with suppress(ConnectionError):
                client.sendall(b"\r\n".join([*start, *lines, b"", b""]))
            return received(client)


def received(client: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError):
        while part := client.recv(65_536):
            answer += part
    return answer


def status_of(answer: bytes) -> int:
    """Return the status of an answer; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


@contextmanager
def serving(command: tuple[str, ...], settings: str = "tests.settings") -> Iterator[Server]:
    """Run a server until the end of the block; its output is shown if the block fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *(part.format(fd=listener.fileno()) for part in command)],
            env={**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": settings},
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
        )
        try:
            yield Server(process, listener.getsockname())
        finally:
            process.terminate()
            process.wait(SECONDS_TO_WAIT)
            log.seek(0)
            said = log.read().decode(errors="replace")
            print(said)
        assert "SynchronousOnlyOperation" not in said
        assert "could not be added to the audit log" not in said


def eventually(is_so: Callable[[], bool]) -> bool:
    """Poll, for a limited time, for what another process is about to make true."""
    end = monotonic() + SECONDS_TO_WAIT
    while not (said := is_so()) and monotonic() < end:
        sleep(0.02)
    return said
