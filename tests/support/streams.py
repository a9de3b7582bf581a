"""Requests whose rows go through a Redis stream, which works or is unavailable."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from keys.audit.floods import floods
from keys.models import APIKey
from tests.support.redis_servers import RedisServer, redis_server

UNKNOWN = "0" * 40
UNAVAILABLE = {"detail": "API keys cannot be checked right now."}


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def server(running: RedisServer, settings: Settings) -> RedisServer:
    running.client.flushall()
    floods.forget()
    settings.KEYS = {"AUDIT_SINK": running.address}
    return running


@pytest.fixture
def own_server(settings: Settings) -> Iterator[RedisServer]:
    """Return a Redis server that the test may stop."""
    floods.forget()
    with redis_server() as server:
        settings.KEYS = {"AUDIT_SINK": server.address}
        yield server


@pytest.fixture
def key() -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"])


def get(path: str, key: APIKey | str, **headers: str) -> Any:
    token = key if isinstance(key, str) else key.key
    return Client(raise_request_exception=False, headers={"X-API-Key": token, **headers}).get(path)
