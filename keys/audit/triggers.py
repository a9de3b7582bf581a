"""Makes the database keep the audit log append-only, by triggers and by the rights of a role. Both are opt-in."""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import APIKey, AuditEvent, AuditSeal
from ..models.audit_event import OUTCOME, TRAFFIC
from .places import beside_tables, place_of

Event = AuditEvent.Event

LOG, SEALS = AuditEvent._meta.db_table, AuditSeal._meta.db_table
GROWING = (*OUTCOME, "count")  # the columns that may be updated: an outcome, and the count of a flood
REFUSED = "The audit log is append-only"
FUNCTION = "keys_append_only"


class TriggerError(Exception):
    """The triggers or rights are not possible here. The text is a sentence that gives the reason."""


def install(keep: timedelta | None = None) -> None:
    """Create the triggers, replacing existing ones. Rows older than `keep` may be deleted; without it, none may.

    Raises TriggerError if the database is neither PostgreSQL nor SQLite.
    """
    alias = _connection("postgresql", "sqlite").alias
    function = (
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '{REFUSED}: % is refused.', TG_OP USING ERRCODE = 'restrict_violation'; END $$"
    )
    with beside_tables(alias) as connection, transaction.atomic(using=alias), connection.cursor() as cursor:
        wanted = _triggers(connection, keep)
        for statement in [
            *([function] if connection.vendor == "postgresql" else []),
            *(_drop(connection, table, name) for name, (table, _) in wanted.items()),
            *(text for _, text in wanted.values()),
        ]:
            cursor.execute(statement)


def remove() -> None:
    """Drop the triggers that exist. Raises TriggerError as `install` does."""
    alias = _connection("postgresql", "sqlite").alias
    with beside_tables(alias) as connection, transaction.atomic(using=alias), connection.cursor() as cursor:
        for name, (table, _) in _triggers(connection, None).items():
            cursor.execute(_drop(connection, table, name))
        if connection.vendor == "postgresql":
            cursor.execute(f"DROP FUNCTION IF EXISTS {_schema(connection)}{FUNCTION}()")


def missing() -> list[str]:
    """Return the triggers that do not exist or, on PostgreSQL, are disabled on any partition. Raises TriggerError."""
    connection = _connection("postgresql", "sqlite")
    names = list(_triggers(connection, None))
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute(
                "SELECT tgname FROM pg_trigger WHERE tgrelid IN (CAST(%s AS regclass), CAST(%s AS regclass)) OR tgrelid"
                " IN (SELECT relid FROM pg_partition_tree(CAST(%s AS regclass))) GROUP BY tgname"
                " HAVING bool_and(tgenabled IN ('O', 'A'))",
                [LOG, SEALS, LOG],
            )
        found = {name for (name,) in cursor.fetchall()}
    return [name for name in names if name not in found]


def grants(role: str) -> list[str]:
    """Return the SQL for a role of PostgreSQL that may write and read the log but not alter it: the web processes'.

    Raises TriggerError for another database, or for a name that cannot be quoted.
    """
    connection = _connection("postgresql")
    quote, schema = connection.ops.quote_name, _schema(connection)
    if not role or '"' in role or "\0" in role:
        raise TriggerError("That is not the name of a role.")
    columns = [str(field.column) for field in AuditEvent._meta.concrete_fields]
    written = ", ".join(quote(column) for column in columns if column != "id")
    grown = ", ".join(map(quote, GROWING))
    log, seals, keys = (f"{schema}{quote(name)}" for name in (LOG, SEALS, APIKey._meta.db_table))
    role = quote(role)
    return [
        f"REVOKE ALL ON {log}, {seals} FROM {role};",
        f"GRANT SELECT, INSERT ({written}), UPDATE ({grown}) ON {log} TO {role};",
        f"GRANT SELECT ON {keys} TO {role};",
    ]


def _connection(*vendors: str) -> BaseDatabaseWrapper:
    connection = connections[router.db_for_write(AuditEvent)]
    if connection.vendor not in vendors:
        known = " and ".join({"postgresql": "PostgreSQL", "sqlite": "SQLite"}[vendor] for vendor in vendors)
        raise TriggerError(f"This is for {known}, and the log is in {connection.display_name}.")
    return connection


def _schema(connection: BaseDatabaseWrapper) -> str:
    """Return the tenant's schema and a dot, so that SQL does not mean what the public schema has; else nothing."""
    schema = place_of(connection).schema
    return f"{connection.ops.quote_name(schema)}." if schema else ""


def _drop(connection: BaseDatabaseWrapper, table: str, name: str) -> str:
    on = f" ON {connection.ops.quote_name(table)}" if connection.vendor == "postgresql" else ""
    return f"DROP TRIGGER IF EXISTS {name}{on}"


def _triggers(connection: BaseDatabaseWrapper, keep: timedelta | None) -> dict[str, tuple[str, str]]:
    """Return each trigger's table and SQL, by its name."""
    quote, is_postgresql = connection.ops.quote_name, connection.vendor == "postgresql"
    action = f"EXECUTE FUNCTION {FUNCTION}()" if is_postgresql else f"BEGIN SELECT RAISE(ABORT, '{REFUSED}.'); END"

    def trigger(table: str, operation: str, condition: str = "") -> tuple[str, tuple[str, str]]:
        name = f"{table}_no_{operation.lower()}"
        scope = "STATEMENT" if operation == "TRUNCATE" else "ROW"
        when = f" WHEN ({condition})" if condition else ""
        text = f"CREATE TRIGGER {name} BEFORE {operation} ON {quote(table)} FOR EACH {scope}{when} {action}"
        return name, (table, text)

    triggers = [
        trigger(LOG, "UPDATE", f"NOT ({_permitted_update(connection)})"),
        trigger(LOG, "DELETE", "" if keep is None else _is_younger(connection, keep)),
        trigger(SEALS, "UPDATE"),
        trigger(SEALS, "DELETE"),
    ]
    for table, key in ((LOG, "id"), (SEALS, "number")):
        if is_postgresql:
            triggers.append(trigger(table, "TRUNCATE"))
        else:
            # REPLACE deletes an existing row without firing the DELETE triggers.
            taken = f"EXISTS (SELECT 1 FROM {quote(table)} WHERE {quote(key)} = NEW.{quote(key)})"  # noqa: S608
            triggers.append(trigger(table, "INSERT", taken))
    return dict(triggers)


def _permitted_update(connection: BaseDatabaseWrapper) -> str:
    """Return the condition under which a row may be updated: an outcome, once, or a growing count."""
    quote = connection.ops.quote_name
    is_same = "IS NOT DISTINCT FROM" if connection.vendor == "postgresql" else "IS"

    def same(columns: Iterable[str]) -> str:
        return " AND ".join(f"NEW.{quote(column)} {is_same} OLD.{quote(column)}" for column in columns)

    fixed = (str(field.column) for field in AuditEvent._meta.concrete_fields if field.column not in GROWING)
    old_event, new_event, old_status, new_status = (
        f"{row}.{quote(column)}" for column in ("event", "status") for row in ("OLD", "NEW")
    )
    uses = ", ".join(f"'{event.value}'" for event in TRAFFIC)
    gets_outcome = f"{old_event} = '{Event.USED.value}' AND {old_status} IS NULL AND {new_status} IS NOT NULL"
    outcome = f"{gets_outcome} AND {new_event} IN ({uses}) AND {same(['count'])}"
    count_grows = f"{old_event} = '{Event.REFUSED.value}' AND NEW.{quote('count')} > OLD.{quote('count')}"
    # Writing the same outcome again, after a write of unknown result, changes nothing and is allowed.
    return f"{same(fixed)} AND ({outcome} OR ({same(OUTCOME)} AND ({same(['count'])} OR {count_grows})))"


def _is_younger(connection: BaseDatabaseWrapper, keep: timedelta) -> str:
    seconds, at = int(keep.total_seconds()), f"OLD.{connection.ops.quote_name('at')}"
    if connection.vendor == "postgresql":
        return f"{at} >= CURRENT_TIMESTAMP - INTERVAL '{seconds} seconds'"
    if connection.timezone_name not in {"UTC", settings.TIME_ZONE}:
        raise TriggerError(
            f"SQLite cannot tell how old a row is, as DATABASES keeps its time in {connection.timezone_name} and "
            f"TIME_ZONE is {settings.TIME_ZONE}: leave --keep out, or make the two the same."
        )
    zone = "" if connection.timezone_name == "UTC" else ", 'localtime'"
    return f"{at} >= strftime('%Y-%m-%d %H:%M:%f', 'now', '-{seconds} seconds'{zone})"
