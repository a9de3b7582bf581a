"""What uses the old table, and would stop the takeover half way or be broken by it? Looks at it, and changes nothing."""

import re
from collections.abc import Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

# What uses a column whose type changes; each row is a description of one thing.
USES = {
    "sqlite": "SELECT 'a foreign key of ' || other.name FROM sqlite_master AS other, pragma_foreign_key_list(other.name)"
    ' AS link WHERE other.type = \'table\' AND lower(link."table") = %(table)s AND lower(link."to") = %(column)s',
    # Of a partition's column as well. Indexes, constraints and statistics of the table itself follow the column, and the
    # triggers of keys_guard are taken away by the migration.
    "postgresql": "SELECT DISTINCT pg_describe_object(classid, objid, objsubid) FROM pg_depend JOIN pg_attribute"
    " ON attrelid = refobjid AND attnum = refobjsubid WHERE refclassid = 'pg_class'::regclass AND (refobjid ="
    " to_regclass(%(table)s) OR refobjid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(table)s)))"
    " AND attname = %(column)s AND classid <> 'pg_statistic_ext'::regclass"
    " AND NOT EXISTS (SELECT FROM pg_class WHERE classid = 'pg_class'::regclass AND oid = objid AND relkind IN ('i', 'I', 'S'))"
    " AND NOT EXISTS (SELECT FROM pg_constraint WHERE classid = 'pg_constraint'::regclass AND oid = objid AND contype <> 'f')"
    " AND NOT EXISTS (SELECT FROM pg_attrdef WHERE classid = 'pg_attrdef'::regclass AND oid = objid AND adnum = attnum)"
    " AND NOT EXISTS (SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
    " WHERE classid = 'pg_trigger'::regclass AND pg_trigger.oid = objid AND proname = 'keys_append_only')"
    " ORDER BY 1",
    "mysql": "SELECT CONCAT('foreign key ', constraint_name, ' of ', table_name) FROM information_schema.key_column_usage"
    " WHERE referenced_table_schema = DATABASE() AND referenced_table_name = %(table)s"
    " AND referenced_column_name = %(column)s"
    " UNION ALL SELECT CONCAT('generated column ', column_name) FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = %(table)s AND generation_expression LIKE"
    " CONCAT('%%`', %(column)s, '`%%')",
}

# Django changes a table there by making it anew under its name, which SQLite refuses where these mention it.
SQLITE_MENTIONS = (
    "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') AND lower(tbl_name) <> %s"
)

# Rules that Django's introspection leaves out.
EXCLUSIONS = "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'x'"
HIDES_ROWS = "SELECT 1 FROM pg_class WHERE oid = to_regclass(%s) AND relrowsecurity AND relforcerowsecurity"


def dependents(connection: BaseDatabaseWrapper, table: str) -> Iterator[str]:
    """Yield a clause for each thing that has to be taken away before the table can be taken over."""
    yield from uses(connection, table, "key")
    if connection.vendor == "postgresql":
        yield from [f"{table} has a constraint of its own, {name}" for (name,) in _rows(connection, EXCLUSIONS, table)]
        if _rows(connection, HIDES_ROWS, table):
            yield f"{table} has forced row level security, which may hide rows with plain keys"
    elif connection.vendor == "sqlite":
        yield from mentions(connection, table)


def uses(connection: BaseDatabaseWrapper, table: str, column: str) -> Iterator[str]:
    """Yield a clause for each thing that uses the column, and would not let its type be changed."""
    with connection.cursor() as cursor:
        cursor.execute(USES[connection.vendor], {"table": table, "column": column})
        yield from [f"{what} uses {table}.{column}" for (what,) in cursor.fetchall()]


def mentions(connection: BaseDatabaseWrapper, table: str) -> Iterator[str]:
    """Yield a clause for each view, and each trigger of another table, that names the table. For SQLite."""
    mention = re.compile(rf"\b{table}\b", re.IGNORECASE)
    for kind, name, sql in _rows(connection, SQLITE_MENTIONS, table):
        if mention.search(sql):
            yield f"the {kind} {name} uses {table}"


def _rows(connection: BaseDatabaseWrapper, statement: str, table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [table])
        return list(cursor.fetchall())
