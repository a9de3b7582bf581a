"""A throttle for Django REST framework with one bucket for each key.

Django REST framework's own throttle reads a list from the cache and writes it back: of two requests at once one is
forgotten. Here each is decided after the one before it is counted, in the way that the cache allows.
"""

import logging
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from . import denials
from .audit.places import number_in
from .conf import conf
from .models import APIKey
from .verification import UNAVAILABLE_DETAIL, Reason

logger = logging.getLogger("api_keys")

# The times of accepted requests as one text of 8 bytes each, the oldest first: a list would keep Redis far longer.
# ARGV: now, how many, in how many seconds. Returns whether this one is accepted, and the times before.
TAKE = """
local now, most, duration = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local times, first = redis.call('GET', KEYS[1]) or '', 1
while first < #times and struct.unpack('<d', times, first) <= now - duration do first = first + 8 end
times = string.sub(times, first)
local is_accepted = #times < 8 * most
if is_accepted then redis.call('SET', KEYS[1], times .. struct.pack('<d', now), 'EX', math.ceil(duration)) end
return {is_accepted and 1 or 0, times}
"""

CLAIM_SECONDS = 10  # how long a claim stays; a request that takes half of it is not accepted, for a claim may be gone
TRIES = 10  # that lead nowhere: the cache neither takes a claim nor holds one


class RateUnavailable(APIException):
    """The cache that counts requests is unavailable, and `KEYS["RATE_FAIL_OPEN"]` is not set."""

    status_code = 503
    default_detail = UNAVAILABLE_DETAIL
    default_code = "unavailable"


class CannotCount(Exception):  # noqa: N818  the cache's error
    """The cache takes no claim and holds none, as one that drops what it is given; or it is too slow."""


class APIKeyRateThrottle(SimpleRateThrottle):
    """Enforces the `rate` of the request's key, counted in Django's cache; keys without one are not limited.

    In any period of the rate's length at most that many requests are accepted, in all processes that share the cache.
    A successor shares its predecessor's bucket, so that a rotation gives no second allowance. `history` holds the times
    of the accepted requests, the latest first. Raises RateUnavailable.
    """

    scope = "api_key"

    def __init__(self) -> None:
        pass  # the rate comes from the key, not from settings

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        key: Any = request.auth
        return f"throttle_api_key_{number_in(key)}" if isinstance(key, APIKey) and key.rate else None

    def allow_request(self, request: Request, view: Any) -> bool:
        self.key = bucket = self.get_cache_key(request, view)
        if bucket is None:
            return True
        key: Any = request.auth
        try:
            self.rate = key.rate
            self.num_requests, self.duration = self.parse_rate(key.rate)
            self.now = self.timer()
            is_allowed = _over_failover(self.cache, lambda: self._take(bucket))
        except Exception as error:  # each cache backend raises its own errors
            logger.error("The rate of an API key cannot be checked: %s", type(error).__name__)
            if not conf.RATE_FAIL_OPEN:
                raise RateUnavailable from error
            return True
        if not is_allowed:
            denials.note(request, view, Reason.RATE)
        return bool(self.throttle_success() if is_allowed else self.throttle_failure())

    def throttle_success(self) -> bool:
        """Return True: the request is in the bucket already."""
        return True

    def wait(self) -> float:
        """Return the seconds until the next request is accepted, also if the rate has been lowered meanwhile."""
        if not 0 < self.num_requests <= len(self.history):  # type: ignore[operator]
            return float(self.duration)  # type: ignore[arg-type]  # nothing is, at a rate of 0
        next_to_expire = self.history[self.num_requests - 1]  # type: ignore[operator]
        return float(self.duration - (self.now - next_to_expire))

    def _take(self, key: str) -> bool:
        """Put the request into the bucket if there is room, and set `history`; return whether there was."""
        backend = backend_of(self.cache)
        # Under `key` alone may be a list of Django REST framework's form, of an earlier release or another server's.
        key = f"{key}:taken"
        if isinstance(backend, RedisCache):
            return self._take_by_script(backend, key)
        if isinstance(backend, LocMemCache):
            with _local.lock:
                return self._take_alone(key)
        return self._take_by_claim(key)

    def _take_by_script(self, backend: Any, key: str) -> bool:
        name = backend.make_and_validate_key(key)
        script = backend._cache.get_client(name, write=True).register_script(TAKE)
        is_accepted, times = script([name], [repr(self.now), self.num_requests, self.duration])
        self.history = [time for (time,) in struct.iter_unpack("<d", times)][::-1]
        return self._accept() if is_accepted else False

    def _take_alone(self, key: str) -> bool:
        self._look_at(self.cache.get(key, []))
        if not self._accept():
            return False
        self.cache.set(key, self.history, self.duration)
        return True

    def _take_by_claim(self, key: str) -> bool:
        """As `_take_alone`, and decide by `add` between requests at once: of those with the same number one is first.

        A claim holds the bucket with its request in it, and so the second sees the first.
        """
        started, tries = monotonic(), 0
        number, times = self.cache.get(key) or (0, [])
        while tries < TRIES:
            self._look_at(times)
            if not self._accept():
                return False
            number += 1
            is_first = self.cache.add(f"{key}:{number}", self.history, CLAIM_SECONDS)
            if monotonic() - started > CLAIM_SECONDS / 2:
                break
            if is_first:
                # Kept until no claim is left, for the numbers go on from it.
                timeout = int(self.duration or 0) + 2 * CLAIM_SECONDS
                self.cache.set(key, (number, self.history), timeout)
                return True
            times = self.cache.get(f"{key}:{number}")
            if times is None:
                tries += 1
                number, times = self.cache.get(key) or (0, [])
        raise CannotCount

    def _look_at(self, times: list[float]) -> None:
        """Set `history` to those of the times that still count."""
        self.history = [time for time in times if time > self.now - self.duration]  # type: ignore[operator]

    def _accept(self) -> bool:
        """Put this request at the head of `history`; return False if that is full."""
        if len(self.history) >= self.num_requests:  # type: ignore[operator]
            return False
        self.history.insert(0, self.now)
        return True


def backend_of(cache: Any) -> BaseCache:
    """Return the cache itself where it may be Django's proxy of it."""
    backend: BaseCache = getattr(cache.make_key, "__self__", cache)
    return backend


class _Local:
    """The lock of the buckets in this process's memory."""

    def __init__(self) -> None:
        self._reset()
        # Another thread may hold the lock at a fork.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.lock = threading.Lock()


_local = _Local()


def _over_failover(cache: Any, count: Callable[[], bool]) -> bool:
    """Return what `count` returns, which counts again at once if the cache's Redis is not the primary any more."""
    try:
        return count()
    except Exception as error:
        _drop_connections(cache)
        # By name: redis-py need not be installed, and there are others of its kind.
        if type(error).__name__ != "ReadOnlyError" and "READONLY" not in str(error):
            raise
    return count()


def _drop_connections(cache: Any) -> None:
    """Have a cache in Redis look its server up again. A server that was demoted keeps its connections."""
    # Django's own backend, django-redis and those that follow it; others have no connections to a replica.
    client: Any = getattr(cache, "client", None) or getattr(cache, "_cache", None)
    with suppress(Exception):
        client.get_client(write=True).connection_pool.disconnect(inuse_connections=False)
