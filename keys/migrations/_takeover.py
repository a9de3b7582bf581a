"""Is the table that `migrate` finds the one of the system that this app replaces? Looks at it, and changes nothing.

Asked before the first migration of any app, and again by the migrations themselves, for those who run them in another
way.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.core.management import CommandError
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from ..conf import conf
from ._dependents import dependents, mentions, uses

TABLE = "keys_apikey"
TAKES_OVER = "0002_scopes_expiry_rotation_audit"

# The types of the old columns, as any release of Django has made them.
TYPES: dict[str, dict[str, set[str]]] = {
    "sqlite": {
        "id": {"integer"},
        "name": {"varchar(100)"},
        "key": {"varchar(40)"},
        "is_active": {"bool"},
        "created_at": {"datetime"},
    },
    "postgresql": {
        "id": {"bigint", "integer"},
        "name": {"character varying(100)"},
        "key": {"character varying(40)"},
        "is_active": {"boolean"},
        "created_at": {"timestamp with time zone"},
    },
    "mysql": {
        "id": {"bigint", "int"},
        "name": {"varchar(100)"},
        "key": {"varchar(40)"},
        "is_active": {"tinyint(1)"},
        "created_at": {"datetime(6)", "datetime"},
    },
}

# Is it a table, and not a view or the like? No row where there is nothing of that name.
IS_TABLE = {
    "sqlite": "SELECT type = 'table' FROM sqlite_master WHERE name = %s COLLATE NOCASE AND type <> 'trigger'",
    "postgresql": "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)",
    "mysql": "SELECT table_type = 'BASE TABLE' AND create_options NOT LIKE '%%partitioned%%' FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_name = %s",
}

# Of each column: its name, its type, whether it may be null, and whether the database can fill it in.
COLUMNS = {
    "sqlite": 'SELECT name, type, NOT "notnull", dflt_value IS NOT NULL OR pk OR hidden FROM pragma_table_xinfo(%s)',
    "postgresql": "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, atthasdef OR attidentity <> ''"
    " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    "mysql": "SELECT column_name, column_type, is_nullable = 'YES',"
    " column_default IS NOT NULL OR extra LIKE '%%auto_increment%%' OR extra LIKE '%%GENERATED%%'"
    " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position",
}

# What Django does not copy there when it changes a table.
SQLITE_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s COLLATE NOCASE"
SQLITE_WITHOUT_ROWID = (
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = %s COLLATE NOCASE AND sql LIKE '%%WITHOUT ROWID%%'"
)


# What later migrations change in a way that other things in the database may stop: columns that get another type, and on
# SQLite tables that Django copies.
RETYPED = {
    "0007_foreign_keys": {"postgresql": [("keys_apikey", "prefix"), ("keys_auditevent", "key_prefix")]},
}
COPIED = {
    "0005_log_formats": {"sqlite": ["keys_auditseal"]},
    "0006_owners": {"sqlite": ["keys_apikey", "keys_auditevent"]},
}


class Column(NamedTuple):
    name: str
    type: str
    may_be_null: bool
    is_filled_in: bool


def look_before_migrating(*, using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: object) -> None:
    """Receiver of `pre_migrate`: refuse before any app's first migration. Raises CommandError."""
    steps = {migration.name for migration, backwards in plan if migration.app_label == "keys" and not backwards}
    connection = connections[using]
    if connection.vendor not in TYPES or not router.allow_migrate(using, "keys", model_name="apikey"):
        return
    if TAKES_OVER not in steps:
        _refuse_change([clause for step in sorted(steps) for clause in _in_the_way_of(step, connection)])
        return
    conf.DEFAULT_SCOPES  # noqa: B018  which the rows will get: raises ImproperlyConfigured
    if "0001_initial" in steps and _is_free(connection, TABLE):
        _refuse(_tables_in_the_way(connection))
    # `migrate --fake` of tables that are today's already is nothing to stop.
    elif not _todays_columns() <= {column.name for column in _columns(connection)}:
        _refuse(differences(connection))


def refuse_another_table(app_registry: Any, schema_editor: Any) -> None:
    """Operation before the takeover. Raises CommandError."""
    _refuse(differences(schema_editor.connection))


def refuse_any_table(app_registry: Any, schema_editor: Any) -> None:
    """Operation before the tables are made. Raises CommandError."""
    connection = schema_editor.connection
    if _is_free(connection, TABLE):
        _refuse(_tables_in_the_way(connection))
        return
    _refuse(differences(connection))
    raise CommandError(
        f"There is a table {TABLE} already, of which django_migrations does not know. If it is the table of plain keys"
        " that this app takes over, run migrate with --fake-initial. Nothing of it has been changed."
    )


def _refuse(found: list[str]) -> None:
    if found:
        raise CommandError(
            f"The keys app cannot take over this database: {'; '.join(found)}. Nothing of it has been changed. The"
            " manual says under “Upgrading from a table of plain keys” which table is expected."
        )


def _in_the_way_of(step: str, connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Yield a clause for each thing that would stop a later migration, or be lost by it."""
    for table, column in RETYPED.get(step, {}).get(connection.vendor, []):
        yield from uses(connection, table, column)
    for table in COPIED.get(step, {}).get(connection.vendor, []):
        yield from mentions(connection, table)
        for (name,) in _rows(connection, SQLITE_TRIGGERS, table):
            if not name.startswith(f"{table}_no_"):  # those of keys_guard come back
                yield f"{table} has a trigger, {name}, which would be lost"


def _refuse_change(found: list[str]) -> None:
    if found:
        raise CommandError(
            f"The keys app cannot change its tables: {'; '.join(dict.fromkeys(found))}. Drop it before, and make it"
            " again after. Nothing has been changed."
        )


def differences(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what makes the database another one than the old system's: clauses, each naming a table."""
    if connection.vendor not in TYPES:
        return []
    is_table = _present(connection, TABLE)
    if not is_table:
        what = "there is no table" if is_table is None else "a view, or something else that is no plain table, is named"
        return [f"{what} {TABLE}"]
    return [
        *_differences_of_columns(connection),
        *_other_rules(connection),
        *dependents(connection, TABLE),
        *_tables_in_the_way(connection),
    ]


def _differences_of_columns(connection: BaseDatabaseWrapper) -> Iterator[str]:
    expected, columns = TYPES[connection.vendor], {column.name: column for column in _columns(connection)}
    for name, types in expected.items():
        column = columns.get(name)
        if column is None:
            yield f"{TABLE} has no column {name}"
        elif column.type not in types:
            yield f"{TABLE}.{name} is {column.type} and not {' or '.join(sorted(types))}"
        elif column.may_be_null and not (name == "id" and connection.vendor == "sqlite"):
            yield f"{TABLE}.{name} may be null"
        elif name == "id" and not column.is_filled_in:
            yield f"{TABLE}.id is not numbered by the database"
    for column in columns.values():
        if column.name not in expected:
            yield from _objections_to_another(column, connection.vendor)


def _objections_to_another(column: Column, vendor: str) -> Iterator[str]:
    if column.name.lower() in _todays_columns():
        yield f"{TABLE} has a column {column.name} already"
    elif not (column.may_be_null or column.is_filled_in):
        yield f"{TABLE} has one more column, {column.name}, that must be filled"
    elif vendor == "sqlite":
        # Django changes a table there by copying what it knows of it.
        yield f"{TABLE} has one more column, {column.name}, which would be lost"


def _other_rules(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Yield what the table demands of its rows beyond the old system's rules, and new keys might not obey."""
    with connection.cursor() as cursor:
        rules = connection.introspection.get_constraints(cursor, TABLE)
    if not any(rule["primary_key"] and rule["columns"] == ["id"] for rule in rules.values()):
        yield f"the primary key of {TABLE} is not id"
    for name, rule in rules.items():
        is_known = rule["primary_key"] or (rule["unique"] and rule["columns"] in (["id"], ["key"]))
        if rule["check"] or (rule["unique"] and not is_known):
            yield f"{TABLE} has a constraint of its own, {name}"
        elif rule["foreign_key"] and not TYPES[connection.vendor].keys().isdisjoint(rule["columns"]):
            yield f"{TABLE} has a foreign key of its own, {name}"
    if connection.vendor == "sqlite":
        if _rows(connection, SQLITE_WITHOUT_ROWID, TABLE):
            yield f"{TABLE}.id is not numbered by the database"
        for (name,) in _rows(connection, SQLITE_TRIGGERS, TABLE):
            yield f"{TABLE} has a trigger, {name}, which would be lost"


def _tables_in_the_way(connection: BaseDatabaseWrapper) -> list[str]:
    """Return what stands where the other tables of this app, and their indexes, will be made."""
    models = list(apps.get_app_config("keys").get_models())
    tables = {model._meta.db_table for model in models} - {TABLE}
    if connection.vendor == "sqlite":
        tables.add(f"new__{TABLE}")  # where Django makes the changed table; a crash may have left one
    found = [f"there is a table {name} already" for name in sorted(tables) if not _is_free(connection, name)]
    if connection.vendor == "mysql":  # each table has names of its own for its indexes
        return found
    indexes = {each.name for model in models for each in (*model._meta.indexes, *model._meta.constraints)}
    return [*found, *(f"the name {name} is taken" for name in sorted(indexes) if not _is_free(connection, name))]


def _todays_columns() -> set[str]:
    return {str(field.column) for field in apps.get_model("keys", "APIKey")._meta.concrete_fields}


def _is_free(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Tell whether the name is free where a new table is made; PostgreSQL finds those of other schemas too."""
    if connection.vendor == "postgresql":
        ((table,),) = _rows(connection, "SELECT quote_ident(current_schema()) || '.' || quote_ident(%s)", table)
    return _present(connection, table) is None


def _present(connection: BaseDatabaseWrapper, table: str) -> bool | None:
    """Tell whether the name is that of a table (True), or of a view or the like (False); None if it is free."""
    if connection.vendor not in IS_TABLE:
        return None
    rows = _rows(connection, IS_TABLE[connection.vendor], table)
    return bool(rows[0][0]) if rows else None


def _columns(connection: BaseDatabaseWrapper) -> list[Column]:
    return [
        Column(name, _type(kind), bool(may_be_null), bool(is_filled_in))
        for name, kind, may_be_null, is_filled_in in _rows(connection, COLUMNS[connection.vendor], TABLE)
    ]


def _type(text: str) -> str:
    """Return a type as `TYPES` writes it. MariaDB names a width of numbers, and SQLite keeps blanks: they mean nothing."""
    return re.sub(r"^(big)?int\(\d+\)", r"\1int", re.sub(r"\s*([()])\s*", r"\1", text.lower()))


def _rows(connection: BaseDatabaseWrapper, statement: str, table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [table])
        return list(cursor.fetchall())
