"""A pool of psycopg's, smaller than the threads."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

VENDORS = {"postgresql"}
PACKAGES = ("psycopg_pool",)
THREADS, REQUESTS = 8, 60
ROOT_URLCONF = "tests.worlds.urls_streams"
DATABASES["default"]["CONN_MAX_AGE"] = 0
DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {"min_size": 1, "max_size": 2, "timeout": 5}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    def no_request_waits_for_a_lock_with_a_connection_in_its_hand() -> None:
        from keys.models import APIKey, AuditEvent
        from tests.worlds.connections import in_threads, request

        AuditEvent.objects.all().delete()
        good = str(APIKey.objects.create(name="good", scopes=["orders:read"]).key)
        # With a look-up, and so a connection, before the row; without one; and with an outcome after it.
        presented = [("0" * 40, 401), ("é", 401), (good, 200)]

        def ask(number: int) -> None:
            for n in range(REQUESTS):
                request(*presented[(number + n) % len(presented)])

        in_threads(THREADS, ask)
        rows = AuditEvent.objects.values_list("event", "reason", "status", "count")
        each = THREADS * REQUESTS // len(presented)
        assert sum(count for event, *_, count in rows if event == "used") == each
        for reason in ("unknown", "malformed"):
            assert sum(count for _, of, _, count in rows if of == reason) == each, reason
            assert sum(1 for _, of, _, _ in rows if of == reason) <= 2 * 6, reason  # a minute may have turned
        assert not AuditEvent.objects.died().exists()

    yield "no_request_waits_for_a_lock_with_a_connection", no_request_waits_for_a_lock_with_a_connection_in_its_hand

    def a_stream_that_breaks_keeps_no_connection() -> None:
        from django.core.handlers.asgi import ASGIHandler
        from django.db import close_old_connections

        from keys.models import APIKey, AuditEvent
        from tests.worlds.connections import request

        good = str(APIKey.objects.create(name="streams", scopes=["orders:read"]).key)
        close_old_connections()
        for path in ("/streaming/", "/streaming-async/"):
            for _ in range(3):
                with pytest.raises(RuntimeError, match="the stream broke"):
                    asyncio.run(get(ASGIHandler(), path, b"break=1", good))
        request(good)
        assert AuditEvent.objects.filter(key_name="streams", status=500).count() == 6

    yield "a_stream_that_breaks_keeps_no_connection", a_stream_that_breaks_keeps_no_connection


async def get(application: Any, path: str, query: bytes, key: str) -> None:
    """Send a request as an ASGI server does, whose client stays."""
    headers = [(b"host", b"testserver"), (b"x-api-key", key.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": headers}
    received = asyncio.Queue[dict[str, Any]]()
    received.put_nowait({"type": "http.request"})

    async def send(message: Any) -> None:
        pass

    await application(scope, received.get, send)
