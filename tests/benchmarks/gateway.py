"""What the question to the auth service adds to a request through nginx: with it and without it, by turns."""

import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from example_project.gateway.running import FOLDER, gateway_running
from tests.benchmarks.databases import databases
from tests.support.guarded_service import BODY, guarded_service

CONNECTIONS = (1, 8)
BLOCK = 200
FLOOR = "without the question"
QUESTION = "the question alone, asked directly"
BEGINNING_OF_BODY = b"\r\n\r\n"
SECONDS_TO_START = 20


def arms() -> dict[str, str]:
    """Return the example's configuration, and what differs from it."""
    text = (FOLDER / "nginx.conf").read_text()
    unguarded = _changed(text, ("auth_request /_key;", "auth_request off;"), ("$key_opens://orders", "http://orders"))
    no_keepalive = _changed(text, ("        keepalive 16;\n        keepalive_timeout 1s;\n", ""))
    return {FLOOR: unguarded, "with it": text, "with it, a connection for each": no_keepalive}


def _changed(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        if before not in text:
            raise ValueError(f"nginx.conf has no {before!r} any more.")
        text = text.replace(before, after)
    return text


def measure(engine: str, server_url: str, requests: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the medians of each arm at each number of connections; about `requests` are timed for each."""
    with databases(engine, server_url) as create, ExitStack() as stack:
        environment = {"DATABASE_URL": create("gateway"), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
        auth, key = stack.enter_context(_auth_service({**environment, "TRUSTED_PROXIES": "1"}))
        service = stack.enter_context(_guarded_service())
        addresses = {"auth_service": auth, "guarded_service": service}
        ports = {
            arm: stack.enter_context(gateway_running("nginx.conf", text, **addresses)).port
            for arm, text in arms().items()
        }
        ports[QUESTION] = int(auth.rpartition(":")[2])
        turns = [(arm, connections) for arm in ports for connections in CONNECTIONS]
        blocks: dict[tuple[str, int], list[tuple[float, float]]] = {turn: [] for turn in turns}
        for number in range(max(3, requests // BLOCK) + 1):
            progress(f"{engine}: round {number}")
            for arm, connections in random.sample(turns, len(turns)):
                question = arm == QUESTION
                request = _request("/gateway/?scope=orders:read" if question else "/orders/", key)
                block = _block(ports[arm], request, b"" if question else BODY, connections)
                if number:  # the first warms up
                    blocks[arm, connections].append(block)
    return [_summary(engine, turn, blocks) for turn in turns]


def _summary(
    engine: str, turn: tuple[str, int], blocks: dict[tuple[str, int], list[tuple[float, float]]]
) -> dict[str, Any]:
    arm, connections = turn
    median = statistics.median(milliseconds for milliseconds, _ in blocks[turn])
    floor = statistics.median(milliseconds for milliseconds, _ in blocks[FLOOR, connections])
    return {
        "engine": engine,
        "arm": arm,
        "connections": connections,
        "median_ms": median,
        "times": median / floor,
        "more_ms": median - floor,
        "requests_per_second": statistics.median(rate for _, rate in blocks[turn]),
    }


def _request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n".encode()


def _block(port: int, request: bytes, body: bytes, connections: int) -> tuple[float, float]:
    """Send a block over so many connections; return the median in milliseconds, and how many a second."""
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(lambda _: _times(port, request, body, BLOCK // connections), range(connections)))
    seconds = time.perf_counter() - began
    times = [each for part in parts for each in part]
    return statistics.median(times) * 1000, len(times) / seconds


def _times(port: int, request: bytes, body: bytes, requests: int) -> list[float]:
    times = []
    with socket.create_connection(("127.0.0.1", port), SECONDS_TO_START) as client:
        for _ in range(requests):
            began = time.perf_counter()
            client.sendall(request)
            answer = b""
            while not answer.endswith(BEGINNING_OF_BODY + body):
                part = client.recv(65_536)
                if not part:
                    raise RuntimeError(f"The answer was {answer!r}")
                answer += part
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"The answer was {answer!r}")
            times.append(time.perf_counter() - began)
    return times


@contextmanager
def _auth_service(environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Serve the example; yields its address, and a key."""
    variables = {**os.environ, **environment}
    manage = [sys.executable, "-m", "django"]
    subprocess.run([*manage, "migrate", "-v", "0"], env=variables, check=True)
    made = [*manage, "keys_create", "Billing", "--scope", "orders:read"]
    key = subprocess.run(made, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "--bind", f"fd://{listener.fileno()}"]
        command += ["--threads", "8", "--no-control-socket", "example_project.wsgi:application"]
        # A line on standard error for each use is the example's, and no part of the price.
        server = subprocess.Popen(command, env=variables, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", key
        finally:
            server.terminate()
            server.wait()


@contextmanager
def _guarded_service() -> Iterator[str]:
    """Run the guarded service in a process of its own; yields its address."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,))
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join()


def _serve(parent: Connection) -> None:
    with guarded_service() as service, suppress(EOFError):
        parent.send(service.address)
        parent.recv()  # until the other end is closed
