"""Count what one request asks of the database. Runs in a process of its own, so that no timed request is watched."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from tests.benchmarks import worker
from tests.benchmarks.guards import Case, configured_guard

# More than the whole rows that one network's refusals may leave.
WARM_UP = 10


@dataclass(frozen=True)
class Trace:
    """Averages per request."""

    # Through Django's cursors, raw SQL included, BEGIN and COMMIT not.
    statements: float
    # As the driver sees them, BEGIN and COMMIT included: round trips on PostgreSQL, statements on SQLite.
    exchanges: float
    # Rows left in the guard's own audit log, and requests that those rows stand for.
    audit_rows: float
    audited: float


class Watch:
    """Everything that every connection of this process, in any thread, asks of the database."""

    def __init__(self) -> None:
        self.statements = 0
        self._statements_of_sqlite = 0
        # Connections of psycopg, each with the file that libpq writes its messages to.
        self._protocols: list[tuple[Any, IO[bytes]]] = []

    def attach(self, connection: Any, **kwargs: object) -> None:
        """Watch a connection; a receiver of `connection_created`."""
        if self._count_statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._count_statement)
        if connection.vendor == "sqlite":
            connection.connection.set_trace_callback(self._count_sqlite)
        else:
            protocol = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the connection
            connection.connection.pgconn.trace(protocol.fileno())
            self._protocols.append((connection.connection, protocol))

    def exchanges(self) -> int:
        """How many times the server, or SQLite, has answered so far."""
        answered = self._statements_of_sqlite
        for psycopg_connection, protocol in self._protocols:
            # libpq writes out what it holds back when it is told to stop, or when the connection is closed.
            is_open = not psycopg_connection.closed
            if is_open:
                psycopg_connection.pgconn.untrace()
            protocol.seek(0)
            answered += protocol.read().count(b"\tReadyForQuery\t")
            if is_open:
                psycopg_connection.pgconn.trace(protocol.fileno())
        return answered

    def _count_statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        self.statements += 1
        return execute(sql, params, many, context)

    def _count_sqlite(self, statement: str) -> None:
        # Statements inside triggers are reported as comments.
        self._statements_of_sqlite += not statement.startswith("--")


def trace(case: Case, requests: int) -> Trace:
    """Serve so many requests under watch, after some that open the connections."""
    from django.db.backends.signals import connection_created

    watch = Watch()
    connection_created.connect(watch.attach)
    worker.run(case, WARM_UP)
    rows, audited = audit_log()
    statements, exchanges = watch.statements, watch.exchanges()
    worker.run(case, requests)
    statements, exchanges = watch.statements - statements, watch.exchanges() - exchanges
    rows_after, audited_after = audit_log()
    return Trace(
        statements / requests,
        exchanges / requests,
        (rows_after - rows) / requests,
        (audited_after - audited) / requests,
    )


def audit_log() -> tuple[int, int]:
    """Return how many rows the guard's audit log holds, and how many requests those stand for."""
    from django.apps import apps
    from django.db.models import Sum

    if (label := configured_guard().audit_model) is None:
        return 0, 0
    rows = apps.get_model(label)._base_manager
    number = rows.count()
    counted = any(field.name == "count" for field in rows.model._meta.concrete_fields)
    return number, rows.aggregate(total=Sum("count"))["total"] or 0 if counted else number
