"""What MariaDB must have been given for the log to be written and read: `manage.py check --database`, and `migrate`."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections, router

from ..models import AuditEvent


@checks.register(checks.Tags.database, "keys")
def check_log_takes_every_character(
    databases: Collection[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    table = AuditEvent._meta.db_table
    lacking = _ask(
        databases,
        "SELECT DISTINCT character_set_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = %s AND character_set_name <> 'utf8mb4'",
        table,
    )
    return [
        checks.Warning(
            f"{table} is kept in {name}: a request with a character that it lacks cannot be recorded, and gets a 503.",
            hint=f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4",
            id="keys.W012",
        )
        for (name,) in lacking
    ]


@checks.register(checks.Tags.database, "keys")
def check_days_can_be_told(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    zone = settings.TIME_ZONE
    if not settings.USE_TZ or zone == "UTC":
        return []
    return [
        checks.Warning(
            f"MariaDB knows no time zone {zone}, so what the admin counts by day cannot be shown.",
            hint="Load its time zone tables: mariadb-tzinfo-to-sql /usr/share/zoneinfo | mariadb mysql",
            id="keys.W013",
        )
        for (midnight,) in _ask(databases, "SELECT CONVERT_TZ('2026-01-01 00:00:00', 'UTC', %s)", zone)
        if midnight is None
    ]


def _ask(databases: Collection[str] | None, query: str, value: str) -> list[tuple[Any, ...]]:
    """Return the rows that MariaDB answers with; none where the log is elsewhere or is not to be checked."""
    connection = connections[router.db_for_write(AuditEvent)]
    if connection.alias not in (databases or ()) or connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        return list(cursor.fetchall())
