"""A cursor for PostgreSQL that prepares its statements on the server. Needs psycopg 3."""

from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper


class PreparedCursor(psycopg.Cursor[Any]):
    """psycopg's own cursor, which Django does not use by default, told to keep each statement's plan."""

    def execute(self, query: Any, params: Any = None, **kwargs: Any) -> "PreparedCursor":
        # Django switches preparing off for the connection; this is for these statements alone.
        threshold, self.connection.prepare_threshold = self.connection.prepare_threshold, 0
        try:
            return super().execute(query, params, prepare=True, **kwargs)
        finally:
            self.connection.prepare_threshold = threshold


def is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a pooler stands before the server: it names another process than the one that runs the query."""
    connection.ensure_connection()
    own: Any = connection.connection
    with connection.wrap_database_errors:
        (pid,) = own.execute("SELECT pg_backend_pid()").fetchone()
    return bool(pid != own.info.backend_pid)


def prepared_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return such a cursor on Django's connection, seen by everything that wraps the execution of its queries."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor: Any = PreparedCursor(connection.connection)
    return connection.make_cursor(cursor)
