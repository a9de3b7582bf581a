"""`keys_ship`, as far as people and monitoring see it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from keys.audit.entries import encode
from keys.audit.stream import GROUP
from tests.support.commands import Run, run
from tests.support.failovers import redis_pair
from tests.support.log import AT, ticketed
from tests.support.processes import eventually
from tests.support.redis_servers import RedisServer, redis_server

pytestmark = pytest.mark.django_db

on_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."
)


@pytest.fixture
def server(settings: Settings) -> Iterator[RedisServer]:
    with redis_server("--appendonly", "yes") as server:
        settings.KEYS = {"AUDIT_SINK": server.address}
        yield server


def status() -> tuple[int, dict[str, Any]]:
    ended = run("keys_ship", "--status", "--json")
    assert ended.err == ""
    return ended.status, json.loads(ended.out)


class TestStatus:
    def test_of_a_stream_that_nobody_has_written(self, server: RedisServer) -> None:
        assert status() == (0, {
            "waiting": 0, "limit": 1_000_000, "pending": 0, "oldest_seconds": 0, "set_aside": 0, "role": "primary",
            "fsync": "everysec", "eviction": "noeviction", "consumers": [], "problems": [],
        })  # fmt: skip

    def test_of_one_that_is_behind(self, server: RedisServer) -> None:
        seconds, _ = server.client.time()
        for minute in range(3, 0, -1):
            server.client.xadd("log", {"row": "{}"}, id=f"{(seconds - 60 * minute) * 1000}-0")
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "ship-1", {"log": ">"}, count=2)
        code, told = status()
        assert (code, told["waiting"], told["pending"], told["problems"]) == (0, 3, 2, [])
        assert 180 <= told["oldest_seconds"] < 240
        (consumer,) = told["consumers"]
        assert (consumer["name"], consumer["pending"]) == ("ship-1", 2)
        assert 0 <= consumer["idle_seconds"] < 60

        out = run("keys_ship", "--status").out.splitlines()
        assert out[0] == "waiting:          3 of at most 1000000"
        assert out[-1].split()[:2] == ["ship-1", "2"]

    def test_complains_of_what_has_waited_for_long(self, server: RedisServer) -> None:
        seconds, _ = server.client.time()

        def entries(minutes: float) -> None:
            server.client.delete("log")
            for number in range(2):
                server.client.xadd("log", {"row": "{}"}, id=f"{round((seconds - 60 * minutes) * 1000)}-{number + 1}")
            server.client.xgroup_create("log", GROUP, "0")

        entries(0.1)
        assert status()[0] == 0
        entries(0.5)
        code, told = status()
        assert (code, told["problems"]) == (
            1, ["No shipper is at work: the oldest entry has waited for 30s. Run keys_ship."]
        )  # fmt: skip
        # Somebody is at it, and may need a while.
        server.client.xreadgroup(GROUP, "ship-1", {"log": ">"}, count=1)
        assert status()[0] == 0
        entries(7.5)
        server.client.xreadgroup(GROUP, "ship-1", {"log": ">"}, count=1)
        code, told = status()
        assert (code, told["problems"]) == (1, ["The oldest entry has waited for 7m."])

    def test_what_has_waited_is_told_though_ids_are_of_the_future(self, server: RedisServer) -> None:
        server.client.xadd("log", {"row": encode(ticketed(at=AT))}, id="18446744073709551615-1")
        (problem, *_) = status()[1]["problems"]
        assert problem.startswith("No shipper is at work: the oldest entry has waited for ")

    @pytest.mark.django_db
    def test_says_that_redis_does_not_tell_whose_stream_it_is(self, server: RedisServer) -> None:
        server.client.rpush("{log}:log", "no text")
        code, told = status()
        assert code == 1
        assert told["problems"][-1] == "Redis does not tell whose log the stream belongs to: ResponseError."

    def test_complains_of_a_shipper_that_says_nothing(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.stream.append(ticketed(), 10)
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "silent", {"log": ">"})
        monkeypatch.setattr("keys.audit.lag.LONG_WAIT", timedelta(0))
        assert eventually(lambda: status()[1]["consumers"][0]["idle_seconds"] > 0)
        code, told = status()
        assert code == 1
        assert told["problems"] == [
            "The oldest entry has waited for 0s.", "silent has 1 entries, and has said nothing for 0s."
        ]  # fmt: skip

    @pytest.mark.matrix
    def test_says_that_it_speaks_to_a_replica(self, settings: Settings) -> None:
        with redis_pair("--appendonly", "yes") as pair:
            settings.KEYS = {"AUDIT_SINK": pair.replica.address}
            code, told = status()
            assert (code, told["role"]) == (1, "replica")
            assert told["problems"] == ["This Redis is a replica: nothing can be written to it, and it may be behind."]
            assert "role:             replica\n" in run("keys_ship", "--status").out

    def test_fails_where_somebody_has_to_look_at_it(self, server: RedisServer, settings: Settings) -> None:
        def problem() -> str:
            code, told = status()
            assert code == len(told["problems"]) == 1
            return str(told["problems"][0])

        server.stream.append(ticketed(), 10)
        settings.KEYS = {"AUDIT_SINK": server.address, "AUDIT_BACKLOG_LIMIT": 1}
        assert problem() == "The backlog has reached its limit of 1 entries: uses are refused."
        ended = run("keys_ship", "--status")
        assert (ended.status, ended.err) == (1, problem() + "\n")
        settings.KEYS = {"AUDIT_SINK": server.address}

        server.client.xadd(server.stream.set_aside, {"row": "{"})
        assert problem() == "1 entries could not be shipped and are set aside."
        server.client.delete(server.stream.set_aside)

        server.client.config_set("maxmemory-policy", "allkeys-lru")
        assert problem() == "Redis may drop the stream when its memory is full (maxmemory-policy allkeys-lru)."
        server.client.config_set("maxmemory-policy", "volatile-lru")
        assert status()[0] == 0

        server.client.config_set("appendonly", "no")
        assert problem() == "Redis has no append-only file: what waits is lost when it is restarted."

    def test_where_redis_keeps_its_settings_to_itself(self, server: RedisServer) -> None:
        server.client.execute_command("ACL SETUSER default -config -info")
        code, told = status()
        assert (code, told["role"], told["fsync"], told["eviction"]) == (0, None, None, None)
        assert "appendfsync:      unknown\n" in run("keys_ship", "--status").out


@on_postgresql
class TestShipping:
    def test_says_how_many(self, server: RedisServer) -> None:
        for _ in range(3):
            server.stream.append(ticketed(), 10)
        assert run("keys_ship", "--once").err == "Shipped 3 entries.\n"
        assert run("keys_ship", "--once", "-v", "0").err == ""

    def test_fails_where_something_was_set_aside(self, server: RedisServer) -> None:
        server.client.xadd("log", {"row": "{"})
        ended = run("keys_ship", "--once")
        assert (ended.status, ended.err) == (
            1, "Shipped 0 entries.\n1 entries could not be shipped and are set aside."
        )  # fmt: skip
        assert run("keys_ship", "--once").status == 0
        ended = run("keys_ship", "--once", "--retry")
        assert ended.status == 1
        assert ended.err.startswith("Trying again 1 entries that were set aside.\n")


class TestMistakes:
    def test_without_a_stream(self, settings: Settings) -> None:
        settings.KEYS = {}
        ended = run("keys_ship")
        assert (ended.status, ended.err) == (
            1, 'The audit log goes straight into the database: KEYS["AUDIT_SINK"] names no stream.'
        )  # fmt: skip

    @pytest.mark.parametrize("address", ["nonsense", "redis://:s3cret@localhost/0?nonsense=1", None])
    def test_with_an_address_that_is_none(self, settings: Settings, address: Any) -> None:
        settings.KEYS = {"AUDIT_SINK": address}
        ended = run("keys_ship", "--status")
        assert (ended.status, ended.err) == (1, 'KEYS["AUDIT_SINK"] is not the address of a Redis stream.')

    @pytest.mark.parametrize(
        ("address", "sentence"),
        [
            ("redis+sentinel://:s3cret@localhost", "An address of Redis Sentinel names the service: redis+sentinel://"
             "host:26379/service."),
            ("redis+cluster://:s3cret@localhost/1", "A Redis in cluster mode has no database but 0: write none."),
            ("unix+sentinel://:s3cret@localhost/service", None),
        ],
    )  # fmt: skip
    def test_with_an_address_that_leads_nowhere(self, settings: Settings, address: str, sentence: str | None) -> None:
        settings.KEYS = {"AUDIT_SINK": address}
        ended = run("keys_ship", "--once")
        expected = f": {sentence}" if sentence else " is not the address of a Redis stream."
        assert (ended.status, ended.err) == (1, f'KEYS["AUDIT_SINK"]{expected}')

    def test_without_a_primary(self, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis+sentinel://:s3cret@127.0.0.1:1/service?sentinel_password=s3cret"}
        sentence = "Redis answered: MasterNotFoundError: No sentinel names a primary of the service."
        assert run("keys_ship", "--status") == Run(1, "", sentence)

    @pytest.mark.parametrize("arguments", [["--status"], ["--once"]])
    @on_postgresql
    def test_without_redis(self, settings: Settings, arguments: list[str]) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis://:s3cret@127.0.0.1:1/0"}
        ended = run("keys_ship", *arguments)
        assert ended.status == 1
        assert ended.err.startswith("Redis answered: ConnectionError: ")
        assert "s3cret" not in ended.err

    @pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL is what it wants.")
    def test_with_another_database(self, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis://127.0.0.1:1/0"}
        ended = run("keys_ship", "--once")
        assert (ended.status, ended.err) == (
            1, "The audit log is shipped into PostgreSQL, and the database is another one."
        )  # fmt: skip

    @pytest.mark.parametrize(
        "arguments", [["--batch-size", "0"], ["--batch-size", "10001"], ["--claim-after", "soon"], ["--json"]]
    )
    def test_options(self, settings: Settings, arguments: list[str]) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis://127.0.0.1:1/0"}
        ended = run("keys_ship", *arguments)
        assert ended.status == 1
        assert "Redis" not in ended.err
