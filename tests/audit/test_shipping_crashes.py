"""Real shippers that are killed, at fixed and at random points: no row is lost, and none is written twice."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from keys.models import APIKey, AuditEvent
from tests.support.commands import Run, finish, manage, start
from tests.support.log import AT, ticketed
from tests.support.processes import eventually
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.servers import GUNICORN, serving, status_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."),
]

USES = 20


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    with redis_server() as server:
        monkeypatch.setenv("AUDIT_SINK", server.address)
        yield server


def append(server: RedisServer, uses: int) -> None:
    """Append uses, all of them before the first of their outcomes."""
    stream, rows = server.stream, [ticketed(at=AT + timedelta(seconds=n), request_id=str(n)) for n in range(uses)]
    for each in rows:
        stream.append(each, 10**6)
    for each in rows:
        stream.append_again([{**each, "status": 200, "duration_ms": 1}])


def written() -> list[tuple[str, int | None]]:
    return list(AuditEvent.objects.order_by("at").values_list("request_id", "status"))


def every(uses: int) -> list[tuple[str, int | None]]:
    return [(str(n), 200) for n in range(uses)]


def pending(server: RedisServer) -> int:
    groups = server.client.xinfo_groups("log")
    return sum(group["pending"] for group in groups)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert finish(process).status == -signal.SIGKILL


def end_other_sessions(but: Any) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)"
    spared = [but.connection.info.backend_pid]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) {others} AND backend_type = 'client backend'", spared)

        def are_gone() -> bool:
            cursor.execute(f"SELECT count(*) {others} AND backend_type = 'client backend'", spared)
            return bool(cursor.fetchone() == (0,))

        assert eventually(are_gone)


def ship_the_rest() -> Run:
    return manage("keys_ship", "--once", "--claim-after", "0")


class TestOneThatWaitsForTheTable:
    """It has taken all the entries, and comes no further until the test lets go of its lock."""

    @pytest.fixture
    def lock(self) -> Iterator[Any]:
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {AuditEvent._meta.db_table} IN SHARE MODE")
        yield other
        other.close()

    @pytest.fixture
    def waiting(self, server: RedisServer, lock: Any) -> Iterator[subprocess.Popen[str]]:
        append(server, USES)
        with start("keys_ship") as shipper:
            assert eventually(lambda: pending(server) == 2 * USES)
            yield shipper
            shipper.kill()

    def test_killed_before_the_commit(self, server: RedisServer, lock: Any, waiting: subprocess.Popen[str]) -> None:
        kill(waiting)
        # What it had sent already PostgreSQL would carry out for nobody.
        end_other_sessions(lock)
        lock.commit()
        assert written() == []
        assert len(server.entries) == 2 * USES
        assert ship_the_rest().status == 0
        assert (written(), server.entries) == (every(USES), [])

    def test_killed_between_the_commit_and_the_acknowledgement(
        self, server: RedisServer, lock: Any, waiting: subprocess.Popen[str]
    ) -> None:
        # From now on Redis answers no write, an acknowledgement being one.
        server.client.client_pause(60_000, all=False)
        lock.commit()
        assert eventually(lambda: written() == every(USES))
        kill(waiting)
        server.client.client_unpause()
        assert (len(server.entries), pending(server)) == (2 * USES, 2 * USES)
        assert ship_the_rest().err == f"Shipped {2 * USES} entries.\n"
        assert (written(), server.entries) == (every(USES), [])

    def test_told_to_stop_it_finishes_its_batch(
        self, server: RedisServer, lock: Any, waiting: subprocess.Popen[str]
    ) -> None:
        waiting.terminate()
        lock.commit()
        run = finish(waiting)
        assert run.status == 0, run.err
        assert run.err.endswith(f"Shipped {2 * USES} entries.\n")
        assert (written(), server.entries, pending(server)) == (every(USES), [], 0)


def test_two_at_once_killed_again_and_again(server: RedisServer) -> None:
    uses = 400
    append(server, uses)
    for progress in (uses // 4, uses // 2):
        # A transaction for each entry, so that there is always one on its way.
        shippers = [start("keys_ship", "--batch-size", "1", "--claim-after", "1s") for _ in range(2)]
        with ExitStack() as stack:
            for shipper in shippers:
                stack.enter_context(shipper)
                stack.callback(shipper.kill)
            assert eventually(lambda progress=progress: AuditEvent.objects.count() >= progress)  # type: ignore[misc]
    assert server.entries
    assert ship_the_rest().status == 0
    assert (written(), server.entries) == (every(uses), [])


def test_a_worker_that_is_killed_in_the_view_leaves_its_row(server: RedisServer) -> None:
    key = APIKey.objects.create(name="TTS")
    with serving(GUNICORN) as gunicorn:
        header = b"X-API-Key: " + str(key.key).encode()
        assert gunicorn.send(header, path=b"/killed/") == b""
        assert status_of(gunicorn.send(header)) == 200
    assert manage("keys_ship", "--once").err == "Shipped 3 entries.\n"
    assert list(AuditEvent.objects.filter(event="used").order_by("at").values_list("status", flat=True)) == [None, 200]
    assert AuditEvent.objects.died().count() == 1
