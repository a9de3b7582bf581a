"""Fill a guard's tables in SQL: a million keys in seconds, of which a sample is real."""

from django.apps import apps
from django.db import connection, models
from django.utils import timezone

from tests.benchmarks.guards import Guard, Headers, Rows

# Real keys lie between equal shares of made-up ones, so that a look-up meets all parts of an index.
SAMPLE = 20
# One transaction of millions of rows would leave SQLite with a write-ahead log of gigabytes.
AUDIT_CHUNK = 250_000

# An odd factor modulo a power of two maps every number to a different one: distinct tags in no order.
# The moment so many seconds after 1970.
_MOMENT = {
    "postgresql": "to_timestamp({})",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', {}, 'unixepoch')",
}
_SERIES = {
    "postgresql": """
        SELECT n, lpad(to_hex((n * 2654435761) %% 4294967296), 8, '0') AS tag,
               md5(n::text) AS hex, md5('uuid' || n)::uuid AS uuid
        FROM generate_series(%s::bigint, %s::bigint) AS n
    """,
    "sqlite": """
        WITH RECURSIVE numbers(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)
        SELECT n, printf('%%08x', (n * 2654435761) %% 4294967296) AS tag,
               lower(hex(randomblob(16))) AS hex, lower(hex(randomblob(16))) AS uuid
        FROM numbers
    """,
}


def fill(guard: Guard, keys: int) -> list[Headers]:
    """Make so many keys in all, on empty tables; return what a client sends with each of the real ones."""
    real = min(keys, SAMPLE)
    share = keys // real
    presentations = []
    for number in range(1, real * share + 1, share):
        presentations.append(guard.issue(number))
        for rows in guard.rows:
            multiply(rows, number + 1, number + share - 1)
    settle()
    return presentations


def fill_audit_log(keys: int, rows: int) -> None:
    """Copy the first row of this app's audit log, its uses spread over the keys and over the month until now.

    On PostgreSQL a month is a partition, so all of them lie in the one that is written to.
    """
    now = timezone.now()
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    moment = f"{month.timestamp()} + n * {(now - month).total_seconds() / rows}"
    events = Rows(
        "keys.AuditEvent", {"at": _MOMENT[connection.vendor].format(moment), "api_key_id": f"1 + n %% {keys}"}
    )
    for first in range(1, rows + 1, AUDIT_CHUNK):
        multiply(events, first, min(first + AUDIT_CHUNK - 1, rows))
    settle()


def multiply(rows: Rows, first: int, last: int) -> None:
    """Copy the first row of a table once for each number from first to last."""
    if last < first:
        return
    model: type[models.Model] = apps.get_model(rows.model)
    columns = {
        column: rows.distinct.get(column, f"template.{connection.ops.quote_name(column)}")
        for field in model._meta.concrete_fields
        if (column := field.column) and (not isinstance(field, models.AutoField) or column in rows.distinct)
    }
    table = connection.ops.quote_name(model._meta.db_table)
    names = ", ".join(map(connection.ops.quote_name, columns))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(columns.values())} "
            f"FROM (SELECT * FROM {table} LIMIT 1) AS template, ({_SERIES[connection.vendor]}) AS series",
            [first, last],
        )


def settle() -> None:
    """Bring a freshly filled database to rest, so that its vacuum and checkpoint fall into no measurement."""
    statements = {
        "postgresql": ["VACUUM ANALYZE", "CHECKPOINT"],
        "sqlite": ["ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"],
    }
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)
