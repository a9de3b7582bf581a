"""What uses the old table, and would stop the takeover half way or be broken by it? Looks at it, and changes nothing."""

import re
from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

# What uses the column `key`, whose type and values change; each row is a description of one thing.
USES_OF_KEY = {
    "sqlite": "SELECT 'a foreign key of ' || other.name FROM sqlite_master AS other, pragma_foreign_key_list(other.name)"
    " AS link WHERE other.type = 'table' AND lower(link.\"table\") = %s AND lower(link.\"to\") = 'key'",
    # Indexes, constraints and statistics of the table itself follow the column.
    "postgresql": "SELECT DISTINCT pg_describe_object(classid, objid, objsubid) FROM pg_depend JOIN pg_attribute"
    " ON attrelid = refobjid AND attnum = refobjsubid WHERE refclassid = 'pg_class'::regclass"
    " AND refobjid = to_regclass(%s) AND attname = 'key' AND classid <> 'pg_statistic_ext'::regclass"
    " AND NOT EXISTS (SELECT FROM pg_class WHERE classid = 'pg_class'::regclass AND oid = objid AND relkind IN ('i', 'I', 'S'))"
    " AND NOT EXISTS (SELECT FROM pg_constraint WHERE classid = 'pg_constraint'::regclass AND oid = objid AND contype <> 'f')"
    " AND NOT EXISTS (SELECT FROM pg_attrdef WHERE classid = 'pg_attrdef'::regclass AND oid = objid AND adnum = attnum)"
    " ORDER BY 1",
    "mysql": "SELECT CONCAT('foreign key ', constraint_name, ' of ', table_name) FROM information_schema.key_column_usage"
    " WHERE referenced_table_schema = DATABASE() AND referenced_table_name = %s AND referenced_column_name = 'key'"
    " UNION ALL SELECT CONCAT('generated column ', column_name) FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = %s AND generation_expression LIKE '%%`key`%%'",
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
    with connection.cursor() as cursor:
        statement = USES_OF_KEY[connection.vendor]
        cursor.execute(statement, [table] * statement.count("%s"))
        yield from [f"{what} uses {table}.key" for (what,) in cursor.fetchall()]
        if connection.vendor == "postgresql":
            cursor.execute(EXCLUSIONS, [table])
            yield from [f"{table} has a constraint of its own, {name}" for (name,) in cursor.fetchall()]
            cursor.execute(HIDES_ROWS, [table])
            if cursor.fetchall():
                yield f"{table} has forced row level security, which may hide rows with plain keys"
        elif connection.vendor == "sqlite":
            cursor.execute(SQLITE_MENTIONS, [table])
            mention = re.compile(rf"\b{table}\b", re.IGNORECASE)
            yield from [
                f"the {kind} {name} uses {table}" for kind, name, sql in cursor.fetchall() if mention.search(sql)
            ]
