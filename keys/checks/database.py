"""Checks of the databases: where the tables are; for `check --database`, keys with too many rights, and the upkeep."""

from collections.abc import Collection, Iterable
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections, router
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from ..audit import grants, triggers
from ..audit.partitions import missing, present, strays
from ..endpoints import Endpoint, endpoints
from ..keyrings import DatabaseKeyring
from ..models import APIKey, AuditEvent, AuditLog, AuditSeal, KeyOrigin
from ..redaction import printable
from ..throttling import APIKeyRateThrottle

NAMED = 5


@checks.register("keys")
def check_keys_and_log_are_together(**kwargs: object) -> list[checks.CheckMessage]:
    aliases = {model: router.db_for_write(model) for model in (APIKey, KeyOrigin, AuditEvent, AuditLog, AuditSeal)}
    if len(set(aliases.values())) == 1:
        return []
    listed = ", ".join(f"{model.__name__} to {alias!r}" for model, alias in aliases.items())
    return [
        checks.Error(
            f"DATABASE_ROUTERS sends the tables of keys to several databases ({listed}), and a use of a key is written "
            "where the key is found.",
            hint='Let db_for_write give one database for the whole app label "keys". It may be another one than that '
            "of the users.",
            id="keys.E022",
        )
    ]


@checks.register(checks.Tags.database, "keys")
def check_no_key_holds_every_scope(
    databases: Collection[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    # As text, because SQLite cannot search a JSON list.
    keys = accepted_keys(databases).annotate(text=Cast("scopes", TextField())).filter(text__contains='"*"')
    return [
        checks.Warning(
            f"Keys hold the scope *, which opens every view: {names}.",
            hint="Give each the scopes that its service needs.",
            id="keys.W009",
        )
        for names in named(keys)
    ]


@checks.register(checks.Tags.database, "keys")
def check_rates_are_enforced(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    unlimited = [endpoint for endpoint in endpoints() if _ignores_rates(endpoint)]
    if not unlimited:
        return []
    views = ", ".join(str(endpoint) for endpoint in unlimited)
    return [
        checks.Warning(
            f"Keys have a rate ({names}) that these views do not enforce: {views}.",
            hint="Add keys.throttling.APIKeyRateThrottle to throttle_classes or DEFAULT_THROTTLE_CLASSES. "
            "api_key_required and keys.ninja.APIKeyAuth enforce no rate.",
            id="keys.W010",
        )
        for names in named(accepted_keys(databases).exclude(rate=""))
    ]


@checks.register(checks.Tags.database, "keys")
def check_partitions_are_kept(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    if router.db_for_write(AuditEvent) not in (databases or ()) or not present():
        return []
    found = []
    if months := missing(ahead=1):
        listed = " and ".join(f"{month:%Y-%m}" for month in months)
        found.append(f"The audit log has no partition for {listed}.")
    if count := sum(strays().values()):
        found.append(f"The audit log's default partition holds {count} events, which no retention drops.")
    return [
        checks.Warning(text, hint="Run `manage.py keys_partition` now, and each day from then on.", id="keys.W011")
        for text in found
    ]


@checks.register(checks.Tags.database, "keys")
def check_log_is_guarded(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    alias = router.db_for_write(AuditEvent)
    if alias not in (databases or ()) or (faults := triggers.unmet()) is None:
        return []
    excess = grants.excess() if connections[alias].vendor == "postgresql" else []
    found: list[checks.CheckMessage] = []
    if faults:
        hint = (
            "Run `manage.py keys_guard install` with its --keep as the owner of the log. Or, if nobody wants them any "
        )
        text = f"The triggers of the audit log: {_first(fault.sentence for fault in faults)}"
        found.append(checks.Warning(text, hint=f"{hint}more, `manage.py keys_guard remove`.", id="keys.W022"))
    if excess:
        hint = "Run the SQL of `manage.py keys_guard grants --role NAME` for each role of web processes."
        text = f"Rights in the audit log: {_first(each.sentence for each in excess)}"
        found.append(checks.Warning(text, hint=hint, id="keys.W023"))
    return found


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


def _ignores_rates(endpoint: Endpoint) -> bool:
    if not any(isinstance(ring, DatabaseKeyring) for ring in endpoint.keyrings):
        return False
    throttles = [throttle for throttle in endpoint.throttles if isinstance(throttle, type)]
    # A view that overrides the method may enforce rates itself.
    return not endpoint.decides_by_request("throttle_classes", "get_throttles") and not any(
        issubclass(throttle, APIKeyRateThrottle) for throttle in throttles
    )


def accepted_keys(databases: Collection[str] | None) -> QuerySet[APIKey]:
    """Return the keys that are accepted now; none if their database is not checked, or not migrated yet."""
    alias = router.db_for_write(APIKey)
    if alias not in (databases or ()) or not _is_migrated(alias):
        return APIKey.objects.none()
    return APIKey.objects.using(alias).accepted()


def _is_migrated(alias: str) -> bool:
    connection, table = connections[alias], APIKey._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False
        columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    return columns >= {field.column for field in APIKey._meta.concrete_fields}


def named(keys: QuerySet[APIKey]) -> list[str]:
    """Return a list of one text, with the first keys' names and the number of the others; empty if there are none."""
    names = [printable(str(key)) for key in keys.only("name", "prefix")[: NAMED + 1]]
    if len(names) > NAMED:
        names[NAMED:] = [f"and {keys.count() - NAMED} more"]
    return [", ".join(names)] if names else []


def _first(sentences: Iterable[str]) -> str:
    """Return the first sentences, and the number of the others."""
    listed = list(sentences)
    more = len(listed) - NAMED
    return " ".join([*listed[:NAMED], *([f"And {more} more."] if more > 0 else [])])


def _ask(databases: Collection[str] | None, query: str, value: str) -> list[tuple[Any, ...]]:
    """Return MariaDB's rows for the query; none if the log is in another database or is not checked."""
    connection = connections[router.db_for_write(AuditEvent)]
    if connection.alias not in (databases or ()) or connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        return list(cursor.fetchall())
