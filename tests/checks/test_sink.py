"""System checks of where the audit log goes."""

import sys
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from tests.support.commands import found

HERE = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    "address",
    ["Database", "", "redis", "http://localhost", "redis://localhost:port/0", f"{HERE}?stream=", f"{HERE}?strem=log",
     f"{HERE}?socket_timeout=soon", "redis://:s3cret@localhost/0?nonsense=1", None, 1, b"database", ["database"]],
)  # fmt: skip
def test_a_sink_that_is_none(settings: Settings, address: Any) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    (message,) = found("keys.E017")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "address",
    ["database", HERE, f"{HERE}?stream=log", "rediss://user:s3cret@redis.example/1?socket_timeout=0.5&stream=keys:audit",
     "unix:///run/redis.sock?db=1", "redis://"],
)  # fmt: skip
def test_a_sink_that_is_one(settings: Settings, address: str) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    assert not found("keys.E017")


def test_a_stream_needs_the_package_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.KEYS = {"AUDIT_SINK": HERE}
    assert not found("keys.E018")
    # How Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "redis", None)
    (message,) = found("keys.E018")
    assert "django-service-keys[redis]" in message
    assert not found("keys.E017")

    settings.KEYS = {}
    assert not found("keys.E018")


@pytest.mark.parametrize("limit", [0, -1, True, "1000", 1.5, None])
def test_the_backlog_has_a_limit(settings: Settings, limit: Any) -> None:
    settings.KEYS = {"AUDIT_BACKLOG_LIMIT": limit}
    assert found("keys.E019")

    settings.KEYS = {"AUDIT_BACKLOG_LIMIT": 1}
    assert not found("keys.E019")


def test_a_stream_is_shipped_into_postgresql(settings: Settings) -> None:
    assert not found("keys.E020")
    settings.KEYS = {"AUDIT_SINK": HERE}
    assert bool(found("keys.E020")) == (connection.vendor != "postgresql")
