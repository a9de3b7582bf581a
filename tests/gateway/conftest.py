"""The ways in which a question reaches a door, and a key."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from pytest_django import Settings

from keys import decorators
from keys.models import APIKey
from tests.gateway.asking import Answer, ask, ask_asgi

OURS = "keys.middleware.APIKeyMiddleware"
RECORDED_WAYS = [
    "atomic",
    pytest.param("wsgi", marks=pytest.mark.matrix),
    pytest.param("asgi", marks=pytest.mark.matrix),
]
WAYS = [*RECORDED_WAYS, pytest.param("without the middleware", marks=pytest.mark.matrix)]


@pytest.fixture
def key(db: None) -> APIKey:
    return APIKey.objects.create(name="Billing", scopes=["orders:*"])


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """A function that asks."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param == "atomic")
    if request.param == "without the middleware":
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]
    return ask_asgi if request.param == "asgi" else ask


@pytest.fixture(params=RECORDED_WAYS)
def recorded_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """A function that asks where the middleware adds the outcome."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param == "atomic")
    return ask_asgi if request.param == "asgi" else ask


@pytest.fixture
def behind_proxy(settings: Settings) -> None:
    settings.KEYS = {**settings.KEYS, "TRUSTED_PROXIES": 1}


@pytest.fixture(autouse=True)
def kept_connection() -> Iterator[None]:
    """No request closes the connection of the test, as Django's own client does it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(autouse=True)
def empty_cache(settings: Settings) -> None:
    memory = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": memory, "LOCATION": uuid4().hex}}


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been said of a proxy's configuration yet."""
    told: Any = set()
    monkeypatch.setattr(decorators, "_told", told)
