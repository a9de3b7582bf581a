"""Makes the database keep the audit log append-only, by triggers. They are opt-in.

What was asked for is kept in the database, apart from the tables: PostgreSQL's trigger function and its comment, and
on SQLite a view. So it is known when a migration, or whoever was killed during one, has taken the triggers.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple, Self

from django.conf import settings
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import AuditEvent, AuditSeal
from ..models.audit_event import OUTCOME, STRANGERS, TRAFFIC
from .places import beside_tables, place_of

Event = AuditEvent.Event

LOG, SEALS = AuditEvent._meta.db_table, AuditSeal._meta.db_table
GROWING = (*OUTCOME, "count")  # the columns that may be updated: an outcome, and the count of a flood
REFUSED = "The audit log is append-only"
NAME = "keys_append_only"  # of the function, or on SQLite of the view
BODY = f" BEGIN RAISE EXCEPTION '{REFUSED}: % is refused.', TG_OP USING ERRCODE = 'restrict_violation'; END "
VENDORS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
KEPT = re.compile(r"^keep (\d+) seconds$|^keep all$")


class TriggerError(Exception):
    """The triggers or rights are not possible here. The text is a sentence that gives the reason."""


@dataclass(frozen=True)
class Trigger:
    """A trigger as it should be: its name, its table and, where it is a partition's own, that partition; its SQL."""

    name: str
    table: str
    text: str

    @property
    def is_on_rows(self) -> bool:
        return "FOR EACH ROW" in self.text

    @property
    def mark(self) -> str:
        return marked(self.text)


def marked(text: str) -> str:
    """Return the mark of a trigger that was made by this SQL."""
    return f"keys_guard {hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Found(NamedTuple):
    """A trigger as it is: whether it is enabled, what its function does, and the mark of the SQL it was made by."""

    is_enabled: bool
    body: str
    mark: str | None


@dataclass(frozen=True)
class Fault:
    """A trigger that does not do what it should. `kind` is `missing`, `disabled` or `outdated`; `where` its table."""

    kind: str
    name: str
    where: str

    @property
    def sentence(self) -> str:
        what = {
            "missing": "is missing",
            "disabled": "is disabled",
            "outdated": "was made for other columns or settings",
        }
        return f"{self.name} {what[self.kind]} on {self.where}."


@dataclass(frozen=True)
class Wanted:
    """What somebody has asked for: all triggers, or `for_roles` that on UPDATE alone. `keep`: see `install`."""

    keep: timedelta | None = None
    for_roles: bool = False

    @classmethod
    def read(cls, note: str | None) -> Self:
        found = KEPT.match(note or "")
        if found is None:
            return cls(for_roles=True)
        return cls(timedelta(seconds=int(found[1])) if found[1] else None)

    @property
    def note(self) -> str:
        return "keep all" if self.keep is None else f"keep {int(self.keep.total_seconds())} seconds"


def install(keep: timedelta | None = None) -> None:
    """Create the triggers, replacing existing ones. Rows older than `keep` may be deleted; without it, none may.

    Raises TriggerError if the database is neither PostgreSQL nor SQLite.
    """
    alias = connection_to(*VENDORS).alias
    with beside_tables(alias) as connection:
        Guarded(connection).install(Wanted(keep))


def remove() -> None:
    """Drop the triggers that exist. Raises TriggerError as `install` does."""
    alias = connection_to(*VENDORS).alias
    with beside_tables(alias) as connection:
        Guarded(connection).remove()


def faults() -> list[Fault]:
    """Return what is wrong with the triggers, whether anybody has asked for them or not. Raises TriggerError."""
    with beside_tables(connection_to(*VENDORS).alias) as connection:
        guarded = Guarded(connection)
        wanted = guarded.wanted()
        return guarded.faults(Wanted() if wanted is None or wanted.for_roles else wanted)


def unmet() -> list[Fault] | None:
    """Return what is wrong with the triggers that somebody has asked for; None if nobody has, or none are possible."""
    alias = router.db_for_write(AuditEvent)
    if connections[alias].vendor not in VENDORS:
        return None
    with beside_tables(alias) as connection:
        guarded = Guarded(connection)
        wanted = guarded.wanted()
        return None if wanted is None else guarded.faults(wanted)


def missing() -> list[str]:
    """Return the names of the triggers that do not exist, are disabled or were made for other columns."""
    return list(dict.fromkeys(fault.name for fault in faults()))


def connection_to(*vendors: str) -> BaseDatabaseWrapper:
    """Return the connection to the log. Raises TriggerError if the database is none of these."""
    connection = connections[router.db_for_write(AuditEvent)]
    if connection.vendor not in vendors:
        known = " and ".join(VENDORS[vendor] for vendor in vendors)
        raise TriggerError(f"This is for {known}, and the log is in {connection.display_name}.")
    return connection


class Guarded:
    """The log and its seals in one database and schema, with the columns that they have at this moment."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection, self.quote = connection, connection.ops.quote_name
        self.is_postgresql = connection.vendor == "postgresql"

    def ask(self, statement: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run SQL and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    @cached_property
    def schema(self) -> str:
        """The schema of the log on PostgreSQL: a tenant's own, or that in which the search path finds the table."""
        if schema := place_of(self.connection).schema:
            return schema
        rows = self.ask(
            "SELECT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE pg_class.oid = to_regclass(%s)",
            [LOG],
        )
        return str((rows or self.ask("SELECT current_schema()"))[0][0])

    def named(self, name: str) -> str:
        """Return the quoted name, on PostgreSQL with the schema."""
        return f"{self.quote(self.schema)}.{self.quote(name)}" if self.is_postgresql else self.quote(name)

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """The columns of each of the tables that exist."""
        if self.is_postgresql:
            rows = self.ask(
                "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
                " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) AND relname IN (%s, %s)"
                " AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                [self.schema, LOG, SEALS],
            )
        else:
            rows = self.ask(
                "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c"
                " WHERE m.type = 'table' AND m.name IN (%s, %s) ORDER BY c.cid",
                [LOG, SEALS],
            )
        found: dict[str, list[str]] = {}
        for table, column in rows:
            found.setdefault(table, []).append(column)
        return found

    def wanted(self) -> Wanted | None:
        """Return what somebody has asked for; None if nobody has."""
        if self.is_postgresql:
            rows = self.ask(
                "SELECT obj_description(pg_proc.oid, 'pg_proc') FROM pg_proc JOIN pg_namespace AS n ON n.oid ="
                " pronamespace WHERE proname = %s AND nspname = %s AND pronargs = 0",
                [NAME, self.schema],
            )
        elif rows := self.ask("SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = %s", [NAME]):
            rows = self.ask(f"SELECT note FROM {NAME}")  # noqa: S608
        return Wanted.read(rows[0][0]) if rows else None

    def install(self, wanted: Wanted) -> None:
        """Create the triggers that are wanted, and keep a note of it."""
        self._run([*self._function(), *self._note(wanted), *self.creating(wanted)])

    def creating(self, wanted: Wanted) -> Iterator[str]:
        """Yield the SQL that creates the triggers, replacing existing ones."""
        for trigger in self.triggers(wanted):
            yield self.dropping(trigger.name, trigger.table)
            yield trigger.text
            if self.is_postgresql:
                # It keeps no text of a trigger, by which it could be told from one that was made for other columns.
                yield f"COMMENT ON TRIGGER {trigger.name} ON {self.named(trigger.table)} IS '{trigger.mark}'"

    def drop(self) -> None:
        """Drop the triggers, and keep the note that they are wanted."""
        self._run(self.dropping(name, table) for name, table in self._present())

    def remove(self) -> None:
        """Drop the triggers and the note."""
        self.drop()
        kind = f"FUNCTION IF EXISTS {self.named(NAME)}()" if self.is_postgresql else f"VIEW IF EXISTS {NAME}"
        self._run([f"DROP {kind}"])

    def faults(self, wanted: Wanted) -> list[Fault]:
        """Return what is wrong with the triggers that are wanted."""
        found: dict[tuple[str, str], Found] = {}
        if self.is_postgresql:
            for name, table, *state in self.ask(
                "SELECT tgname, relname, tgenabled IN ('O', 'A'), prosrc, obj_description(pg_trigger.oid, 'pg_trigger')"
                " FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid"
                " JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = %s AND NOT tgisinternal",
                [self.schema],
            ):
                found[name, table] = Found(*state)
        else:
            for name, table, text in self.ask("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"):
                found[name, table] = Found(True, BODY, marked(text))
        return list(self._compared(wanted, found))

    def _compared(self, wanted: Wanted, found: Mapping[tuple[str, str], "Found"]) -> Iterator[Fault]:
        for trigger in self.triggers(wanted):
            is_own = trigger.table in {LOG, SEALS}
            if not is_own and (trigger.name, LOG) not in found:
                continue  # one sentence is enough
            state = found.get((trigger.name, trigger.table))
            if state is None:
                yield Fault("missing", trigger.name, trigger.table)
                continue
            if not state.is_enabled:
                yield Fault("disabled", trigger.name, trigger.table)
            if state.body != BODY or (is_own and state.mark != trigger.mark):
                yield Fault("outdated", trigger.name, trigger.table)
            # PostgreSQL gives the partitions copies of the triggers on rows, which may be disabled one by one.
            for part in self.partitions if trigger.table == LOG and trigger.is_on_rows else []:
                copy = found.get((trigger.name, part))
                if copy is None or not copy.is_enabled:
                    yield Fault("missing" if copy is None else "disabled", trigger.name, part)

    @cached_property
    def partitions(self) -> list[str]:
        """The names of the log's partitions."""
        if not self.is_postgresql:
            return []
        listed = (
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = to_regclass(%s) ORDER BY 1"
        )
        return [name for (name,) in self.ask(listed, [self.named(LOG)])]

    def triggers(self, wanted: Wanted) -> list[Trigger]:
        """Return the triggers that are wanted, of the tables that exist. Raises TriggerError."""
        found = []
        if LOG in self.columns:
            found.append(self._trigger(LOG, "UPDATE", f"NOT ({self._permitted_update()})"))
        if wanted.for_roles:
            return found
        if LOG in self.columns:
            found.append(self._trigger(LOG, "DELETE", "" if wanted.keep is None else self._is_younger(wanted.keep)))
        if SEALS in self.columns:
            found += [self._trigger(SEALS, "UPDATE"), self._trigger(SEALS, "DELETE")]
        for table, key in ((LOG, "id"), (SEALS, "number")):
            if table in self.columns:
                found += self._against_replacing(table, key)
        return found

    def _against_replacing(self, table: str, key: str) -> list[Trigger]:
        """Return the triggers against what deletes rows without firing those on DELETE: TRUNCATE, SQLite's REPLACE."""
        if self.is_postgresql:
            partitions = self.partitions if table == LOG else []
            name = f"{table}_no_truncate"
            return [self._trigger(each, "TRUNCATE", name=name) for each in (table, *partitions)]
        taken = f"EXISTS (SELECT 1 FROM {self.quote(table)} WHERE {self.quote(key)} = NEW.{self.quote(key)})"  # noqa: S608
        return [self._trigger(table, "INSERT", taken)]

    def _trigger(self, table: str, operation: str, condition: str = "", name: str = "") -> Trigger:
        name = name or f"{table}_no_{operation.lower()}"
        action = f"BEGIN SELECT RAISE(ABORT, '{REFUSED}.'); END"
        if self.is_postgresql:
            action = f"EXECUTE FUNCTION {self.named(NAME)}()"
        scope = "STATEMENT" if operation == "TRUNCATE" else "ROW"
        when = f" WHEN ({condition})" if condition else ""
        text = f"CREATE TRIGGER {name} BEFORE {operation} ON {self.named(table)} FOR EACH {scope}{when} {action}"
        return Trigger(name, table, text)

    def _permitted_update(self) -> str:
        """Return the condition under which a row may be updated: an outcome, once, or a stranger's growing count."""
        quote, is_same = self.quote, "IS NOT DISTINCT FROM" if self.is_postgresql else "IS"

        def same(columns: Iterable[str]) -> str:
            return " AND ".join(f"NEW.{quote(column)} {is_same} OLD.{quote(column)}" for column in columns)

        fixed = (column for column in self.columns[LOG] if column not in GROWING)
        old_event, new_event, old_status, new_status = (
            f"{row}.{quote(column)}" for column in ("event", "status") for row in ("OLD", "NEW")
        )
        uses = ", ".join(f"'{event.value}'" for event in TRAFFIC)
        gets_outcome = f"{old_event} = '{Event.USED.value}' AND {old_status} IS NULL AND {new_status} IS NOT NULL"
        outcome = f"{gets_outcome} AND {new_event} IN ({uses}) AND {same(['count'])}"
        strangers = ", ".join(f"'{reason.value}'" for reason in STRANGERS)
        count_grows = (
            f"{old_event} = '{Event.REFUSED.value}' AND OLD.{quote('reason')} IN ({strangers})"
            f" AND OLD.{quote('key_name')} = '' AND OLD.{quote('api_key_id')} IS NULL"
            f" AND NEW.{quote('count')} > OLD.{quote('count')}"
        )
        # Writing the same outcome again, after a write of unknown result, changes nothing and is allowed.
        return f"{same(fixed)} AND ({outcome} OR ({same(OUTCOME)} AND ({same(['count'])} OR {count_grows})))"

    def _is_younger(self, keep: timedelta) -> str:
        seconds, at = int(keep.total_seconds()), f"OLD.{self.quote('at')}"
        if self.is_postgresql:
            return f"{at} >= CURRENT_TIMESTAMP - INTERVAL '{seconds} seconds'"
        zone_name = self.connection.timezone_name
        if zone_name not in {"UTC", settings.TIME_ZONE}:
            raise TriggerError(
                f"SQLite cannot tell how old a row is, as DATABASES keeps its time in {zone_name} and "
                f"TIME_ZONE is {settings.TIME_ZONE}: leave --keep out, or make the two the same."
            )
        zone = "" if zone_name == "UTC" else ", 'localtime'"
        return f"{at} >= strftime('%Y-%m-%d %H:%M:%f', 'now', '-{seconds} seconds'{zone})"

    def function(self) -> str:
        """Return the SQL of PostgreSQL's trigger function."""
        return f"CREATE OR REPLACE FUNCTION {self.named(NAME)}() RETURNS trigger LANGUAGE plpgsql AS $${BODY}$$"

    def _function(self) -> list[str]:
        """Return the SQL of the function, unless it is there: who owns the tables may not own it."""
        if not self.is_postgresql:
            return []
        rows = self.ask(
            "SELECT prosrc FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace"
            " WHERE proname = %s AND nspname = %s AND pronargs = 0",
            [NAME, self.schema],
        )
        return [] if rows == [(BODY,)] else [self.function()]

    def _note(self, wanted: Wanted) -> list[str]:
        if wanted == self.wanted() or wanted.for_roles:
            return []
        if self.is_postgresql:
            return [f"COMMENT ON FUNCTION {self.named(NAME)}() IS '{wanted.note}'"]
        return [f"DROP VIEW IF EXISTS {NAME}", f"CREATE VIEW {NAME} AS SELECT '{wanted.note}' AS note"]

    def _present(self) -> list[tuple[str, str]]:
        """Return the name and the table of each trigger of ours, without PostgreSQL's copies on partitions."""
        if not self.is_postgresql:
            found = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN (%s, %s)"
            return [(name, table) for name, table in self.ask(found, [LOG, SEALS]) if name.startswith(f"{table}_no_")]
        return [
            (name, table)
            for name, table in self.ask(
                "SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
                " JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_namespace AS n ON n.oid = relnamespace"
                " WHERE nspname = %s AND proname = %s AND tgparentid = 0",
                [self.schema, NAME],
            )
        ]

    def dropping(self, name: str, table: str) -> str:
        on = f" ON {self.named(table)}" if self.is_postgresql else ""
        return f"DROP TRIGGER IF EXISTS {name}{on}"

    def _run(self, statements: Iterable[str]) -> None:
        with transaction.atomic(using=self.connection.alias):
            for statement in statements:
                self.ask(statement)
