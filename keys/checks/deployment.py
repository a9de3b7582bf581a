"""Checks of a deployment: `manage.py check --deploy`."""

from datetime import datetime

from django.conf import settings
from django.core import checks
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections, router
from django.utils import timezone

from ..endpoints import Endpoint, endpoints
from ..models import APIKey
from ..throttling import APIKeyRateThrottle, backend_of


@checks.register(checks.Tags.security, "keys", deploy=True)
def check_keys_travel_encrypted(**kwargs: object) -> list[checks.CheckMessage]:
    redirects = settings.SECURE_SSL_REDIRECT is True
    if redirects and "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE:
        return []
    guarded = [endpoint for endpoint in endpoints() if endpoint.asks_for_a_key]
    if not guarded:
        return []
    return [
        checks.Warning(
            "Keys may travel without TLS: SecurityMiddleware with SECURE_SSL_REDIRECT does not guard the addresses "
            f"that ask for them, such as {guarded[0]}.",
            hint="Set SECURE_SSL_REDIRECT = True, and SECURE_PROXY_SSL_HEADER if a proxy ends TLS. A redirect comes "
            "after the key was sent in plain text: better still, let the proxy refuse plain HTTP, and silence this "
            "check then.",
            id="keys.W007",
        )
    ]


@checks.register("keys", deploy=True)
def check_times_are_unambiguous(**kwargs: object) -> list[checks.CheckMessage]:
    connection, zone = connections[router.db_for_write(APIKey)], timezone.get_default_timezone()
    offsets = {zone.utcoffset(datetime(2026, month, 1)) for month in range(1, 13)}  # noqa: DTZ001
    # psycopg 2 returns both hours as the same time.
    is_psycopg2 = connection.Database.__name__ == "psycopg2"  # type: ignore[attr-defined]
    keeps_instants = connection.features.supports_timezones and not is_psycopg2
    if settings.USE_TZ or keeps_instants or len(offsets) == 1:
        return []
    name = "psycopg 2" if is_psycopg2 else connection.display_name
    return [
        checks.Warning(
            f"USE_TZ is False, and the clocks of {settings.TIME_ZONE} change: {name} cannot tell "
            "apart the two hours of the same name in autumn, neither in the log nor when a key expires in them.",
            hint="Set USE_TZ = True or TIME_ZONE = 'UTC' for a new project, or use PostgreSQL, which keeps instants, "
            "with psycopg 3.",
            id="keys.W014",
        )
    ]


@checks.register("keys", deploy=True)
def check_sqlite_waits_for_its_turn(**kwargs: object) -> list[checks.CheckMessage]:
    connection = connections[router.db_for_write(APIKey)]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if connection.vendor != "sqlite" or mode.upper() != "DEFERRED":
        return []
    return [
        checks.Warning(
            "Each guarded request writes to the audit log, and SQLite's transactions are DEFERRED: one that turns "
            'into a writer while another writes fails with "database is locked".',
            hint='Set "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL", '
            f'"timeout": 20}} in DATABASES["{connection.alias}"].',
            id="keys.W008",
        )
    ]


@checks.register("keys", deploy=True)
def check_rates_are_counted(**kwargs: object) -> list[checks.CheckMessage]:
    hint = "Let CACHES name a cache that all processes share: Redis, Memcached or the database."
    found: list[checks.CheckMessage] = []
    for backend, endpoint in _caches_of_rates().items():
        if issubclass(backend, DummyCache):
            message = f"{backend.__name__} forgets everything, so no key's rate is enforced, as at {endpoint}."
            found.append(checks.Error(message, hint=hint, id="keys.E030"))
        elif issubclass(backend, LocMemCache):
            message = f"Each process counts for itself in {backend.__name__}: with several of them, keys get their rate"
            message += f" several times, as at {endpoint}."
            found.append(checks.Warning(message, hint=hint, id="keys.W026"))
        elif issubclass(backend, FileBasedCache):
            message = f"{backend.__name__} may forget one of two requests at once, so keys get more than their rate,"
            message += f" as at {endpoint}."
            found.append(checks.Warning(message, hint=hint, id="keys.W026"))
    return found


def _caches_of_rates() -> dict[type, Endpoint]:
    """Return the caches in which rates are counted, with a view each."""
    return {
        type(backend_of(throttle.cache)): endpoint
        for endpoint in reversed(endpoints())
        for throttle in endpoint.throttles
        if isinstance(throttle, type) and issubclass(throttle, APIKeyRateThrottle)
    }
