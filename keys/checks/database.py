"""What the keys in the table ask of the project: `manage.py check --database`, and `migrate`."""

from collections.abc import Collection

from django.core import checks
from django.db import connections, router
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from ..endpoints import Endpoint, endpoints
from ..keyrings import DatabaseKeyring
from ..models import APIKey
from ..redaction import printable
from ..throttling import APIKeyRateThrottle

NAMED = 5


@checks.register(checks.Tags.database, "keys")
def check_no_key_holds_every_scope(
    databases: Collection[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    # As text, because SQLite cannot look into a JSON list.
    keys = _accepted_keys(databases).annotate(text=Cast("scopes", TextField())).filter(text__contains='"*"')
    return [
        checks.Warning(
            f"Keys hold the scope *, which opens every view: {named}.",
            hint="Give each the scopes that its service needs.",
            id="keys.W009",
        )
        for named in _named(keys)
    ]


@checks.register(checks.Tags.database, "keys")
def check_rates_are_enforced(databases: Collection[str] | None = None, **kwargs: object) -> list[checks.CheckMessage]:
    unlimited = [endpoint for endpoint in endpoints() if _ignores_rates(endpoint)]
    if not unlimited:
        return []
    views = ", ".join(str(endpoint) for endpoint in unlimited)
    return [
        checks.Warning(
            f"Keys have a rate ({named}) that these views do not enforce: {views}.",
            hint="Add keys.throttling.APIKeyRateThrottle to throttle_classes or DEFAULT_THROTTLE_CLASSES. "
            "api_key_required and keys.ninja.APIKeyAuth enforce no rate.",
            id="keys.W010",
        )
        for named in _named(_accepted_keys(databases).exclude(rate=""))
    ]


def _ignores_rates(endpoint: Endpoint) -> bool:
    if not any(isinstance(ring, DatabaseKeyring) for ring in endpoint.keyrings):
        return False
    throttles = [throttle for throttle in endpoint.throttles if isinstance(throttle, type)]
    # What a view decides for itself is left to it.
    return not endpoint.overrides("get_throttles") and not any(
        issubclass(throttle, APIKeyRateThrottle) for throttle in throttles
    )


def _accepted_keys(databases: Collection[str] | None) -> QuerySet[APIKey]:
    """Return the keys that are accepted now; none where their database is not to be checked, or not migrated yet."""
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


def _named(keys: QuerySet[APIKey]) -> list[str]:
    """Return one text with the names of the first keys and the number of the others; nothing where there are none."""
    names = [printable(str(key)) for key in keys.only("name", "prefix")[: NAMED + 1]]
    if len(names) > NAMED:
        names[NAMED:] = [f"and {keys.count() - NAMED} more"]
    return [", ".join(names)] if names else []
