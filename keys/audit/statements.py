"""Runs the SQL of requests and of shippers: finds keys, writes rows of the log, and tells what came of it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, TypeVar

from django.db import Error, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from ..models import APIKey
from ..models.audit_event import Row, described
from .outcomes import Batch, Outcome, RowHandle
from .sql import EVENT_NAMES, KEY_FIELDS, KEY_NAMES, OWN_NAMES, SHIPPED_NAMES, dialect_of

Result = TypeVar("Result")
# A key, and the handle of the row that records its use where one was written with the look-up.
Found = tuple[APIKey | None, RowHandle | None]

# What PostgreSQL says of a prepared statement that the project's own SQL, or a pooler in between, took away or made.
LOST_STATEMENT = {"26000", "42P05"}


class Database:
    """What is known of one database: its SQL, and how its values are read and its statements run."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.sql = dialect_of(connection)(connection)
        compiler = APIKey._base_manager.all().query.get_compiler(connection=connection)
        self.converters = compiler.get_converters([field.get_col(APIKey._meta.db_table) for field in KEY_FIELDS])
        # Planning takes PostgreSQL longer than running, so the plan is kept: once on a connection, not once a
        # request. Not through a transaction pooler, where the next statement meets the plans of somebody else under
        # the same names: its users should set DISABLE_SERVER_SIDE_CURSORS. None until a connection has been asked.
        self.prepares: bool | None = None
        if (
            not self.sql.prepares
            or connection.Database.__name__ != "psycopg"  # type: ignore[attr-defined]
            or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        ):
            self.prepares = False

    def cursor(self, connection: BaseDatabaseWrapper) -> Any:
        # A log of queries can show what Django's own cursor sent, and not what was prepared.
        if self.prepares is False or connection.queries_logged:
            return connection.cursor()
        if self.prepares is None:
            self.prepares = not _is_pooled(connection)
        return _prepared_cursor(connection) if self.prepares else connection.cursor()

    def key(self, connection: BaseDatabaseWrapper, values: Sequence[Any]) -> APIKey:
        """Return the key of a row as the database gave it."""
        row = list(values[: len(KEY_FIELDS)])
        for position, (converters, expression) in self.converters.items():
            for convert in converters:
                row[position] = convert(row[position], expression, connection)
        return APIKey.from_db(connection.alias, KEY_NAMES, row)


@cache
def _prepared_cursor_class() -> type[Any]:
    """Return psycopg's own cursor, which Django does not use by default, told to keep each statement's plan."""
    import psycopg

    class PreparedCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **kwargs: Any) -> "PreparedCursor":
            # Django switches preparing off for the connection; this is for these statements alone.
            threshold, self.connection.prepare_threshold = self.connection.prepare_threshold, 0
            try:
                return super().execute(query, params, prepare=True, **kwargs)
            finally:
                self.connection.prepare_threshold = threshold

    return PreparedCursor


def _prepared_cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    """Return such a cursor on Django's connection, seen by everything that wraps the execution of its queries."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = _prepared_cursor_class()(connection.connection)
    return connection.make_cursor(cursor)


def _is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a pooler stands before the server: it names another process than the one that runs the query."""
    connection.ensure_connection()
    own: Any = connection.connection
    with connection.wrap_database_errors:
        (pid,) = own.execute("SELECT pg_backend_pid()").fetchone()
    return bool(pid != own.info.backend_pid)


@cache
def _database(alias: str, vendor: str) -> Database:
    return Database(connections[alias])


def _ready() -> tuple[BaseDatabaseWrapper, Database]:
    # The database for writing, for look-ups too: a replica that lags would let a revoked key in.
    connection = connections[router.db_for_write(APIKey)]
    return connection, _database(connection.alias, connection.vendor)


def _run(work: Callable[[Any, BaseDatabaseWrapper, Database], Result]) -> Result:
    connection, database = _ready()
    # Inside somebody's transaction a failing statement must not break theirs.
    shield = transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext()
    try:
        with shield, database.cursor(connection) as cursor:
            return work(cursor, connection, database)
    except Error as error:
        if getattr(error.__cause__, "sqlstate", None) not in LOST_STATEMENT:
            raise
        database.prepares = False
    with shield, connection.cursor() as cursor:
        return work(cursor, connection, database)


def find(digest: str) -> APIKey | None:
    """Return the key with this digest, in whatever state it is, or None."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> APIKey | None:
        cursor.execute(database.sql.find, [digest])
        values = cursor.fetchone()
        return None if values is None else database.key(connection, values)

    return _run(work)


def find_and_record(digest: str, row: Row, may_use: Callable[[APIKey], bool]) -> Found:
    """Return the key with this digest, and the handle of the row that records its use, where one was written.

    `may_use` decides whether a use is written; in the one statement of PostgreSQL it is too late for that, so what is
    written there may have to be turned into a refusal by the caller.
    """

    def in_one(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> Found:
        cursor.execute(database.sql.find_and_record, [digest, *_parameters(connection, row, OWN_NAMES), row["at"]])
        values = cursor.fetchone()
        if values is None:
            return None, None
        return database.key(connection, values), None if values[-1] is None else RowHandle(values[-1], row["at"])

    def in_two(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> Found:
        cursor.execute(database.sql.find, [digest])
        values = cursor.fetchone()
        if values is None:
            return None, None
        key = database.key(connection, values)
        if not may_use(key):
            return key, None
        return key, _insert(cursor, connection, database, {**row, "api_key_id": key.pk, **described(key)})

    return _run(in_two if _ready()[1].sql.find_and_record is None else in_one)


def insert(row: Row) -> RowHandle:
    """Write one row of the log and return its handle."""
    return _run(lambda cursor, connection, database: _insert(cursor, connection, database, row))


def _insert(cursor: Any, connection: BaseDatabaseWrapper, database: Database, row: Row) -> RowHandle:
    cursor.execute(database.sql.insert, _parameters(connection, row, EVENT_NAMES))
    return RowHandle(int(cursor.fetchone()[0] if database.sql.returns_id else cursor.lastrowid), row["at"])


def _parameters(connection: BaseDatabaseWrapper, row: Row, names: Sequence[str]) -> list[Any]:
    adapted = {**row, "at": connection.ops.adapt_datetimefield_value(row["at"])}
    return [adapted[name] for name in names]


def is_in_transaction() -> bool:
    """Tell whether what is written now may yet be rolled back. Asks no database, which may be out of reach."""
    return connections[router.db_for_write(APIKey)].in_atomic_block


def write_outcome(outcome: Outcome) -> bool:
    """Add the outcome to its row; False if the row is not there."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> bool:
        cursor.execute(_late(connection, database, database.sql.outcome), _adapted(connection, outcome))
        return bool(cursor.rowcount > 0)

    return _run(work)


def count_again(row: RowHandle, times: int = 1) -> bool:
    """Add to the row's count; False if the row is not there."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> bool:
        cursor.execute(_late(connection, database, database.sql.recount), [times, *_adapted(connection, row)])
        return bool(cursor.rowcount > 0)

    return _run(work)


def _late(connection: BaseDatabaseWrapper, database: Database, statement: str) -> str:
    """Return the statement such that it does not wait for the disk, unless the transaction is somebody else's."""
    return statement if connection.in_atomic_block else statement + database.sql.not_durable


def _adapted(connection: BaseDatabaseWrapper, named: Outcome | RowHandle) -> list[Any]:
    """Return the values in their order, the time, which is their last, as the database takes it."""
    return [*named[:-1], connection.ops.adapt_datetimefield_value(named.at)]


def may_write_batch() -> bool:
    """Tell whether neither a transaction nor an event loop is in the way."""
    return not (is_in_transaction() or is_in_event_loop())


def write_batch(batch: Batch) -> None:
    """Write what waited, all of it or nothing."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> None:
        outcomes = [_adapted(connection, outcome) for outcome in batch.outcomes]
        counts = [[times, *_adapted(connection, row)] for row, times in batch.counts.items()]
        # Asked before the batch's own transaction begins.
        recount = _late(connection, database, database.sql.recount)
        is_one_statement = len(counts) + (1 if database.sql.outcomes and outcomes else len(outcomes)) == 1
        with nullcontext() if is_one_statement else transaction.atomic(using=connection.alias):
            if outcomes and database.sql.outcomes:
                columns = [list(column) for column in zip(*outcomes, strict=True)]
                cursor.execute(database.sql.outcomes, [*columns, min(columns[-1]), max(columns[-1])])
            elif outcomes:
                cursor.executemany(database.sql.outcome, outcomes)
            if counts:
                cursor.executemany(recount, counts)

    _run(work)


def can_ship() -> bool:
    """Tell whether rows that came through a stream can be written into this database."""
    return dialect_of(connections[router.db_for_write(APIKey)]).ships


def ship(rows: Sequence[Row]) -> None:
    """Write rows that came through a stream, whatever of them is there already; all or none. Asks for `can_ship`.

    A row is named by its ticket and its time. Of two states of it the one with an outcome counts, and the higher
    count, so that it does not matter which was written first, nor how often, nor what others write meanwhile. No row
    may be there twice.
    """

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> None:
        # In one order, so that of two who write the same rows one waits for the other.
        ordered = sorted(rows, key=lambda row: (row["at"], row["ticket"]))
        values = [_parameters(connection, row, SHIPPED_NAMES) for row in ordered]
        cursor.execute(database.sql.ship, [list(column) for column in zip(*values, strict=True)])

    _run(work)


def writers() -> set[str]:
    """Return the transactions that are writing to the log now; none where the database does not tell."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> set[str]:
        if database.sql.writers is None:
            return set()
        cursor.execute(database.sql.writers, [database.sql.events])
        return {transaction for (transaction,) in cursor.fetchall()}

    return _run(work)


def is_in_event_loop() -> bool:
    """Tell whether this thread runs asynchronous code, which no query may hold up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
