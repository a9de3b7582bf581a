"""A service that knows two keys, sessions that call it, and those who ask it about keys."""

from collections.abc import Callable, Iterator

import pytest

from keys.calling.introspection import PATH
from keys.client import APIKeySession
from tests.support.asking import YES, Ask, by_async_httpx, by_httpx, by_requests
from tests.support.recording_service import KEY, NEW, OLD, RecordingService


@pytest.fixture
def service() -> Iterator[RecordingService]:
    """A service after the rotation: of the old and the new key it knows the new one alone."""
    with RecordingService(KEY, NEW) as service:
        yield service


@pytest.fixture
def session(service: RecordingService) -> Iterator[APIKeySession]:
    with APIKeySession(service.url, KEY) as session:
        yield session


@pytest.fixture
def rotating(service: RecordingService) -> Iterator[APIKeySession]:
    """A session that begins with the old key, and knows the new one."""
    with APIKeySession(service.url, OLD, next_key=NEW) as session:
        yield session


@pytest.fixture(params=[by_requests, by_httpx, by_async_httpx])
def caller(request: pytest.FixtureRequest) -> Callable[..., Ask]:
    """Makes what asks a service, with a key of its own."""
    made: Callable[..., Ask] = request.param
    return made


@pytest.fixture
def ask(service: RecordingService, caller: Callable[..., Ask]) -> Ask:
    """Asks a service that calls every key active."""
    service.answers[PATH] = [YES]
    return caller(service.url)
