"""System checks of where the audit log goes."""

import sys
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from tests.support.commands import found

pytestmark = pytest.mark.matrix

HERE = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    "address",
    ["Database", "", "redis", "http://localhost", "redis://localhost:port/0", f"{HERE}?strem=log",
     f"{HERE}?socket_timeout=soon", "redis://:s3cret@localhost/0?nonsense=1", "unix+sentinel:///socket/service",
     "redis+sentinel://:s3cret@host/service?nonsense=1", "redis+sentinel://host/service?sentinel_nonsense=s3cret",
     "redis+cluster://:s3cret@host?nonsense=1", "redis+cluster://host?socket_timeout=soon", "redis+moon://host",
     # With these redis-py connects, and no answer can be read, or no answer comes.
     *(f"{address}{option}" for address in (f"{HERE}?", "redis+sentinel://host/service?", "redis+cluster://host?")
       for option in ("decode_responses=1", "encoding=utf-16", "protocol=3", "retry=3", "retry_on_error=x",
                      "credential_provider=x", "socket_timeout=0", "socket_timeout=-1", "socket_timeout=inf",
                      "socket_timeout=nan", "socket_connect_timeout=1e300")),
     "rediss://host?ssl_cert_reqs=s3cret", "redis+sentinel://host/service?sentinel_decode_responses=1", "redis+sentinel://h/s?sentinel_socket_timeout=inf",
     None, 1, b"database", ["database"]],
)  # fmt: skip
def test_a_sink_that_is_none(settings: Settings, address: Any) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    (message,) = found("keys.E017")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (f"{HERE}?stream=", "names no stream"),
        (f"{HERE}?replicas=all", "number of replicas"),
        # redis-py would go to port 12, and show that number.
        ("redis://:12#s3cret@localhost/0", "%23"),
        ("redis://:12/s3cret@localhost/0", "is no number"),
        (f"{HERE}/s3cret", "is no number"),
        ("redis+sentinel://:12#s3cret@host/service", "%23"),
        ("redis+cluster://:12#s3cret@host", "%23"),
        ("unix://:12#s3cret@/run/redis.sock", "%23"),
        ("redis+sentinel://:s3cret@host", "names the service"),
        ("redis+sentinel://:s3cret@host:26379/", "names the service"),
        ("redis+sentinel://:s3cret@host/service/s3cret", "is no number"),
        ("redis+sentinel://:s3cret@/service", "host:port"),
        ("redis+sentinel://:s3cret@host,/service", "host:port"),
        ("redis+sentinel://host:s3cret/service", "host:port"),
        ("redis+sentinel://host:70000/service", "host:port"),
        ("redis+sentinel://::1/service", "host:port"),
        ("redis+cluster://", "host:port"),
        ("redis+cluster://:s3cret@host/1", "no database but 0"),
        ("redis+cluster://:s3cret@host?db=1", "no database but 0"),
        ("redis+cluster://host?sentinel_password=s3cret", "no options for sentinels"),
    ],
)
def test_an_address_that_leads_nowhere(settings: Settings, address: str, sentence: str) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    (message,) = found("keys.E029")
    assert sentence in message
    assert "s3cret" not in message
    assert not found("keys.E017")


@pytest.mark.parametrize(
    "address",
    ["database", HERE, f"{HERE}?stream=log", "rediss://user:s3cret@redis.example/1?socket_timeout=0.5&stream=keys:audit",
     "unix:///run/redis.sock?db=1", "redis://", f"{HERE}?replicas=1", "redis+sentinel://host/service",
     "redis+sentinel://user:s3cret@one:26379,two,[::1]:26379/my%2Dservice/1?stream=log&sentinel_username=u&"
     "sentinel_password=p&sentinel_socket_timeout=0.2&socket_timeout=1",
     "rediss+sentinel://host/service?ssl_cert_reqs=none", "redis+cluster://one:6379,two/", "redis+cluster://one/0",
     "rediss+cluster://user:s3cret@one:6379,[2001:db8::1]?stream=keys:audit&ssl_ca_certs=/ca.pem"],
)  # fmt: skip
def test_a_sink_that_is_one(settings: Settings, address: str) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    assert not found("keys.E017")
    assert not found("keys.E029")


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
