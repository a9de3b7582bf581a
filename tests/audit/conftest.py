"""A key, and a Redis server whose stream takes the audit log."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from keys.audit.floods import floods
from keys.audit.stream import Stream
from keys.models import APIKey
from tests.support.redis_servers import RedisServer, redis_server


@pytest.fixture
def key(db: None) -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"])


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(running: RedisServer, settings: Settings) -> RedisServer:
    """A server with nothing in it, to which the audit log goes."""
    running.client.flushall()
    floods.forget()
    settings.KEYS = {"AUDIT_SINK": running.address}
    return running


@pytest.fixture
def own_server(settings: Settings) -> Iterator[RedisServer]:
    """A server that may come to harm."""
    floods.forget()
    with redis_server() as server:
        settings.KEYS = {"AUDIT_SINK": server.address}
        yield server


@pytest.fixture
def stream(server: RedisServer) -> Stream:
    return server.stream
