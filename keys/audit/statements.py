"""Runs the SQL of requests and shippers: finds keys and writes rows of the log."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from django.db import DataError, Error, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import DEFERRED

from ..models import APIKey
from ..models.audit_event import Row, described
from ..models.fields import in_database
from .outcomes import Batch, CountedRow, Outcome, RowHandle
from .places import Place, at, can_return_to, finds_other_tables, may_change, place_of
from .sql import EVENT_NAMES, KEY_FIELDS, KEY_NAMES, OWN_NAMES, SHIPPED_NAMES, SQL, UNREAD, dialect_of

logger = logging.getLogger("api_keys")

Result = TypeVar("Result")
Found = tuple[APIKey | None, RowHandle | None]  # a key, and its use's row if written with the look-up

# SQLSTATEs of a prepared statement that was dropped, or that exists already: by the project's own SQL or a pooler.
LOST_STATEMENT = {"26000", "42P05"}
# Classes of SQLSTATEs that a plan may raise if the tables changed since it was made, and the statement alone would not.
MAYBE_THE_PLAN = ("0A", "26", "42", "XX")
NO_TABLE = "42P01"

_NOTHING = nullcontext()


class Database:
    """One database: its SQL, how its values are converted, and how its statements run."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.sql = dialect_of(connection)(connection)
        compiler = APIKey._base_manager.all().query.get_compiler(connection=connection)
        self.converters = compiler.get_converters([field.get_col(APIKey._meta.db_table) for field in KEY_FIELDS])
        # Planning takes PostgreSQL longer than running, so each connection keeps its plans. Not through a transaction
        # pooler, where other clients' plans have the same names: projects with one should set
        # DISABLE_SERVER_SIDE_CURSORS. None until a connection was checked.
        self.prepares: bool | None = None
        # None if the place depends on the tenant.
        self._place = None if hasattr(connection, "schema_name") else Place(connection.alias)
        self.can_return = can_return_to(connection)
        if (
            not self.sql.prepares
            or connection.Database.__name__ != "psycopg"  # type: ignore[attr-defined]
            or connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
            # A plan goes on with the other tables when the tenant's own have been made.
            or finds_other_tables(connection)
        ):
            self.prepares = False

    def place(self, connection: BaseDatabaseWrapper) -> Place:
        """Return where the connection writes now; cheaper than `place_of`."""
        return self._place or place_of(connection)

    def cursor(self, connection: BaseDatabaseWrapper) -> Any:
        """Return the connection's cursor, so that everything that the backend does there is done.

        It prepares statements if it is Django's own. A backend's or a package's, and that of Django's query log, is
        used as it is.
        """
        cursor = connection.cursor()
        if self.prepares is False or type(cursor) is not CursorWrapper:
            return cursor
        inner: Any = cursor.cursor
        prepared, djangos = _cursor_classes()
        if type(inner) in djangos:
            if self.prepares is None:
                self.prepares = not _is_pooled(connection, inner)
            if self.prepares:
                cursor.cursor = prepared(inner.connection)
        return cursor

    def may_succeed_without_plan(self, error: Error) -> bool:
        """Tell whether the statement may only have failed because of a plan. One that was lost stops preparing."""
        state = getattr(error.__cause__, "sqlstate", None) or ""
        if state in LOST_STATEMENT:
            self.prepares = False
        return state in LOST_STATEMENT or bool(self.prepares and state.startswith(MAYBE_THE_PLAN))

    def key(self, connection: BaseDatabaseWrapper, values: Sequence[Any]) -> APIKey:
        """Return the key from a row as the database gave it."""
        row = list(values[: len(KEY_FIELDS)])
        for position, (converters, expression) in self.converters.items():
            for convert in converters:
                row[position] = convert(row[position], expression, connection)
        # In the place of each field, so that Django need not look which of them are there.
        for position in UNREAD:
            row.insert(position, DEFERRED)
        return APIKey.from_db(connection.alias, KEY_NAMES, row)


@cache
def _cursor_classes() -> tuple[type[Any], set[type[Any]]]:
    """Return a subclass of psycopg's own cursor that keeps each statement's plan, and Django's, which do not."""
    import psycopg
    from django.db.backends.postgresql import base

    class PreparedCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, *, prepare: Any = True, **kwargs: Any) -> "PreparedCursor":
            # Django disables preparing for the connection; enable it for this statement alone.
            connection = self.connection
            threshold, connection.prepare_threshold = connection.prepare_threshold, 0
            try:
                return super().execute(query, params, prepare=prepare, **kwargs)
            finally:
                connection.prepare_threshold = threshold

        def forget_plans(self) -> None:
            # psycopg does it after something was dropped. Releases up to 3.3.5 do not notice DEALLOCATE ALL.
            self.execute("DROP TABLE IF EXISTS keys_no_such_table", prepare=False)

    return PreparedCursor, {base.Cursor, base.ServerBindingCursor}


def _is_pooled(connection: BaseDatabaseWrapper, cursor: Any) -> bool:
    """Tell whether a pooler is in front of the server: it reports another process id than that of the query."""
    with connection.wrap_database_errors:
        (pid,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
    return bool(pid != cursor.connection.info.backend_pid)


@cache
def _database(alias: str, vendor: str) -> Database:
    return Database(connections[alias])


def _connection(place: Place | None = None) -> BaseDatabaseWrapper:
    # Look-ups use the database for writing too: a lagging replica would accept a revoked key.
    return connections[router.db_for_write(APIKey) if place is None else place.alias]


def _run(work: Callable[[Any, BaseDatabaseWrapper, Database], Result], place: Place | None = None) -> Result:
    """Run the work where keys are written now, or in that place."""
    if place is not None and place.schema:
        with at(place) as connection:
            return _run_on(connection, work)
    return _run_on(_connection(place), work)


def _run_on(connection: BaseDatabaseWrapper, work: Callable[[Any, BaseDatabaseWrapper, Database], Result]) -> Result:
    database = _database(connection.alias, connection.vendor)
    # In somebody's transaction, a savepoint: a statement that fails must not break it.
    savepoint = transaction.atomic(using=connection.alias) if connection.in_atomic_block else _NOTHING
    try:
        with savepoint, database.cursor(connection) as cursor:
            return work(cursor, connection, database)
    except Error as error:
        if not database.may_succeed_without_plan(error):
            raise
    with savepoint, connection.cursor() as cursor:
        if database.prepares:
            with connection.wrap_database_errors:
                _cursor_classes()[0](connection.connection).forget_plans()
        return work(cursor, connection, database)


def find(digests: Sequence[str]) -> APIKey | None:
    """Return the key with one of the digests, two or four, in whatever state it is, or None."""
    return _run(lambda cursor, connection, database: _find(cursor, connection, database, digests))


def _find(cursor: Any, connection: BaseDatabaseWrapper, database: Database, digests: Sequence[str]) -> APIKey | None:
    for start in range(0, len(digests), 2):
        ours, other = digests[start : start + 2]
        cursor.execute(database.sql.find, {"ours": ours, "other": other})
        if (values := cursor.fetchone()) is not None:
            return database.key(connection, values)
    return None


def find_and_record(digests: Sequence[str], row: Row, may_use: Callable[[APIKey], bool]) -> Found:
    """Return the key with one of the digests, and the handle of the row that records its use if one was written.

    `may_use` decides whether a use is written. PostgreSQL's single statement writes before `may_use` can be called,
    so the caller may have to turn that row into a refusal.
    """

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> Found:
        if database.sql.find_and_record is None:
            key = _find(cursor, connection, database, digests)
            if key is None or not may_use(key):
                return key, None
            return key, _insert(cursor, connection, database, {**row, **described(key, key.pk)})
        parameters = [*_parameters(connection, row, OWN_NAMES), row["at"]]
        for start in range(0, len(digests), 2):
            cursor.execute(database.sql.find_and_record, [*digests[start : start + 2], *parameters])
            if (values := cursor.fetchone()) is not None:
                break
        else:
            return None, None
        key, place = database.key(connection, values), database.place(connection)
        return key, None if values[-1] is None else RowHandle(values[-1], row["at"], place)

    return _run(work)


def insert(row: Row, place: Place | None = None) -> RowHandle:
    """Write one row of the log, in that place if one is given, and return its handle."""
    return _run(lambda cursor, connection, database: _insert(cursor, connection, database, row), place)


def _insert(cursor: Any, connection: BaseDatabaseWrapper, database: Database, row: Row) -> RowHandle:
    cursor.execute(database.sql.insert, _parameters(connection, row, EVENT_NAMES))
    number = int(cursor.fetchone()[0] if database.sql.returns_id else cursor.lastrowid)
    return RowHandle(number, row["at"], database.place(connection))


def _parameters(connection: BaseDatabaseWrapper, row: Row, names: Sequence[str]) -> list[Any]:
    adapted = {**row, "at": _adapted_time(connection, row["at"])}
    return [adapted[name] for name in names]


def _adapted_time(connection: BaseDatabaseWrapper, moment: datetime) -> Any:
    """Return the time in the database's form."""
    moment = moment if moment.tzinfo is not None else in_database(moment, connection)
    return connection.ops.adapt_datetimefield_value(moment)


def current_place() -> Place:
    """Return where keys are written now."""
    return place_of(_connection())


def changing_place() -> Place | None:
    """Return where keys are now if a view may go to another tenant; otherwise None, which costs less."""
    return current_place() if may_change() else None


def is_in_transaction(place: Place | None = None) -> bool:
    """Tell whether a write made now could be rolled back. Needs no query: the database may be unavailable."""
    return _connection(place).in_atomic_block


def may_wait(place: Place | None) -> bool:
    """Tell whether a row of this place may be written to later, by another thread."""
    connection = _connection(place)
    return not connection.in_atomic_block and _database(connection.alias, connection.vendor).can_return


def is_shared(place: Place | None) -> bool:
    """Tell whether threads share the connection to the place, as a test and its live server one in memory."""
    if place is None or place.alias not in connections.settings:
        return False  # a stream is a place, too
    return connections[place.alias].allow_thread_sharing


def is_in_view_transaction() -> bool:
    """Tell whether a transaction is open other than that of a test case, which is around every request."""
    blocks = _connection().atomic_blocks
    return not all(getattr(block, "_from_testcase", False) for block in blocks)


@contextmanager
def despite_rollback() -> Iterator[None]:
    """Allow statements in a transaction that is to be rolled back, as Django REST framework marks it in a refusal.

    What they write is rolled back with it.
    """
    connection = _connection()
    is_marked = connection.in_atomic_block and connection.needs_rollback
    if is_marked:
        connection.needs_rollback = False
    try:
        yield
    finally:
        if is_marked:
            connection.needs_rollback = True


def write_outcome(outcome: Outcome) -> bool:
    """Add the outcome to its row; return False if the row does not exist."""
    return _update(outcome, lambda sql: sql.outcome)


def write_count(row: CountedRow) -> bool:
    """Set the row's count, unless it is higher already; return False if the row does not exist."""
    return _update(row, lambda sql: sql.recount, row.total, row.total)


def count_one_more(row: RowHandle) -> bool:
    """Add one to the row's count, in a transaction that may be rolled back; return False if it does not exist."""
    return _update(row, lambda sql: sql.count_one_more)


def _update(named: Outcome | RowHandle, statement: Callable[[SQL], str], *values: int) -> bool:
    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> bool:
        text = _without_sync(connection, database, statement(database.sql))
        cursor.execute(text, [*values, *_adapted(connection, named)])
        return bool(cursor.rowcount > 0)

    return _run(work, named.place)


def _without_sync(connection: BaseDatabaseWrapper, database: Database, statement: str) -> str:
    """Return the statement so that it does not wait for the disk, unless a caller's transaction is open."""
    return statement if connection.in_atomic_block else statement + database.sql.not_durable


def _adapted(connection: BaseDatabaseWrapper, named: Outcome | RowHandle) -> list[Any]:
    """Return the values in order, without the place; the time, which is the last, in the database's form."""
    return [*named[:-2], _adapted_time(connection, named.at)]


def get_ready(place: Place | None) -> bool:
    """Connect to the place. Does nothing and returns False in a transaction there, or in a running event loop."""
    connection = _connection(place)
    if connection.in_atomic_block or is_in_event_loop():
        return False
    connection.ensure_connection()
    return True


def write_batch(batch: Batch) -> None:
    """Write a batch, all of it or nothing. If its schema was dropped, its rows are gone, and nothing is written."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> None:
        outcomes = [_adapted(connection, outcome) for outcome in batch.outcomes]
        counts = [[n, n, *_adapted(connection, row)] for row, n in batch.counts.items() if row.is_written]
        rows = [(row, count) for row, count in batch.counts.items() if not row.is_written]
        # Built before the batch's own transaction starts.
        recount = _without_sync(connection, database, database.sql.recount)
        is_one_statement = not rows and len(counts) + (1 if database.sql.outcomes and outcomes else len(outcomes)) == 1
        with nullcontext() if is_one_statement else transaction.atomic(using=connection.alias):
            if outcomes and database.sql.outcomes:
                columns = [list(column) for column in zip(*outcomes, strict=True)]
                cursor.execute(database.sql.outcomes, [*columns, min(columns[-1]), max(columns[-1])])
            elif outcomes:
                _execute_each(cursor, database.sql.outcome, outcomes)
            if counts:
                _execute_each(cursor, recount, counts)
            for row, count in rows:
                _write_ticketed(cursor, connection, database, row, count)

    try:
        _run(work, batch.place)
    except Error as error:
        if not (batch.place and batch.place.schema and getattr(error.__cause__, "sqlstate", None) == NO_TABLE):
            raise
        logger.warning("A tenant's audit log is gone, and %d outcomes with it.", len(batch.outcomes))


def _write_ticketed(
    cursor: Any, connection: BaseDatabaseWrapper, database: Database, row: CountedRow, count: int
) -> None:
    """Insert the row with its count, or set the count if an earlier write of it went through after all."""
    named = _adapted(connection, row)
    cursor.execute(database.sql.recount_ticketed, [count, count, *named])
    if cursor.rowcount == 0:
        values = {**row.row, "count": count, "ticket": row.number}
        cursor.execute(database.sql.insert_ticketed, _parameters(connection, values, SHIPPED_NAMES))


def _execute_each(cursor: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run the statement once for each row. A package's cursor may fail at many, as django-debug-toolbar's on SQLite."""
    if type(cursor) is CursorWrapper:
        cursor.executemany(statement, rows)
        return
    for row in rows:
        cursor.execute(statement, row)


def can_ship() -> bool:
    """Tell whether rows that came through a stream can be written into this database."""
    return dialect_of(_connection()).ships


def ship(rows: Sequence[Row]) -> list[Row]:
    """Write rows that came through a stream, all or none, whatever of them exists already. Requires `can_ship`.

    A row is identified by its ticket and its time. Of two states of a row the one with an outcome wins, and the
    higher count: so the order does not matter, nor repeated or concurrent writes. No row may be in `rows` twice.
    Returns the rows that differ from the existing one in anything else; these change nothing. Raises DataError if the
    database does not keep a row and says nothing, as a trigger may make it.
    """

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> list[Row]:
        # In a fixed order: of two processes that write the same rows, one waits for the other instead of a deadlock.
        ordered = sorted(rows, key=lambda row: (row["at"], row["ticket"]))
        values = [_parameters(connection, row, SHIPPED_NAMES) for row in ordered]
        columns = [list(column) for column in zip(*values, strict=True)]
        cursor.execute(database.sql.ship, columns)
        if cursor.rowcount == len(rows):
            return []
        # The others were there already, or differ.
        cursor.execute(database.sql.differing, columns)
        found = cursor.fetchall()
        if not all(exists for _, exists in found):
            raise DataError("The database has not kept a row.")
        return [ordered[number - 1] for number, _ in found]

    return _run(work)


def writers() -> set[str]:
    """Return the transactions that are writing to the log now; none if the database does not list them."""

    def work(cursor: Any, connection: BaseDatabaseWrapper, database: Database) -> set[str]:
        if database.sql.writers is None:
            return set()
        cursor.execute(database.sql.writers, [database.sql.events])
        return {transaction for (transaction,) in cursor.fetchall()}

    return _run(work)


def is_in_event_loop() -> bool:
    """Tell whether this thread runs asynchronous code, which a query must not block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
