"""Checks of the audit log's sink: the stream's address is valid, its entries can be shipped, and it is this log's."""

from collections.abc import Collection
from importlib.util import find_spec

from django.core import checks
from django.db import Error, connections, router

from ..audit import statements
from ..audit.places import has_schemas
from ..conf import NO_SINK, configured, is_stream
from ..models import APIKey, AuditLog


@checks.register("keys")
def check_redis_understands_the_address(**kwargs: object) -> list[checks.CheckMessage]:
    """`options` has looked at how it begins."""
    address = configured()["AUDIT_SINK"]
    if not is_stream(address) or not _has_redis():
        return []
    from ..audit.servers import AddressError

    mistake = _mistake_in(address)
    if isinstance(mistake, AddressError):
        return [checks.Error(f'KEYS["AUDIT_SINK"]: {mistake}', hint=NO_SINK.hint, id="keys.E029")]
    return [checks.Error(NO_SINK.message, hint=NO_SINK.hint, id="keys.E017")] if mistake else []


@checks.register("keys")
def check_redis_is_installed(**kwargs: object) -> list[checks.CheckMessage]:
    if not is_stream(configured()["AUDIT_SINK"]) or _has_redis():
        return []
    hint = "Install the extra: pip install 'django-service-keys[redis]'."
    return [checks.Error('KEYS["AUDIT_SINK"] needs the package redis.', hint=hint, id="keys.E018")]


@checks.register("keys")
def check_the_stream_can_be_shipped(**kwargs: object) -> list[checks.CheckMessage]:
    if not is_stream(configured()["AUDIT_SINK"]) or statements.can_ship():
        return []
    return [
        checks.Error(
            'KEYS["AUDIT_SINK"] names a stream, and keys_ship cannot bring it into this database.',
            hint='Use PostgreSQL, or write "database".',
            id="keys.E020",
        )
    ]


@checks.register("keys")
def check_the_stream_serves_one_log(**kwargs: object) -> list[checks.CheckMessage]:
    if not is_stream(configured()["AUDIT_SINK"]) or not has_schemas(connections[router.db_for_write(APIKey)]):
        return []
    return [
        checks.Error(
            'KEYS["AUDIT_SINK"] names a stream, which serves one log, and each tenant has a log in its own schema: '
            "uses are refused.",
            hint='Write "database", or have keys in SHARED_APPS alone.',
            id="keys.E021",
        )
    ]


@checks.register(checks.Tags.database, "keys")
def check_the_stream_belongs_to_this_log(
    databases: Collection[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    address, alias = configured()["AUDIT_SINK"], router.db_for_write(AuditLog)
    if alias not in (databases or ()) or has_schemas(connections[alias]):
        return []
    if not is_stream(address) or not _has_redis() or _mistake_in(address):
        return []
    from ..audit.servers import StreamError
    from ..audit.stream import refusal, stream_at

    try:
        sentence = refusal(stream_at(address))
    except StreamError:
        return [
            checks.Warning(
                "Redis does not answer, so nobody can tell whether the stream belongs to this log.",
                hint='Look at the address in KEYS["AUDIT_SINK"]: until Redis answers, uses are refused.',
                id="keys.W024",
            )
        ]
    except Error:
        return []  # the tables are not there yet
    if not sentence:
        return []
    hint = "Until then uses are refused: docs/scale.md, One stream, one log."
    return [checks.Error(sentence, hint=hint, id="keys.E028")]


def _has_redis() -> bool:
    return find_spec("redis") is not None


def _mistake_in(address: str) -> ValueError | TypeError | None:
    from ..audit.stream import Stream

    try:
        Stream(address)
    except (ValueError, TypeError) as mistake:
        return mistake
    return None
