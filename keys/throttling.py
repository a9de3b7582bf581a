"""A throttle for Django REST framework with one bucket for each key."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from . import denials
from .audit.places import number_in
from .conf import conf
from .models import APIKey
from .verification import UNAVAILABLE_DETAIL, Reason

logger = logging.getLogger("api_keys")


class RateUnavailable(APIException):
    """The cache that counts requests is unavailable, and `KEYS["RATE_FAIL_OPEN"]` is not set."""

    status_code = 503
    default_detail = UNAVAILABLE_DETAIL
    default_code = "unavailable"


class APIKeyRateThrottle(SimpleRateThrottle):
    """Enforces the `rate` of the request's key, counted in Django's cache; keys without one are not limited.

    A successor shares its predecessor's bucket, so that a rotation gives no second allowance. Raises
    RateUnavailable.
    """

    scope = "api_key"

    def __init__(self) -> None:
        pass  # the rate comes from the key, not from settings

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        key: Any = request.auth
        return f"throttle_api_key_{number_in(key)}" if isinstance(key, APIKey) and key.rate else None

    def allow_request(self, request: Request, view: Any) -> bool:
        if self.get_cache_key(request, view) is None:
            return True
        key: Any = request.auth
        try:
            self.rate = key.rate
            self.num_requests, self.duration = self.parse_rate(key.rate)
            count = super().allow_request
            is_allowed = _over_failover(self.cache, lambda: bool(count(request, view)))
        except Exception as error:  # each cache backend raises its own errors
            logger.error("The rate of an API key cannot be checked: %s", type(error).__name__)
            if not conf.RATE_FAIL_OPEN:
                raise RateUnavailable from error
            return True
        if not is_allowed:
            denials.note(request, view, Reason.RATE)
        return is_allowed

    def wait(self) -> float:
        """Return the seconds until the next request is accepted, also if the rate has been lowered meanwhile."""
        next_to_expire = self.history[self.num_requests - 1]  # type: ignore[operator]
        return float(self.duration - (self.now - next_to_expire))


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
