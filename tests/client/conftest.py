"""A service that knows two keys, and sessions that call it."""

from collections.abc import Iterator

import pytest

from keys.client import APIKeySession
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
