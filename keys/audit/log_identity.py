"""Which log this is: a random id, kept in its database and beside the stream that belongs to it.

A web server or a shipper of another database, or of a copy of this one, finds another id, and leaves the stream alone.
A copy holds the id of the original, so the database in which the id was made, its home, is kept with it. A server that
was copied file by file cannot be told from its original.
"""

from contextlib import nullcontext, suppress
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.db import Error, IntegrityError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from ..models import AuditLog
from .places import has_schemas, migrated_place

KNOWN_FOR = 60.0  # seconds after which a new connection may lead to another database
UNKNOWN = "?"  # instead of the number of a server that does not tell it


class LogIdentityError(OperationalError):
    """This database's log may not use the stream. The text is a sentence for people."""


class _Known(NamedTuple):
    log: str
    read_at: float


_known: dict[str, _Known] = {}  # by the alias of the database
_last: dict[str, str] = {}


def current() -> str:
    """Return the log's id, which this process remembers. The first time, a log without one gets one.

    Raises LogIdentityError if the database is a copy, or if the log has no id and cannot be given one here.
    """
    alias = router.db_for_write(AuditLog)
    known = _known.get(alias)
    return read() if known is None else known.log


def last() -> str:
    """Return the id that this process used last, without a query: for what is written late."""
    return _last.get(router.db_for_write(AuditLog)) or current()


def read() -> str:
    """Return the log's id from the database. Raises LogIdentityError as `current` does."""
    alias = router.db_for_write(AuditLog)
    connection = connections[alias]
    with transaction.atomic(using=alias) if connection.in_atomic_block else nullcontext():
        log = _find(alias) or _begin_now(connection)
    _known[alias], _last[alias] = _Known(log, monotonic()), log
    return log


def is_copy() -> bool:
    """Tell whether this database is known to be a copy of the one in which the log's id was made."""
    try:
        _find(router.db_for_write(AuditLog))
    except LogIdentityError:
        return True
    return False


def forget() -> None:
    """Read the id again when it is needed next."""
    _known.clear()


@receiver(connection_created)
def suspect(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Read the id again after a new connection, once a minute: the database may be another."""
    known = _known.get(connection.alias)
    if known is not None and monotonic() - known.read_at > KNOWN_FOR:
        _known.pop(connection.alias, None)


def begin(*, using: str, **kwargs: object) -> None:
    """Give the log an id if it has none, after `migrate` and `flush`."""
    forget()
    connection = connections[using]
    if not router.allow_migrate_model(using, AuditLog) or using != router.db_for_write(AuditLog):
        return
    if migrated_place(using) is None or has_schemas(connection):  # a stream serves no tenant
        return
    with connection.cursor() as cursor:
        is_there = AuditLog._meta.db_table in connection.introspection.table_names(cursor)
    if is_there and not AuditLog._base_manager.using(using).exists():
        _begin(using)


def make_new() -> tuple[str, set[str]]:
    """Give the log a new id, and return it, and the ids that it had: its own, or those of what it is a copy of."""
    alias = router.db_for_write(AuditLog)
    logs = AuditLog._base_manager.using(alias)
    with transaction.atomic(using=alias):
        before = {str(log) for log in logs.values_list("identity", flat=True)}
        logs.all().delete()
        log = _begin(alias)
    forget()
    return log, before


def _find(alias: str) -> str | None:
    logs = list(AuditLog._base_manager.using(alias).values_list("identity", "home"))
    home = _home(connections[alias]) if logs else ""
    for log, made_in in logs:
        if _is_same(made_in, home):
            return str(log)
    if logs:
        raise LogIdentityError(
            "This database is a copy, and its audit log has the id of the original. Run `keys_ship --moved` if it"
            " replaces the original, or `keys_ship --new-log` if both go on."
        )
    return None


def _begin_now(connection: BaseDatabaseWrapper) -> str:
    """Begin the log outside `migrate`."""
    # In a transaction that is rolled back, the stream would keep an id that nobody has.
    if not connection.in_atomic_block:
        with suppress(Error):
            return _begin(connection.alias)
    raise LogIdentityError("The audit log has no id: run `manage.py migrate`.")


def _begin(alias: str) -> str:
    log: UUID = uuid4()
    try:
        with transaction.atomic(using=alias):
            AuditLog._base_manager.using(alias).create(identity=log, home=_home(connections[alias]))
    except IntegrityError:
        # Another process was faster.
        found = _find(alias)
        if found is None:
            raise
        return found
    return str(log)


def _home(connection: BaseDatabaseWrapper) -> str:
    """Return the server's number, the database's name and the schema; only the vendor where streams do not go."""
    if connection.vendor != "postgresql":
        return f"{UNKNOWN}/{connection.vendor}"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_database(), CAST(relnamespace AS regnamespace)::text,"
            " has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE')"
            " FROM pg_class WHERE oid = CAST(%s AS regclass)",
            [AuditLog._meta.db_table],
        )
        database, schema, tells = cursor.fetchone()
        server: Any = UNKNOWN
        if tells:
            cursor.execute("SELECT system_identifier FROM pg_control_system()")
            (server,) = cursor.fetchone()
    return f"{server}/{database}/{schema}"


def _is_same(made_in: str, home: str) -> bool:
    (server, _, place), (other_server, _, other_place) = made_in.partition("/"), home.partition("/")
    return place == other_place and (server == other_server or UNKNOWN in (server, other_server))
