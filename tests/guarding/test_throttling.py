"""One bucket for each key, in whatever cache there is, or is not."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import time_machine
from django.core.cache import cache
from django.core.cache.backends.dummy import DummyCache
from django.test import Client
from django.urls import path
from pytest_django import Settings
from rest_framework.throttling import UserRateThrottle

from keys.models import APIKey, AuditEvent
from tests.settings import RUN
from tests.support.redis_servers import shared_redis
from tests.views import Guarded

pytestmark = pytest.mark.django_db

BACKENDS = "django.core.cache.backends"
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Full(DummyCache):
    """A cache that takes nothing, as Memcached when it is full."""

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return False


def use_redis(settings: Settings, location: str) -> None:
    prefix = f"{RUN}_{uuid4().hex}"
    settings.CACHES = {
        "default": {"BACKEND": f"{BACKENDS}.redis.RedisCache", "LOCATION": location, "KEY_PREFIX": prefix}
    }


@pytest.fixture(autouse=True)
def empty_cache(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{BACKENDS}.locmem.LocMemCache", "LOCATION": uuid4().hex}}


@pytest.fixture
def files(settings: Settings, tmp_path: Path) -> None:
    """A cache of which nothing is known but Django's own methods."""
    settings.CACHES = {"default": {"BACKEND": f"{BACKENDS}.filebased.FileBasedCache", "LOCATION": str(tmp_path)}}


@pytest.fixture(params=["locmem", "redis", "files"])
def any_cache(request: pytest.FixtureRequest, settings: Settings, empty_cache: None) -> None:
    if request.param == "files":
        request.getfixturevalue("files")
    elif request.param == "redis":
        shared = shared_redis()
        try:
            redis.Redis.from_url(shared).ping()
        except redis.ConnectionError:
            pytest.skip("No Redis is running.")
        use_redis(settings, shared)


def get(key: APIKey | str, path: str = "/throttled/") -> Any:
    return Client().get(path, headers={"X-API-Key": key if isinstance(key, str) else key.key})


def test_a_rate_is_kept(any_cache: None) -> None:
    key, other = (APIKey.objects.create(name=name, rate="3/min") for name in ("TTS", "other"))
    with time_machine.travel(NOON, tick=False) as clock:
        answers = [get(key) for _ in range(5)]
        assert [response.status_code for response in answers] == [200, 200, 200, 429, 429]
        assert answers[-1]["Retry-After"] == "60"
        assert get(other).status_code == 200
        clock.shift(timedelta(seconds=59))
        assert [get(key).status_code, get(key)["Retry-After"]] == [429, "1"]
        clock.shift(timedelta(seconds=1))
        assert get(key).status_code == 200
    log = AuditEvent.objects.filter(key_name="TTS").exclude(method="").order_by("id")
    refused = ("refused", "rate", 429)
    assert list(log.values_list("event", "reason", "status")) == [
        *[("used", "", 200)] * 3, *[refused] * 4, ("used", "", 200)
    ]  # fmt: skip


@pytest.mark.parametrize(("rate", "seconds"), [("1/s", 1), ("1/min", 60), ("1/hour", 3600), ("1/d", 86_400)])
def test_every_period(rate: str, seconds: int) -> None:
    key = APIKey.objects.create(name="TTS", rate=rate)
    with time_machine.travel(NOON, tick=False) as clock:
        assert [get(key).status_code, get(key)["Retry-After"]] == [200, str(seconds)]
        clock.shift(timedelta(seconds=seconds))
        assert get(key).status_code == 200


def test_a_key_gets_all_of_its_rate_and_no_more_in_any_minute(any_cache: None) -> None:
    key, accepted = APIKey.objects.create(name="TTS", rate="3/min"), []
    with time_machine.travel(NOON, tick=False) as clock:
        for second in range(0, 300, 7):
            if get(key).status_code == 200:
                accepted.append(second)
            clock.shift(timedelta(seconds=7))
    assert all(accepted[n + 3] - accepted[n] >= 60 for n in range(len(accepted) - 3))
    # Whoever asks every seven seconds is let in at the first of them that is a minute after the last but two.
    assert accepted == [0, 7, 14, 63, 70, 77, 126, 133, 140, 189, 196, 203, 252, 259, 266]


@pytest.mark.usefixtures("files")
def test_a_request_counts_that_died_before_it_was_noted() -> None:
    key = APIKey.objects.create(name="TTS", rate="3/day")
    assert get(key).status_code == 200
    bucket = f"throttle_api_key_{key.pk}:taken"
    number, times = cache.get(bucket)
    assert cache.add(f"{bucket}:{number + 1}", [times[0] + 0.001, *times])
    assert [get(key).status_code, get(key).status_code] == [200, 429]


def test_what_an_earlier_release_counted_closes_nobody_out(any_cache: None) -> None:
    key = APIKey.objects.create(name="TTS", rate="1/day")
    before = [time.time() - seconds for seconds in range(3)]
    cache.set(f"throttle_api_key_{key.pk}", before)
    assert [get(key).status_code for _ in range(2)] == [200, 429]
    assert cache.get(f"throttle_api_key_{key.pk}") == before


def test_a_cache_that_takes_nothing_lets_nobody_in_for_ever(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Full"}}
    assert get(APIKey.objects.create(name="TTS", rate="1/day")).status_code == 503
    assert "The rate of an API key cannot be checked: CannotCount" in caplog.text


def test_a_key_without_a_rate_is_not_limited() -> None:
    key = APIKey.objects.create(name="TTS")
    assert {get(key).status_code for _ in range(20)} == {200}


def test_a_rate_counts_only_where_the_throttle_is(settings: Settings) -> None:
    key = APIKey.objects.create(name="TTS", rate="1/day", scopes=["users:read"])
    assert {get(key, "/plain/").status_code for _ in range(3)} == {200}


def test_a_successor_goes_on_in_the_same_bucket() -> None:
    key = APIKey.objects.create(name="TTS", rate="3/day")
    assert [get(key).status_code, get(key).status_code] == [200, 200]
    successor = key.rotate()
    assert [get(successor).status_code, get(key).status_code, get(successor).status_code] == [200, 429, 429]
    assert get(successor.rotate()).status_code == 429


def test_the_frameworks_own_throttle_has_a_bucket_for_each_service(settings: Settings) -> None:
    class TwiceADay(UserRateThrottle):
        rate = "2/day"

    settings.ROOT_URLCONF = (path("throttled/", Guarded.as_view(throttle_classes=[TwiceADay])),)
    key, other = APIKey.objects.create(name="TTS"), APIKey.objects.create(name="Billing")
    assert [get(key).status_code for _ in range(3)] == [200, 200, 429]
    assert get(other).status_code == 200
    assert get(key.rotate()).status_code == 429


def test_a_rate_that_was_lowered_says_when_to_come_back(any_cache: None) -> None:
    key = APIKey.objects.create(name="TTS", rate="10/min")
    with time_machine.travel(NOON, tick=False) as clock:
        for _ in range(10):
            get(key)
            clock.shift(timedelta(seconds=2))
        APIKey.objects.update(rate="2/min")
        response = get(key)
        # The last but one was at 16 seconds past noon; it is 20 past now.
        assert (response.status_code, response["Retry-After"]) == (429, "56")
        clock.shift(timedelta(seconds=56))
        assert get(key).status_code == 200


def test_a_refused_key_and_one_without_the_scope_use_up_nothing() -> None:
    key = APIKey.objects.create(name="TTS", rate="1/day", scopes=[])
    assert get(key, "/throttled-scoped/").status_code == 403
    assert get("0" * 40).status_code == 401
    assert get(key).status_code == 200


@pytest.mark.parametrize("rate", ["nonsense", "1/fortnight", "x/min", "/"])
def test_a_rate_that_is_none_closes_and_breaks_nothing(rate: str) -> None:
    key = APIKey.objects.create(name="TTS")
    APIKey._base_manager.filter(pk=key.pk).update(rate=rate)
    assert get(key).status_code == 503


def test_a_rate_of_nothing_says_so(any_cache: None) -> None:
    key = APIKey.objects.create(name="TTS")
    APIKey._base_manager.filter(pk=key.pk).update(rate="0/min")
    assert [get(key).status_code, get(key)["Retry-After"]] == [429, "60"]


class TestWithoutTheCache:
    @pytest.fixture(autouse=True)
    def down(self, settings: Settings) -> None:
        use_redis(settings, "redis://127.0.0.1:1")

    def test_a_limited_key_is_told_to_try_again(self, caplog: pytest.LogCaptureFixture) -> None:
        key = APIKey.objects.create(name="TTS", rate="1/day")
        response = get(key)
        assert (response.status_code, response.json()) == (503, {"detail": "API keys cannot be checked right now."})
        assert "The rate of an API key cannot be checked: ConnectionError" in caplog.text
        assert AuditEvent.objects.filter(event="used", status=503).count() == 1
        assert get(APIKey.objects.create(name="free")).status_code == 200

    def test_or_let_in(self, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
        settings.KEYS = {"RATE_FAIL_OPEN": True}
        key = APIKey.objects.create(name="TTS", rate="1/day")
        assert [get(key).status_code, get(key).status_code] == [200, 200]
        assert "The rate of an API key cannot be checked: ConnectionError" in caplog.text
