"""The SQL of the audit log and of the key look-up, in each database's dialect.

Building a queryset costs more than the look-up itself, so the statements are built once for each database, from the
models' names. Tests compare them with the ORM. A statement is None for a database that does not support it: callers
check that, not the database's name.
"""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import APIKey, AuditEvent
from ..models.audit_event import DENIALS, EVENT_FIELDS, OUTCOME
from ..redaction import ESCAPED

# What a look-up reads: not what is for people alone. A note may be long.
FOR_PEOPLE = ("note", "typed_by_hand")
KEY_FIELDS = tuple(field for field in APIKey._meta.concrete_fields if field.name not in FOR_PEOPLE)
# In ascending order, so that each may be put in its place.
UNREAD = [number for number, field in enumerate(APIKey._meta.concrete_fields) if field.name in FOR_PEOPLE]
KEY_NAMES = [field.attname for field in KEY_FIELDS]
EVENT_NAMES = [field.attname for field in EVENT_FIELDS]
# A row that came through a stream has a ticket too.
SHIPPED_FIELDS = (*EVENT_FIELDS, AuditEvent._meta.get_field("ticket"))
SHIPPED_NAMES = [field.attname for field in SHIPPED_FIELDS]
# What a row copies from its key.
FROM_KEY = {"api_key_id": "id", "key_name": "name", "key_prefix": "prefix", "owner": "owner_ref"}
OWN_NAMES = [name for name in EVENT_NAMES if name not in FROM_KEY]
OUTCOME_FIELDS = [field for name in OUTCOME for field in EVENT_FIELDS if field.name == name]
LATER = ", ".join(
    f"'{reason}'" for reason in ("", *(denial.value for denial in DENIALS))
)  # the reasons that an outcome may have


class SQL:
    """The statements that every database supports, with `%s` for parameters."""

    returns_id: bool  # whether INSERT returns the id; SQLite's driver knows it anyway, which is cheaper
    prepares = False  # whether the server caches the plans of prepared statements
    find_and_record: str | None = None  # finds a key and records its use
    outcomes: str | None = None  # adds many outcomes
    ships = False  # whether rows can come through a stream
    ship: str | None = None  # writes many rows that came through a stream
    differing: str | None = None  # finds those of them that differ from the existing row, or have none
    not_durable = ""  # appended to an UPDATE that need not wait for the disk
    writers: str | None = None  # finds the transactions that are writing to the log now

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.quote = quote = connection.ops.quote_name
        self.keys, self.events = quote(APIKey._meta.db_table), quote(AuditEvent._meta.db_table)
        self.returns_id = connection.features.can_return_columns_from_insert and connection.vendor != "sqlite"
        # With names, as Django puts them into a text for SQLite in a fraction of the time.
        self.find = self.find_by("%(ours)s", "%(other)s")
        places = ", ".join(["%s"] * len(EVENT_FIELDS))
        self.insert = f"INSERT INTO {self.events} ({self.columns(EVENT_FIELDS)}) VALUES ({places})"  # noqa: S608
        self.insert += f" RETURNING {quote('id')}" if self.returns_id else ""
        # With the time, because SQLite gives the id of a row that was rolled back to another row.
        same = f"{quote('id')} = %s AND {quote('at')} = %s"
        assignments = ", ".join(f"{quote(str(field.column))} = %s" for field in OUTCOME_FIELDS)
        self.outcome = f"UPDATE {self.events} SET {assignments} WHERE {same}"  # noqa: S608
        count = quote("count")
        self.count_one_more = f"UPDATE {self.events} SET {count} = {count} + 1 WHERE {same}"  # noqa: S608
        # Never down: a thread with an earlier count may be late.
        grown = f"CASE WHEN {count} < %s THEN %s ELSE {count} END"
        self.recount = f"UPDATE {self.events} SET {count} = {grown} WHERE {same}"  # noqa: S608
        # For rows that the process writes itself, with a ticket, as it may have to do it again.
        ticketed = f"{quote('ticket')} = %s AND {quote('at')} = %s"
        self.recount_ticketed = f"UPDATE {self.events} SET {count} = {grown} WHERE {ticketed}"  # noqa: S608
        places = ", ".join(["%s"] * len(SHIPPED_FIELDS))
        self.insert_ticketed = f"INSERT INTO {self.events} ({self.columns(SHIPPED_FIELDS)}) VALUES ({places})"  # noqa: S608

    def find_by(self, ours: str, other: str) -> str:
        """Return the statement that finds a key by one of two digests, which are these parameters.

        The second is looked for only if the first finds nothing: `IN` looks for both.
        """
        one = f"SELECT {self.columns(KEY_FIELDS)} FROM {self.keys} WHERE {self.quote('key')} = "  # noqa: S608
        return f"{one}{ours} UNION ALL {one}{other} LIMIT 1"

    def columns(self, fields: Any) -> str:
        """Return the names of the fields' columns, as a list in SQL."""
        return ", ".join(self.quote(field.column) for field in fields)


def needs_no_escaping(column: str) -> str:
    """Return PostgreSQL's condition of a name that `printable` leaves as it is.

    Code points mean something in UTF-8 alone; in another encoding, only printable ASCII is known to be plain. The
    backslashes are doubled so that `standard_conforming_strings` does not matter, and the collation is one that has
    regular expressions.
    """
    escaped = "".join(rf"\\U{first:08x}-\\U{last:08x}" for first, last in ESCAPED)
    name = f'{column} COLLATE "C"'
    return f"({name} ~ '^[ -~]*$' OR (getdatabaseencoding() = 'UTF8' AND {name} !~ E'[{escaped}]'))"


class PostgreSQL(SQL):
    """What PostgreSQL can do in one statement, or without waiting for the disk."""

    prepares = ships = True
    # The use itself is durable, and a lost outcome shows as missing. The setting holds for the whole transaction, so
    # only our own transactions use it.
    not_durable = " AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'"
    # A writer takes the lock before the id, and the id before its row is visible. The parameter is the log's table.
    writers = """
        SELECT virtualtransaction FROM pg_locks
        WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = CAST(%s AS regclass)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self._types = {field: str(field.db_type(connection)) for field in SHIPPED_FIELDS}
        self.find_and_record = self._find_and_record()
        self.outcomes = self._outcomes()
        self.ship, self.differing = self._ship(), self._differing()

    def _lists(self, fields: Any, *further_types: str) -> str:
        """Return the placeholders of list parameters: one for each field, then one for each further type."""
        types = [*(self._types[field].partition("(")[0] for field in fields), *further_types]
        return ", ".join(f"CAST(%s AS {db_type}[])" for db_type in types)

    def _find_and_record(self) -> str:
        """Find the key and record its use: one statement, one round trip, one commit.

        It records the use of a key that is active, not expired, without allowed networks, and has a name and an owner
        that need no escaping. `objection_to`, always called afterwards, may still refuse it.
        """
        quote = self.quote
        values = ", ".join(
            f"found.{quote(FROM_KEY[field.attname])}"
            if field.attname in FROM_KEY
            else f"CAST(%s AS {self._types[field]})"
            for field in EVENT_FIELDS
        )
        is_plain = (
            f"{quote('is_active')} AND ({quote('expires_at')} IS NULL OR {quote('expires_at')} > %s)"
            f" AND {quote('allowed_ips')} = '[]'::jsonb AND {needs_no_escaping(quote('name'))}"
            f" AND ({quote('owner_ref')} = '' OR {needs_no_escaping(quote('owner_ref'))})"
        )
        find = self.find_by("%s", "%s")
        return (
            f"WITH found AS ({find}), recorded AS (INSERT INTO {self.events} ({self.columns(EVENT_FIELDS)})"  # noqa: S608
            f" SELECT {values} FROM found WHERE {is_plain} RETURNING {quote('id')})"
            f" SELECT {self.columns(KEY_FIELDS)}, (SELECT {quote('id')} FROM recorded) FROM found"
        )

    def _outcomes(self) -> str:
        """Add many outcomes. The parameters are lists: one for each field, then the ids, then the times.

        Then follow the earliest and the latest time, so that only their partitions are planned and locked.
        """
        quote = self.quote
        assignments = ", ".join(
            f"{quote(str(field.column))} = new.{quote(str(field.column))}" for field in OUTCOME_FIELDS
        )
        same = " AND ".join(f"{self.events}.{quote(name)} = new.{quote(name)}" for name in ("id", "at"))
        lists, moment = self._lists(OUTCOME_FIELDS, "bigint", "timestamptz"), "CAST(%s AS timestamptz)"
        return (
            f"UPDATE {self.events} SET {assignments} FROM unnest({lists})"  # noqa: S608
            f" AS new ({self.columns(OUTCOME_FIELDS)}, {quote('id')}, {quote('at')})"
            f" WHERE {same} AND {self.events}.{quote('at')} BETWEEN {moment} AND {moment}{self.not_durable}"
        )

    def _ship(self) -> str:
        """Insert many rows that came through a stream, or give existing ones their outcome or a higher count.

        The parameters are lists by field. A row that is there and needs no change, or may not have it, is not counted.
        """
        quote = self.quote
        grown = ", ".join(
            f"{quote(str(field.column))} = excluded.{quote(str(field.column))}"
            for field in SHIPPED_FIELDS
            if field in OUTCOME_FIELDS or field.name == "count"
        )
        at, ticket, status, reason, count, key_name = map(
            quote, ("at", "ticket", "status", "reason", "count", "key_name")
        )
        old = self.events
        gets_outcome = f"{old}.{status} IS NULL AND excluded.{status} IS NOT NULL AND excluded.{reason} IN ({LATER})"
        # Only what strangers were refused is counted.
        grows = f"{self._same_outcome('excluded')} AND {old}.{count} < excluded.{count} AND {old}.{key_name} = ''"
        return (
            f"INSERT INTO {old} ({self.columns(SHIPPED_FIELDS)}) SELECT * FROM"  # noqa: S608
            f" unnest({self._lists(SHIPPED_FIELDS)})"
            f" ON CONFLICT ({at}, {ticket}) WHERE {ticket} IS NOT NULL DO UPDATE SET {grown}"
            f" WHERE {self._same_fixed('excluded')} AND ({gets_outcome} OR {grows})"
        )

    def _differing(self) -> str:
        """Find, by their number from 1 on, the rows that are no state of the existing row, nor of an earlier one.

        Each with whether the row exists at all.
        """
        quote, old = self.quote, self.events
        at, ticket, status, reason, count = map(quote, ("at", "ticket", "status", "reason", "count"))
        is_same = f"{self._same_outcome('new')} AND {old}.{count} >= new.{count}"
        is_earlier = f"new.{status} IS NULL AND {old}.{reason} IN ({LATER}) AND {old}.{count} = new.{count}"
        return (
            f"SELECT new.number, {old}.{at} IS NOT NULL"  # noqa: S608
            f" FROM unnest({self._lists(SHIPPED_FIELDS)}) WITH ORDINALITY"
            f" AS new ({self.columns(SHIPPED_FIELDS)}, number) LEFT JOIN {old}"
            f" ON {old}.{at} = new.{at} AND {old}.{ticket} = new.{ticket}"
            f" WHERE {old}.{at} IS NULL OR NOT ({self._same_fixed('new')} AND ({is_same} OR {is_earlier}))"
        )

    def _same_fixed(self, new: str) -> str:
        """Return the condition that a row differs in nothing but its outcome and its count."""
        return self._same(new, [field for field in SHIPPED_FIELDS if field.name not in (*OUTCOME, "count")])

    def _same_outcome(self, new: str) -> str:
        return self._same(new, OUTCOME_FIELDS)

    def _same(self, new: str, fields: Any) -> str:
        old, other = (
            ", ".join(f"{table}.{self.quote(str(field.column))}" for field in fields) for table in (self.events, new)
        )
        return f"({old}) IS NOT DISTINCT FROM ({other})"


def dialect_of(connection: BaseDatabaseWrapper) -> type[SQL]:
    """Return the dialect of the connection's database, without a query."""
    return PostgreSQL if connection.vendor == "postgresql" else SQL
