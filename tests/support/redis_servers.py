"""A Redis server of a test's own, which may be killed, and the stream in it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from keys.audit.entries import decode
from keys.audit.shipping import Shipper
from keys.audit.stream import Stream
from tests.support.processes import SECONDS_TO_WAIT, eventually

Entry = tuple[bytes, dict[bytes, bytes]]


def shared_redis() -> str:
    """Return the address of a Redis that other runs may use, too: that of the tests' cache, if it is in one."""
    location = str(settings.CACHES["default"].get("LOCATION", ""))
    return location if location.startswith("redis") else "redis://127.0.0.1:6379/15"


class RedisServer:
    """Listens on a socket in its folder, where it also keeps what it writes to disk."""

    def __init__(self, program: str, folder: str, options: Sequence[str], password: str | None) -> None:
        self._command = [program, "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--dir", folder, *options]
        self.socket = Path(folder) / "redis.sock"
        self.address = f"unix://{self.socket}?stream=log"
        once = Retry(NoBackoff(), 0)
        self.client: Any = redis.Redis(unix_socket_path=str(self.socket), password=password, retry=once)
        self.start()

    @property
    def stream(self) -> Stream:
        return Stream(self.address)

    @property
    def entries(self) -> list[Entry]:
        """What has not been shipped."""
        entries: list[Entry] = self.client.xrange("log")
        return entries

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that the entries hold, in their order."""
        return [decode(fields) for _, fields in self.entries]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        assert eventually(self._answers)

    @contextmanager
    def slowly(self, *options: str) -> Iterator[None]:
        """Start it with more options, without waiting for it, and wait for it at the end of the block."""
        self.process = subprocess.Popen([*self._command, *options], stdout=subprocess.DEVNULL)
        yield
        assert eventually(self._answers)

    def _answers(self) -> bool:
        return self.says() == "PONG"

    def says(self) -> str:
        """Return what it answers: PONG, LOADING, or nothing while it does not run."""
        try:
            return "PONG" if self.client.ping() else ""
        except redis.BusyLoadingError:
            return "LOADING"
        except redis.RedisError:
            return ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS_TO_WAIT)


def program_or_skip(name: str) -> str:
    """Return where a program is. Without it the test is skipped, or fails where Redis was asked for."""
    program = shutil.which(name)
    if program is None:
        if os.environ.get("CACHE_URL", "").startswith("redis"):
            pytest.fail(f"{name} is not installed.")
        pytest.skip(f"{name} is not installed.")
    return program


@contextmanager
def redis_server(*options: str, password: str | None = None) -> Iterator[RedisServer]:
    """Run a server until the end of the block. Skips the test where there is none, and Redis was not asked for."""
    program = program_or_skip("redis-server")
    # Not pytest's own folder: the path of a socket must be short.
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(program, folder, ["--save", "", *options], password)
        try:
            yield server
        finally:
            server.client.close()
            server.kill()


def ship(stream: Stream, **options: Any) -> Shipper:
    """Ship what lies in a stream, what others have taken too, and return who did."""
    shipper = Shipper(stream, claim_after=timedelta(0), **options)
    shipper.run_once()
    return shipper
