"""Checks of a deployment: `manage.py check --deploy`."""

from django.conf import settings
from django.core import checks
from django.db import connections, router

from ..endpoints import endpoints
from ..models import APIKey


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
            f"Keys may travel without TLS: SecurityMiddleware with SECURE_SSL_REDIRECT does not guard {guarded[0]} "
            "and other addresses that ask for them.",
            hint="Set SECURE_SSL_REDIRECT = True, and SECURE_PROXY_SSL_HEADER if a proxy ends TLS. A redirect comes "
            "after the key was sent in plain text: better still, let the proxy refuse plain HTTP, and silence this "
            "check then.",
            id="keys.W007",
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
