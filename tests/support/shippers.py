"""A stream and its shipper, for tests with working and with unavailable servers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keys.audit.shipping import Shipper
from keys.audit.stream import Stream
from tests.support.redis_servers import RedisServer

AT = datetime(2026, 3, 1, tzinfo=UTC)
NOW = timedelta(0)


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.client.flushall()
    return running


@pytest.fixture
def stream(server: RedisServer) -> Stream:
    return server.stream


def ship(stream: Stream, **options: Any) -> Shipper:
    shipper = Shipper(stream, claim_after=NOW, **options)
    shipper.run_once()
    return shipper
