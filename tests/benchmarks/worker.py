"""What runs inside the process of one guarded service; called through `processes.Service`."""

import gc
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from django.core.handlers.wsgi import WSGIHandler

from tests.benchmarks.guards import Case, Headers, configured_guard

PATH = "/api/v1/status/"
_THIRD_BYTES = itertools.count(1)


@dataclass(frozen=True)
class Block:
    """The times of a run of requests in nanoseconds: each request's, and that of the work put off until after them."""

    requests: list[int]
    settling: int


def start(environment: Mapping[str, str]) -> None:
    """Set Django up; the first thing that runs in a process."""
    os.environ.update(environment)
    application()


@cache
def application() -> WSGIHandler:
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def build(keys: int) -> list[Headers]:
    """Make the tables and so many keys; return what a client sends with each of those that are real."""
    from django.core.management import call_command

    from tests.benchmarks.population import fill

    call_command("migrate", run_syncdb=True, verbosity=0)
    return fill(configured_guard(), keys) if keys else [{}]


def build_audit_log(keys: int, rows: int) -> None:
    """Give this app's audit log so many rows beside those it has."""
    from tests.benchmarks.population import fill_audit_log

    fill_audit_log(keys, rows)


def environs(case: Case, requests: int) -> Iterator[dict[str, Any]]:
    """Yield a WSGI environment per request, as gunicorn would make it."""
    for headers in itertools.islice(itertools.cycle(case.presentations), requests):
        number = next(_THIRD_BYTES) if case.new_networks else 0
        yield {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": PATH,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": f"10.{number >> 8 & 255}.{number & 255}.9",
            "HTTP_HOST": "127.0.0.1:8000",
            "HTTP_USER_AGENT": "python-requests/2.32.3",
            "HTTP_ACCEPT": "*/*",
            "HTTP_ACCEPT_ENCODING": "gzip, deflate",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(b""),
            "wsgi.errors": None,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()},
        }


def answer(environ: dict[str, Any]) -> int:
    """Serve one request to its last byte and close it, as a server does; return the status."""
    response = application()(environ, _start_response)
    for _chunk in response:
        pass
    response.close()
    return response.status_code


def _start_response(status: str, headers: list[tuple[str, str]], error: object = None, /) -> Callable[[bytes], None]:
    return lambda chunk: None


def run(case: Case, requests: int, lead_in: int = 0) -> Block:
    """Serve a lead-in that warms the processor's caches, then so many timed requests."""
    gc.collect()
    for environ in environs(case, lead_in):
        check(case, answer(environ))
    configured_guard().settle()
    times: list[int] = []
    for environ in environs(case, requests):
        began = time.perf_counter_ns()
        status = answer(environ)
        times.append(time.perf_counter_ns() - began)
        check(case, status)
    began = time.perf_counter_ns()
    configured_guard().settle()
    return Block(times, time.perf_counter_ns() - began)


def check(case: Case, status: int) -> None:
    """Raise RuntimeError for an answer that is not the expected one: its time would mean nothing."""
    if status != case.status:
        raise RuntimeError(f"{configured_guard().name}, {case.name}: {status} instead of {case.status}")


def serve(case: Case, seconds: float, threads: int) -> Counter[int]:
    """Serve requests at full speed from so many threads; return how often each status came back."""
    from django.db import connections

    deadline = time.monotonic() + seconds

    def share(number: int) -> Counter[int]:
        answers: Counter[int] = Counter()
        while time.monotonic() < deadline:
            answers.update(answer(environ) for environ in environs(case, 1))
        connections.close_all()
        return answers

    with ThreadPoolExecutor(threads) as pool:
        answers = sum(pool.map(share, range(threads)), Counter[int]())
    configured_guard().settle()
    return answers


def come_to_rest() -> None:
    """Exempt what lives for ever from collections, so that one collection costs every guard the same."""
    gc.collect()
    gc.freeze()


def bare_select(requests: int, lead_in: int) -> Block:
    """A round trip to the database through its driver alone."""
    return _bare(requests, lead_in, "SELECT 1")


def bare_commit(requests: int, lead_in: int) -> Block:
    """A row of an audit row's size, inserted and committed through the driver alone."""
    from django.db import connection

    connection.ensure_connection()
    connection.connection.execute("CREATE TABLE IF NOT EXISTS bare (at bigint, note text)")
    return _bare(requests, lead_in, f"INSERT INTO bare VALUES (1, '{'x' * 150}')")


def _bare(requests: int, lead_in: int, statement: str) -> Block:
    from django.db import connection

    connection.ensure_connection()
    times = []
    for _ in range(lead_in + requests):
        began = time.perf_counter_ns()
        connection.connection.execute(statement).close()
        times.append(time.perf_counter_ns() - began)
    return Block(times[lead_in:], 0)
