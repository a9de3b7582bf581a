"""Rates are counted again after a failover of the cache's Redis, without a restart; until then, answers are 503."""

import signal
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from keys.models import APIKey, AuditEvent
from tests.support.callers import UNAVAILABLE, get
from tests.support.failovers import Pair, redis_pair
from tests.support.log import errors

pytestmark = pytest.mark.django_db

BACKEND = "django.core.cache.backends.redis.RedisCache"


@pytest.fixture
def pair(settings: Settings) -> Iterator[Pair]:
    with redis_pair() as pair:
        cache = {"BACKEND": BACKEND, "LOCATION": f"unix://{pair.socket}", "OPTIONS": {"socket_timeout": 0.5}}
        settings.CACHES = {"default": cache}
        yield pair


@pytest.fixture
def key(db: None) -> APIKey:
    return APIKey.objects.create(name="TTS", rate="3/day")


def test_the_next_request_is_served_and_counted(pair: Pair, key: APIKey, caplog: pytest.LogCaptureFixture) -> None:
    assert get("/throttled/", key).status_code == 200
    pair.fail_over()
    assert get("/throttled/", key).status_code == 200
    pair.fail_over()
    assert [get("/throttled/", key).status_code for _ in range(2)] == [200, 429]
    assert errors(caplog) == []


def test_while_the_address_leads_to_a_replica(pair: Pair, key: APIKey, caplog: pytest.LogCaptureFixture) -> None:
    get("/throttled/", key)
    pair.demote()
    response = get("/throttled/", key)
    assert (response.status_code, response.json()) == (503, UNAVAILABLE)
    assert errors(caplog) == ["The rate of an API key cannot be checked: ReadOnlyError"]
    assert AuditEvent.objects.filter(status=503, event="used").count() == 1
    pair.lead_to(pair.primary)
    assert [get("/throttled/", key).status_code for _ in range(3)] == [200, 200, 429]


def test_of_a_server_that_says_nothing_more(pair: Pair, key: APIKey) -> None:
    get("/throttled/", key)
    pair.primary.process.send_signal(signal.SIGSTOP)
    try:
        assert get("/throttled/", key).status_code == 503
        pair.replica.client.replicaof("NO", "ONE")
        pair.lead_to(pair.replica)
        assert get("/throttled/", key).status_code == 200
    finally:
        pair.primary.process.send_signal(signal.SIGCONT)


def test_of_a_server_that_is_killed(pair: Pair, key: APIKey) -> None:
    get("/throttled/", key)
    pair.primary.kill()
    assert get("/throttled/", key).status_code == 503
    pair.replica.client.replicaof("NO", "ONE")
    pair.lead_to(pair.replica)
    assert get("/throttled/", key).status_code == 200
