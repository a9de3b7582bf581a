"""What one use of a key takes on disk, with its indexes, after real requests."""

from typing import Any

from tests.benchmarks import worker
from tests.benchmarks.databases import databases
from tests.benchmarks.guards import OURS, Case
from tests.benchmarks.processes import Service

KEYS = 100


def check(engine: str, server_url: str, uses: int) -> dict[str, Any]:
    """Return bytes per use of the table and of each index, as the requests left them and after VACUUM FULL."""
    with databases(engine, server_url) as create, Service(OURS.name, create("size")) as service:
        case = Case("good key", service.call(worker.build, KEYS))
        log_before = service.call(write_ahead_position)
        service.call(worker.run, case, uses)
        written = service.call(write_ahead_position) - log_before
        found = service.call(sizes)
        service.call(compact)
        compacted = service.call(sizes)
    return {
        "engine": engine,
        "uses": uses,
        "bytes_per_use": {name: size / uses for name, size in found.items()},
        "bytes_per_use_compacted": {name: size / uses for name, size in compacted.items()},
        "write_ahead_log_bytes_per_use": written / uses if written else None,
    }


def sizes() -> dict[str, int]:
    """Return the bytes of the audit log's table and of each of its indexes, those of all partitions together."""
    from django.db import connection

    from keys.models import AuditEvent

    statements = {
        "postgresql": """
            SELECT relname, sum(pg_relation_size(relid)) FROM pg_class, pg_partition_tree(pg_class.oid)
            WHERE pg_class.oid = %s::regclass
               OR pg_class.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = %s::regclass)
            GROUP BY relname
        """,
        "sqlite": """
            SELECT name, sum(pgsize) FROM dbstat
            WHERE name IN (SELECT name FROM sqlite_master WHERE %s IN (name, tbl_name) AND tbl_name = %s)
            GROUP BY name
        """,
    }
    table = AuditEvent._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(statements[connection.vendor], [table, table])
        return {name: int(size) for name, size in cursor.fetchall()}


def compact() -> None:
    """Rewrite the database without the room that updates left behind."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM FULL" if connection.vendor == "postgresql" else "VACUUM")


def write_ahead_position() -> int:
    """Return how many bytes PostgreSQL has written to its write-ahead log so far; 0 on SQLite, which reuses its own."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        return int(cursor.fetchone()[0])
