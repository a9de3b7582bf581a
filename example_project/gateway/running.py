"""Runs a proxy with one of the configurations in this folder, on a free port, for as long as it is needed.

`python -m example_project.gateway.running <command>` runs a command that ends when standard input does, and that
happens however the parent ends. Only the standard library is imported.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

FOLDER = Path(__file__).parent
SECONDS_TO_START = 30
SECONDS_TO_STOP = 30

# By the name of the configuration. {file} is its copy with other addresses, in {folder}, which the proxy may write to.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "nginx.conf": ("nginx", "-e", "stderr", "-p", "{folder}", "-c", "{file}", "-g", "daemon off;"),
    "Caddyfile": ("caddy", "run", "--adapter", "caddyfile", "--config", "{file}"),
    "haproxy.cfg": ("haproxy", "-db", "-C", "{folder}", "-f", "{file}"),
    "envoy.yaml": ("envoy", "--config-path", "{file}", "--disable-hot-restart", "--log-level", "warning"),
}
# The files that a configuration names, which lie beside it.
BESIDE: Mapping[str, tuple[str, ...]] = {"haproxy.cfg": ("ask_for_key.lua",)}


class GatewayError(Exception):
    """A configuration has no address where one is expected, or the proxy does not start."""


def configured(text: str, **addresses: str) -> str:
    """Return a configuration with other addresses, and all else as it was.

    An address is the `host:port` or `:port` on the line with the comment `# <name>`, or Envoy's pair of them. One
    without a host keeps none. Raises GatewayError if there is not exactly one for each name.
    """
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        marked = re.compile(
            rf"^([^#\n]*?)([\w.-]+)?(:|, port_value: )\d+(?=[^\w#][^#\n]*# {re.escape(name)}$)", re.MULTILINE
        )
        text, found = marked.subn(lambda at: f"{at[1]}{host if at[2] else ''}{at[3]}{port}", text)  # noqa: B023
        if found != 1:
            raise GatewayError(f"The configuration has {found} addresses with the comment # {name}.")
    return text


def program(name: str) -> str | None:
    """Return the path of a program, also of one for administrators or of this environment; None if there is none."""
    places = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent), "/usr/local/sbin", "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def program_of(configuration: str) -> str | None:
    """Return the path of the proxy that the configuration is for; None if it is not installed."""
    return program(COMMANDS[configuration][0])


@dataclass(frozen=True)
class Gateway:
    """A proxy that runs. What it says is in `log`; `command` is what has started it."""

    port: int
    folder: Path
    log: Path
    command: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def gateway_running(configuration: str, text: str | None = None, **addresses: str) -> Iterator[Gateway]:
    """Run the proxy with a configuration of this folder (`nginx.conf`) until the end of the block.

    `listen` is a free port, unless it is given; the other addresses that the configuration names have to be. `text` is
    another version of the file. Raises GatewayError if the proxy is not installed or does not start.
    """
    with TemporaryDirectory(prefix="gateway-") as made, socket.socket() as reserved:
        folder = Path(made)
        # A proxy that root starts works as somebody else, who has to get at its folders in this one.
        folder.chmod(0o711)
        # Bound and not listening: nobody else gets the port, connections are refused, and the proxy can listen there.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", int(addresses.get("listen", ":0").rpartition(":")[2])))
        port = reserved.getsockname()[1]
        text = (FOLDER / configuration).read_text() if text is None else text
        file = folder / configuration
        file.write_text(configured(text, **{"listen": f"127.0.0.1:{port}", **addresses}))
        for name in BESIDE.get(configuration, ()):
            shutil.copy(FOLDER / name, folder)
        command = tuple(part.format(folder=folder, file=file) for part in COMMANDS[configuration])
        path = program(command[0])
        if path is None:
            raise GatewayError(f"{command[0]} is not installed.")
        gateway = Gateway(port, folder, folder / "log", (path, *command[1:]))
        with _running(gateway) as process:
            _wait_until_connected(gateway, process)
            yield gateway


@contextmanager
def _running(gateway: Gateway) -> Iterator[subprocess.Popen[bytes]]:
    search_path = os.pathsep.join(filter(None, [str(FOLDER.parent.parent), os.environ.get("PYTHONPATH")]))
    # Caddy stores files in its home.
    environment = {**os.environ, "PYTHONPATH": search_path, "HOME": str(gateway.folder)}
    environment = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    with gateway.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__, *gateway.command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Ctrl-C is for us: we end it when we have put our things in order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=SECONDS_TO_STOP)  # closes its standard input, and waits for its end
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_connected(gateway: Gateway, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + SECONDS_TO_START
    while process.poll() is None and monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), 1):
            return
        sleep(0.02)
    raise GatewayError(f"{gateway.command[0]} did not start.\n{gateway.log.read_text(errors='replace')}")


def main(command: list[str]) -> int:
    """Run a command until it ends or standard input does, and return its status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603

    def end_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)
        process.terminate()

    threading.Thread(target=end_with_parent, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
