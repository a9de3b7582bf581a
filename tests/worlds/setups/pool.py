"""A pool of psycopg's, smaller than the threads."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES as DATABASES

VENDORS = {"postgresql"}
PACKAGES = ("psycopg_pool",)
THREADS, REQUESTS = 8, 60
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
