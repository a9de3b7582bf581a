"""Shipping resumes when a server is back, and handles entries left by dead shippers and by people."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.db import connection

from keys.audit.lag import measure
from keys.audit.servers import StreamError
from keys.audit.shipping import Shipper
from keys.audit.stream import GROUP, Stream
from keys.models import AuditEvent
from tests.support.log import errors, ticketed
from tests.support.processes import eventually
from tests.support.redis_servers import RedisServer, redis_server, ship

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."),
]


def written() -> list[dict[str, Any]]:
    return list(AuditEvent.objects.order_by("id").values())


@pytest.mark.django_db(transaction=True)
class TestServersThatAreAway:
    @pytest.fixture
    def running_shipper(self, stream: Stream) -> Iterator[threading.Thread]:
        stop = threading.Event()

        def run() -> None:
            Shipper(stream, must_stop=stop.is_set).run()
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        yield thread
        stop.set()
        thread.join(30)
        assert not thread.is_alive()

    def test_without_its_table_nothing_is_set_aside(
        self, server: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture, running_shipper: threading.Thread
    ) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {AuditEvent._meta.db_table} RENAME TO away")
            try:
                stream.append(ticketed(), 1000)
                assert eventually(lambda: bool(errors(caplog)))
            finally:
                cursor.execute(f"ALTER TABLE away RENAME TO {AuditEvent._meta.db_table}")
        assert eventually(lambda: len(written()) == 1)
        assert eventually(lambda: server.entries == [])
        assert eventually(lambda: "The audit log is shipped again." in caplog.messages)
        assert server.client.xlen(server.stream.set_aside) == 0

    def test_a_database_connection_that_is_cut(
        self, server: RedisServer, stream: Stream, running_shipper: threading.Thread
    ) -> None:
        for n in range(3):
            stream.append(ticketed(), 1000)
            assert eventually(lambda: server.entries == [])
            assert len(written()) == n + 1
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid != pg_backend_pid()"
                )
                assert cursor.fetchall()

    def test_a_redis_that_is_restarted(self, caplog: pytest.LogCaptureFixture) -> None:
        with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
            stop = threading.Event()

            def run() -> None:
                Shipper(server.stream, must_stop=stop.is_set).run()
                connection.close()

            thread = threading.Thread(target=run)
            thread.start()
            server.stream.append(ticketed(), 1000)
            assert eventually(lambda: len(written()) == 1)
            server.kill()
            assert eventually(lambda: bool(errors(caplog)))
            assert errors(caplog)[0].startswith("The audit log is not shipped: Redis says ConnectionError: ")
            server.start()
            server.stream.append(ticketed(), 1000)
            assert eventually(lambda: len(written()) == 2)
            stop.set()
            thread.join(30)


class TestOthers:
    """What is left by shippers that are gone, and by people."""

    def test_a_redis_that_is_full_is_emptied(self) -> None:
        with redis_server() as server:
            server.stream.append(ticketed(), 1000)
            ship(server.stream)
            server.stream.append(ticketed(), 1000)
            server.client.xadd("log", {"row": "{"})
            server.stream.append(ticketed(), 1000)
            server.client.config_set("maxmemory", 1)
            with pytest.raises(StreamError):
                server.stream.append(ticketed(), 1000)
            assert measure(server.stream).waiting == 3
            # What cannot be written stays until there is room beside the stream for it.
            with pytest.raises(redis.RedisError, match="maxmemory"):
                ship(server.stream)
            assert (len(written()), len(server.entries)) == (3, 1)
            server.client.config_set("maxmemory", 0)
            ship(server.stream)
            assert server.entries == []

    def test_what_is_in_nobody_s_hands_is_shipped_too(self, server: RedisServer, stream: Stream) -> None:
        for _ in range(5):
            stream.append(ticketed(), 1000)
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "gone", {"log": ">"}, count=3)
        server.client.xgroup_delconsumer("log", GROUP, "gone")
        Shipper(stream).run_once()
        assert len(written()) == 5
        assert server.entries == []

    def test_what_was_acknowledged_and_not_deleted(self, server: RedisServer, stream: Stream) -> None:
        stream.append(ticketed(), 1000)
        ((entry, fields),) = server.entries
        ship(stream)
        server.client.flushall()
        server.client.xadd("log", fields, id=entry)
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "dead", {"log": ">"})
        server.client.xack("log", GROUP, entry)
        ship(stream)
        assert (len(written()), server.entries) == (1, [])

    def test_a_group_that_was_destroyed(self, server: RedisServer, stream: Stream) -> None:
        shipper = ship(stream)
        stream.append(ticketed(), 1000)
        server.client.xgroup_destroy("log", GROUP)
        with pytest.raises(redis.ResponseError, match="NOGROUP"):
            shipper.run_once()
        ship(stream)
        assert len(written()) == 1

    def test_what_another_left_is_taken_over(self, server: RedisServer, stream: Stream) -> None:
        for _ in range(5):
            stream.append(ticketed(), 1000)
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "dead", {"log": ">"}, count=3)
        # Not at once: it may be alive.
        Shipper(stream, claim_after=timedelta(hours=1)).run_once()
        assert len(written()) == 2
        ship(stream)
        assert len(written()) == 5
        assert server.entries == []
