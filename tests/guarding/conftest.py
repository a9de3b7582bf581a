"""A key, a client that presents it, and both ways to run a view."""

import pytest
from django.db import connection
from django.test import Client

from keys.models import APIKey


@pytest.fixture
def key(db: None) -> APIKey:
    return APIKey.objects.create(name="TTS", scopes=["users:read"])


@pytest.fixture
def caller(key: APIKey) -> Client:
    """A client that presents the key and gets 500s as answers."""
    return Client(raise_request_exception=False, headers={"X-API-Key": key.key})


@pytest.fixture(params=[True, False], ids=["atomic requests", "autocommit"])
def atomic_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return bool(request.param)
