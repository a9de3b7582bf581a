"""After a failover of Redis, web servers and shippers are at work again without a restart.

The old primary keeps its connections, and answers READONLY on them.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from pytest_django import Settings

from keys.audit.floods import floods
from keys.audit.servers import StreamError
from keys.audit.shipping import Shipper
from keys.audit.stream import Stream
from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent
from tests.support.callers import UNAVAILABLE, UNKNOWN, get
from tests.support.commands import run, serve
from tests.support.failovers import (
    SECRET,
    SENTINELS_SECRET,
    Pair,
    RedisCluster,
    Sentinels,
    port_of,
    redis_cluster,
    redis_pair,
    sentinels,
)
from tests.support.log import errors, ticketed
from tests.support.processes import eventually
from tests.support.redis_servers import redis_server

pytestmark = [pytest.mark.matrix, pytest.mark.django_db]

on_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."
)


@pytest.fixture
def pair(settings: Settings) -> Iterator[Pair]:
    floods.forget()
    with redis_pair() as pair:
        settings.KEYS = {"AUDIT_SINK": pair.address}
        yield pair


def appends(stream: Stream) -> bool:
    try:
        stream.append(ticketed(), 1000)
    except StreamError:
        return False
    return True


class TestKeptConnections:
    def test_the_next_request_is_served(self, pair: Pair, key: APIKey, caplog: pytest.LogCaptureFixture) -> None:
        assert get("/guarded/", key).status_code == 200
        for _ in range(2):
            pair.fail_over()
            assert get("/guarded/", key).status_code == 200
            assert get("/guarded/", UNKNOWN).status_code == 401
        assert len(pair.primary.entries) == 8
        assert errors(caplog) == []

    def test_all_of_them_are_dropped_at_once(self, pair: Pair) -> None:
        stream = pair.stream
        with ExitStack() as end:
            for _ in range(5):
                end.enter_context(stream.client.client()).ping()
        assert len(pair.primary.client.client_list(_type="normal")) == 6  # and that of the test
        pair.fail_over()
        assert appends(stream)
        assert len(pair.replica.client.client_list(_type="normal")) == 1  # that of the test

    def test_while_the_address_leads_to_a_replica(self, pair: Pair, key: APIKey) -> None:
        get("/guarded/", key)
        pair.demote()
        for token in (key, UNKNOWN):
            response = get("/guarded/", token)
            assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        pair.lead_to(pair.primary)
        assert get("/guarded/", key).status_code == 200

    def test_an_outcome_is_not_lost(self, pair: Pair, key: APIKey, settings: Settings) -> None:
        @api_key_required()
        def view(request: HttpRequest) -> HttpResponse:
            pair.fail_over()
            return HttpResponse()

        serve(settings, view)
        assert get("/0/", key).status_code == 200
        assert [each["status"] for each in pair.primary.rows] == [None, 200]

    def test_several_entries_in_a_transaction(self, pair: Pair) -> None:
        stream = pair.stream
        stream.append_again([ticketed(), ticketed()])
        pair.fail_over()
        stream.append_again([ticketed(), ticketed()])
        assert len(pair.primary.entries) == 4

    def test_of_a_server_that_is_cut_off_from_its_replicas(self, pair: Pair, key: APIKey) -> None:
        get("/guarded/", key)
        # It takes itself for the primary still, and does not write without a replica.
        pair.primary.client.config_set("min-replicas-to-write", 1)
        pair.replica.client.replicaof("NO", "ONE")
        pair.lead_to(pair.replica)
        assert eventually(lambda: get("/guarded/", key).status_code == 503)
        assert get("/guarded/", key).status_code == 200

    @pytest.mark.parametrize(
        "answer",
        ["-READONLY You can't write against a read only replica.", "ERR Error running script (call to f_1c3d): "
         "@user_script:2: @user_script: 2: -READONLY You can't write against a read only replica."],
    )  # fmt: skip
    def test_as_other_versions_of_redis_say_it(self, pair: Pair, answer: str) -> None:
        stream, attempts = pair.stream, iter((answer, ""))

        def append() -> int:
            if answer := next(attempts):
                stream.client.eval("return redis.error_reply(ARGV[1])", 0, answer)
            return int(stream.client.config_get("port")["port"])

        stream.length()
        pair.fail_over()
        assert stream.servers.run(append) == port_of(pair.primary)

    @on_postgresql
    @pytest.mark.django_db(transaction=True)
    def test_a_shipper_goes_on(self, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
        with shipping(pair.stream):
            for number in range(1, 4):
                assert appends(pair.stream)
                assert eventually(lambda number=number: AuditEvent.objects.count() == number)  # type: ignore[misc]
                pair.fail_over()
            assert eventually(lambda: pair.primary.entries == [])
        assert len(errors(caplog)) <= 3
        assert {message[:60] for message in errors(caplog)} == {
            "The audit log is not shipped: Redis says ReadOnlyError: You "
        }
        assert caplog.messages.count("The audit log is shipped again.") == len(errors(caplog))


@contextmanager
def shipping(stream: Stream) -> Iterator[None]:
    """Run a shipper during the block."""
    stop = threading.Event()

    def ship() -> None:
        Shipper(stream, must_stop=stop.is_set).run()
        connection.close()

    thread = threading.Thread(target=ship)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


class TestOneServer:
    """What a server says that is the same before and after."""

    def test_that_still_loads_its_data(self, key: APIKey, settings: Settings) -> None:
        options = ("--dbfilename", "dump", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no")
        with redis_server(*options) as server:
            settings.KEYS = {"AUDIT_SINK": server.address}
            assert get("/guarded/", key).status_code == 200
            for number in range(40):
                server.client.set(number, "x" * 2000)
            server.client.save()
            server.kill()
            with server.slowly("--key-load-delay", "50000"):
                assert eventually(lambda: server.says() == "LOADING")
                assert get("/guarded/", key).status_code == 503
                assert eventually(lambda: get("/guarded/", key).status_code == 200)

    def test_that_cannot_write_to_its_disk(self, key: APIKey, settings: Settings, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        with redis_server("--dir", str(folder)) as server:
            settings.KEYS = {"AUDIT_SINK": server.address}
            assert get("/guarded/", key).status_code == 200
            server.client.config_set("save", "3600 1000")
            folder.rmdir()
            server.client.bgsave()
            assert eventually(lambda: get("/guarded/", key).status_code == 503)
            # It says so of the server, and another connection would not help.
            assert len(server.client.client_list(_type="normal")) == 2
            server.client.config_set("stop-writes-on-bgsave-error", "no")
            assert get("/guarded/", key).status_code == 200

    def test_that_asks_for_its_password_once_more(self, key: APIKey, settings: Settings) -> None:
        with redis_server() as server:
            settings.KEYS = {"AUDIT_SINK": server.address.replace("unix://", "unix://:s3cret@")}
            server.client.execute_command("ACL SETUSER default on >s3cret")
            assert get("/guarded/", key).status_code == 200
            server.kill()
            server.start()
            server.client.execute_command("ACL SETUSER default on >another")
            assert get("/guarded/", key).status_code == 503
            server.client.execute_command("ACL SETUSER default on >s3cret")
            assert get("/guarded/", key).status_code == 200


class TestReplicas:
    """With `&replicas=1` a use is in a replica before its view runs."""

    @pytest.fixture
    def address(self, pair: Pair, settings: Settings) -> str:
        address = f"{pair.address}&replicas=1"
        settings.KEYS = {"AUDIT_SINK": address}
        return address

    def test_a_use_is_in_the_replica(self, pair: Pair, address: str, key: APIKey, settings: Settings) -> None:
        seen: list[Any] = []

        @api_key_required()
        def view(request: HttpRequest) -> HttpResponse:
            seen.extend(pair.replica.rows)
            return HttpResponse()

        serve(settings, view)
        assert get("/0/", key).status_code == 200
        assert [each["status"] for each in seen] == [None]

    def test_without_one_no_view_runs(self, pair: Pair, address: str, key: APIKey) -> None:
        pair.replica.kill()
        assert get("/guarded/", key).status_code == 503
        # Nobody knows whether it got there: the row stands, without an outcome.
        assert [each["status"] for each in pair.primary.rows] == [None]
        pair.replica.start()
        assert eventually(lambda: get("/guarded/", key).status_code == 200)

    def test_after_a_failover(self, pair: Pair, address: str, key: APIKey) -> None:
        assert get("/guarded/", key).status_code == 200
        pair.fail_over()
        assert eventually(lambda: get("/guarded/", key).status_code == 200)

    def test_a_full_backlog_is_one_still(self, pair: Pair, address: str, key: APIKey, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": address, "AUDIT_BACKLOG_LIMIT": 2}
        assert [get("/guarded/", key).status_code for _ in range(2)] == [200, 503]


@pytest.fixture(scope="module")
def watched() -> Iterator[Sentinels]:
    with sentinels() as watched:
        yield watched


@on_postgresql  # where shippers run; its servers take some seconds
class TestSentinel:
    def test_leads_to_the_primary(self, watched: Sentinels, key: APIKey, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": watched.address}
        stream = Stream(watched.address)
        assert get("/guarded/", key).status_code == 200
        old = watched.primary()
        # In the database that the address names.
        assert stream.length() == 2
        assert old.client.exists("log") == 0

        # In an orderly way; the old one keeps its connections.
        watched.client.execute_command("SENTINEL FAILOVER service")
        assert eventually(lambda: watched.primary() is not old)
        assert eventually(lambda: get("/guarded/", key).status_code == 200)
        assert stream.length() >= 4

        killed = watched.primary()
        assert eventually(lambda: killed.client.info("replication")["connected_slaves"] == 1)
        killed.kill()
        assert get("/guarded/", key).status_code == 503
        assert eventually(lambda: get("/guarded/", key).status_code == 200)
        assert watched.primary() is not killed
        killed.start()

    def test_whose_first_is_away(self, watched: Sentinels) -> None:
        address = watched.address.replace("@", "@127.0.0.1:1,")
        assert appends(Stream(address))

    @pytest.mark.parametrize("wrong", ["/service/", f":{SECRET}", SENTINELS_SECRET])
    def test_with_another_name_or_password(self, watched: Sentinels, settings: Settings, wrong: str) -> None:
        settings.KEYS = {"AUDIT_SINK": watched.address.replace(wrong, wrong.replace("se", "sa").replace("s3", "s4"))}
        assert not appends(Stream(settings.KEYS["AUDIT_SINK"]))
        ended = run("keys_ship", "--status")
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.startswith("Redis answered: ")
        assert "s3cret" not in ended.err
        assert "s4cret" not in ended.err


@pytest.fixture(scope="module")
def nodes() -> Iterator[RedisCluster]:
    with redis_cluster("log") as nodes:
        yield nodes


@on_postgresql
class TestCluster:
    def test_leads_to_the_node_that_has_the_stream(self, nodes: RedisCluster, key: APIKey, settings: Settings) -> None:
        stream = Stream(nodes.address)
        settings.KEYS = {"AUDIT_SINK": nodes.address}
        assert get("/guarded/", key).status_code == 200
        stream.append_again([ticketed(), ticketed()])
        assert stream.length() == 4

        # A node that has other slots knows where to go.
        owner = nodes.owner_of("log")
        assert owner is not None
        other = next(each for each in nodes.nodes if each is not owner)
        assert Stream(f"redis+cluster://127.0.0.1:{port_of(other)}/?stream=log").length() == 4

        # By hand; the old one keeps its connections, and says MOVED.
        replica = nodes.replica_of(owner)
        nodes.promote(replica, "log")
        assert eventually(lambda: get("/guarded/", key).status_code == 200)
        nodes.promote(owner, "log")
        assert eventually(lambda: appends(stream))

        # The only node that the address names is killed, and is the one that had the stream.
        assert eventually(lambda: owner.client.info("replication")["connected_slaves"] == 1)
        owner.kill()
        assert get("/guarded/", key).status_code == 503
        assert eventually(lambda: get("/guarded/", key).status_code == 200)
        assert eventually(lambda: nodes.owner_of("log") is replica)
        owner.start()

    @pytest.mark.django_db(transaction=True)
    def test_is_shipped(self, nodes: RedisCluster) -> None:
        stream = Stream(nodes.address.replace("=log", "=shipped"))
        with shipping(stream):
            for _ in range(5):
                assert eventually(lambda: appends(stream))
            stream.append_again([ticketed(), ticketed()])
            assert eventually(lambda: AuditEvent.objects.count() == 7)
            assert eventually(lambda: stream.length() == 0)

    def test_by_an_address_without_its_form(self, nodes: RedisCluster) -> None:
        owner = nodes.owner_of("log")
        other = next(
            each for each in nodes.nodes
            if each is not owner and each.client.info("replication")["role"] == "master"
        )  # fmt: skip
        with pytest.raises(StreamError):
            other.stream.append(ticketed(), 10)
