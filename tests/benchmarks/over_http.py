"""Requests per second over HTTP: gunicorn with one gthread worker of eight threads, and wrk beside it."""

import contextlib
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import tracing, worker
from tests.benchmarks.databases import databases
from tests.benchmarks.guards import FLOOR, OURS, Guard, Headers
from tests.benchmarks.processes import Service, environment

CONNECTIONS = 8
KEYS = 10_000
WARM_UP_SECONDS = 1
COUNTED_REQUESTS = 200
START_TIMEOUT = 20.0


@dataclass
class Site:
    """One guarded service and what wrk said of it."""

    guard: Guard
    url: str
    headers: Headers
    runs: list[dict[str, float]] = field(default_factory=list)

    def audit_rows(self) -> int:
        """Count the rows in the guard's audit log."""
        with Service(self.guard.name, self.url) as service:
            return service.call(tracing.audit_log)[0]


def measure(
    engine: str, server_url: str, guards: Sequence[Guard], rounds: int, seconds: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return requests per second and latencies per guard, the guards taking turns; needs wrk on the path."""
    with databases(engine, server_url) as create:
        sites = []
        for number, guard in enumerate(guards):
            url = create(f"http_{number}")
            with Service(guard.name, url) as service:
                presentations = service.call(worker.build, 0 if guard is FLOOR else KEYS)
            sites.append(Site(guard, url, presentations[0]))
        for number in range(rounds):
            for site in random.sample(sites, len(sites)):
                progress(f"{engine}: HTTP round {number + 1} of {rounds}, {site.guard.name}")
                with gunicorn(site) as port:
                    wrk(port, site.headers, WARM_UP_SECONDS)
                    site.runs.append(wrk(port, site.headers, seconds))
        return [_summary(engine, site, _count_check(site) if site.guard is OURS else {}) for site in sites]


def _summary(engine: str, site: Site, counted: dict[str, int]) -> dict[str, Any]:
    rates = [run["answered"] / run["seconds"] for run in site.runs]
    return {
        "engine": engine,
        "guard": site.guard.name,
        "requests_per_second": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "median_ms": statistics.median(run["median_ms"] for run in site.runs),
        "p99_ms": statistics.median(run["p99_ms"] for run in site.runs),
        "not_ok": sum(run["refused"] + run["failed"] for run in site.runs),
        **counted,
    }


@contextlib.contextmanager
def gunicorn(site: Site) -> Iterator[int]:
    """Serve a site on a free port of this machine; ends the server gracefully."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "gthread", "--workers", "1", "--threads", str(CONNECTIONS)]
    command += ["django.core.wsgi:get_wsgi_application()"]
    server = subprocess.Popen(command, env={**os.environ, **environment(site.guard.name, site.url)})
    try:
        _wait_for(port, server)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        # The socket is there before the worker is; an answer of any kind says that both are.
        with contextlib.suppress(OSError, http.client.HTTPException):
            _get(port, {}, 1)
            return
        time.sleep(0.05)
    raise RuntimeError("gunicorn did not start")


def wrk(port: int, headers: Headers, seconds: int) -> dict[str, float]:
    """Send as many requests as can be answered in so many seconds; return wrk's totals."""
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--script", str(Path(__file__).with_name("wrk.lua"))]
    command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    command += [f"http://127.0.0.1:{port}{worker.PATH}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    totals: dict[str, float] = json.loads(output.splitlines()[-1])
    return totals


def _count_check(site: Site) -> dict[str, int]:
    """Count answers against audit rows with a client that waits for each answer, which wrk at its end does not."""
    before = site.audit_rows()
    with gunicorn(site) as port, ThreadPoolExecutor(CONNECTIONS) as pool:
        answered = sum(pool.map(lambda _: _get(port, site.headers, COUNTED_REQUESTS), range(CONNECTIONS)))
    return {"answered": answered, "audit_rows": site.audit_rows() - before}


def _get(port: int, headers: Headers, requests: int) -> int:
    answered = 0
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(requests):
            connection.request("GET", worker.PATH, headers=headers)
            response = connection.getresponse()
            response.read()
            answered += response.status == http.HTTPStatus.OK
    return answered
