"""A Redis in cluster mode: the stream, what is set aside and whose it is are in one slot."""

from collections.abc import Iterator

import pytest
from django.db import connection
from pytest_django import Settings
from redis.crc import key_slot

from keys.audit.floods import floods
from keys.audit.shipping import Shipped, retry
from keys.audit.stream import Stream
from keys.models import APIKey, AuditEvent
from tests.cluster.processes import free_port
from tests.support.callers import UNKNOWN, get
from tests.support.log import errors
from tests.support.processes import eventually
from tests.support.redis_servers import RedisServer, redis_server, ship

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="Streams are shipped into PostgreSQL.")


@pytest.mark.parametrize("name", ["keys:audit", "log", "a{b", "{log}", "app:{log}:audit", "{a}{b}", "{a}}"])
def test_all_keys_are_in_one_slot(name: str) -> None:
    stream = Stream(f"redis://localhost/0?stream={name}")
    assert len({key_slot(key.encode()) for key in (name, stream.set_aside, stream.owner_key)}) == 1
    assert len({name, stream.set_aside, stream.owner_key}) == 3


@pytest.mark.parametrize("name", ["a}b", "{}log", "{}{log", "a{}b", "{}{log}"])
def test_a_name_that_shares_its_slot_with_no_other_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no hash tag"):
        Stream(f"redis://localhost/0?stream={name}")


@pytest.fixture(scope="module")
def node() -> Iterator[RedisServer]:
    """A cluster of one node."""
    ports = "--port", str(free_port()), "--cluster-port", str(free_port())
    with redis_server("--cluster-enabled", "yes", *ports) as server:
        server.client.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        assert eventually(lambda: server.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield server


@pytest.mark.django_db
@on_postgresql
@pytest.mark.parametrize("name", ["log", "app:{audit}"])
def test_a_cluster_takes_everything(
    node: RedisServer, settings: Settings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    node.client.flushall()
    floods.forget()
    address = node.address.replace("=log", f"={name}")
    settings.KEYS = {"AUDIT_SINK": address}
    stream = Stream(address)
    key = APIKey.objects.create(name="TTS")
    assert get("/guarded/", key).status_code == 200
    for _ in range(40):
        assert get("/guarded/", UNKNOWN).status_code == 401
    node.client.xadd(name, {"row": "{"})
    assert eventually(lambda: ship(stream).shipped is not None and sum(counts()) == 40)
    assert node.client.xlen(stream.set_aside) == 1
    assert [message.partition(" cannot ")[2] for message in errors(caplog)] == [
        f"be written and is kept in {stream.set_aside}: It is not JSON."
    ]
    assert retry(stream) == 1
    assert ship(stream).shipped == Shipped(set_aside=1)
    assert node.client.xlen(name) == 0


def counts() -> list[int]:
    return list(AuditEvent.objects.filter(event="refused").values_list("count", flat=True))


@pytest.mark.django_db
@on_postgresql
def test_what_was_not_set_aside_is_not_said_to_be(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    own_server.client.xadd("log", {"row": "{"})
    # What Redis refuses for a reason of its own: a key of another type is in the place.
    own_server.client.set(own_server.stream.set_aside, "x")
    with pytest.raises(Exception, match="WRONGTYPE"):
        ship(own_server.stream)
    assert errors(caplog) == []
    assert len(own_server.entries) == 1
    own_server.client.delete(own_server.stream.set_aside)
    assert ship(own_server.stream).shipped == Shipped(set_aside=1)
    assert len(errors(caplog)) == 1
