"""The rights of roles on the audit log, on PostgreSQL: the SQL for a role of web processes, and who has more than that.

PostgreSQL's rights name columns and not rows. That a use gets its outcome once, and that only the count of a stranger
grows, is left to the trigger on UPDATE, which the SQL creates where it does not exist.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..models import APIKey, AuditLog, KeyOrigin
from . import partitions
from .places import beside_tables
from .triggers import GROWING, LOG, NAME, SEALS, Guarded, TriggerError, Wanted, connection_to

IDENTITY = AuditLog._meta.db_table  # which log it is
KEYS, ORIGINS = APIKey._meta.db_table, KeyOrigin._meta.db_table

# What the questions below are about: the tables of the log, the log itself among them; the views through which they can
# be written with the rights of the view's owner, also views of views; the sequences that number their rows; and the
# roles to look at, each with every role that it is or can become, as rights count that SET ROLE brings.
SUBJECTS = """
    WITH RECURSIVE tables AS (
        SELECT pg_class.oid, relname, relowner, relname = %(log)s AS is_log
        FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE nspname = %(schema)s AND (relname IN (%(log)s, %(seals)s, %(identity)s)
            OR pg_class.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(parent)s)))
    ), related AS (
        SELECT oid FROM tables
        UNION SELECT ev_class FROM related JOIN pg_depend ON refobjid = related.oid
        JOIN pg_rewrite ON pg_rewrite.oid = objid
        WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
    ), views AS (
        SELECT oid, relname, relowner FROM related JOIN pg_class USING (oid)
        WHERE relkind = 'v' AND pg_relation_is_updatable(oid, true) <> 0 AND NOT coalesce(
            reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
    ), sequences AS (
        SELECT pg_class.oid, pg_class.relname, pg_class.relowner
        FROM pg_depend JOIN tables ON tables.oid = refobjid JOIN pg_class ON pg_class.oid = objid
        WHERE classid = 'pg_class'::regclass AND deptype IN ('a', 'i') AND relkind = 'S'
    ), reached AS (
        SELECT role.rolname, other.oid, other.rolname AS as_name, other.rolsuper, other.rolcreaterole
        FROM pg_roles AS role JOIN pg_roles AS other ON pg_has_role(role.oid, other.oid, 'MEMBER')
        WHERE role.rolname = ANY(%(roles)s)
    )
"""
RIGHTS = """
    SELECT DISTINCT rolname, relname, "right" FROM reached, tables, unnest(CAST(%(whole)s AS text[])) AS "right"
    WHERE has_table_privilege(reached.oid, tables.oid, "right")
    UNION SELECT DISTINCT rolname, relname, "right"
    FROM reached, views, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS "right"
    WHERE NOT pg_has_role(rolname, relowner, 'MEMBER') AND CASE "right" WHEN 'DELETE'
        THEN has_table_privilege(reached.oid, views.oid, "right")
        ELSE has_any_column_privilege(reached.oid, views.oid, "right") END
    UNION SELECT DISTINCT rolname, relname, "right"
    FROM reached, tables, unnest(CAST(%(columns)s AS text[])) AS "right"
    WHERE (NOT is_log OR "right" = 'REFERENCES') AND has_any_column_privilege(reached.oid, tables.oid, "right")
    UNION SELECT DISTINCT rolname, relname, "right" || ' (' || attname || ')'
    FROM reached, tables JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped,
        unnest(ARRAY['INSERT', 'UPDATE']) AS "right"
    WHERE is_log AND has_column_privilege(reached.oid, tables.oid, attnum, "right")
        AND CASE "right" WHEN 'INSERT' THEN attname = 'id' ELSE attname <> ALL(%(growing)s) END
    UNION SELECT DISTINCT rolname, relname, "right"
    FROM reached, sequences, unnest(ARRAY['UPDATE', 'USAGE']) AS "right"
    WHERE has_sequence_privilege(reached.oid, sequences.oid, "right") ORDER BY 1, 2, 3
"""
# Roles that add rows to the log, and yet lack a column of it: one that came since.
LACKS = """
    SELECT rolname, string_agg(attname, ', ' ORDER BY attnum) FROM pg_roles AS role, tables
    JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
    WHERE is_log AND attname <> 'id' AND role.rolname = ANY(%(roles)s)
        AND has_any_column_privilege(role.oid, tables.oid, 'INSERT')
        AND NOT has_column_privilege(role.oid, tables.oid, attnum, 'INSERT')
    GROUP BY rolname ORDER BY 1
"""
UPDATERS = """
    SELECT DISTINCT rolname FROM reached, tables
    WHERE is_log AND has_any_column_privilege(reached.oid, tables.oid, 'UPDATE') ORDER BY 1
"""
# What no REVOKE on the tables takes away.
POWERS = """
    SELECT rolname, 'is or can become a superuser' FROM reached WHERE rolsuper
    UNION SELECT rolname, 'is or can become ' || as_name || ', who owns the schema of the log and can drop its tables'
    FROM reached JOIN pg_namespace ON nspowner = reached.oid WHERE nspname = %(schema)s
    UNION SELECT rolname, 'can make itself a member of any role (CREATEROLE)' FROM reached
    WHERE rolcreaterole AND %(version)s < 160000
    UNION SELECT rolname, 'is a member of ' || as_name FROM reached
    WHERE as_name IN ('pg_write_all_data', 'pg_maintain', 'pg_write_server_files', 'pg_execute_server_program')
    UNION SELECT rolname, 'logs in with session_replication_role = replica, which turns triggers off'
    FROM pg_roles JOIN pg_db_role_setting ON setrole IN (0, pg_roles.oid) AND setdatabase IN
        (0, (SELECT oid FROM pg_database WHERE datname = current_database())), unnest(setconfig) AS setting
    WHERE rolname = ANY(%(roles)s) AND setting ILIKE 'session_replication_role=replica'
"""
# PostgreSQL 15 and later.
MAY_TURN_TRIGGERS_OFF = """
    UNION SELECT rolname, 'may set session_replication_role, which turns triggers off' FROM reached
    WHERE NOT rolsuper AND has_parameter_privilege(oid, 'session_replication_role', 'SET')
"""
# Who may pass rights on: what they gave goes with that alone. What they gave in single columns, by a right to the whole
# table, stays, and `excess` says so: PostgreSQL lets nobody else take it back.
GIVERS = """
    SELECT DISTINCT is_sequence, grantee::regrole::text FROM (
        SELECT oid, relowner, false AS is_sequence FROM tables UNION SELECT oid, relowner, true FROM sequences
    ) AS subject JOIN pg_class USING (oid), LATERAL (
        SELECT * FROM aclexplode(relacl)
        UNION ALL SELECT granted.* FROM pg_attribute, aclexplode(attacl) AS granted WHERE attrelid = pg_class.oid
    ) AS granted
    WHERE is_grantable AND grantee NOT IN (0, subject.relowner) ORDER BY 1, 2
"""
# Views whose rights this database user can take away.
VIEWS = "SELECT CAST(oid AS regclass)::text FROM views WHERE pg_has_role(relowner, 'USAGE') ORDER BY 1"
OWNED = """
    SELECT DISTINCT rolname, relname, as_name FROM reached JOIN (
        SELECT relname, relowner FROM tables UNION SELECT relname, relowner FROM sequences
        UNION SELECT proname, proowner FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
        WHERE proname = %(function)s AND nspname = %(schema)s
    ) AS owned ON relowner = reached.oid ORDER BY 1, 2
"""
LOGINS = """
    SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper
    AND oid <> (SELECT relowner FROM pg_class WHERE oid = to_regclass(%(parent)s)) ORDER BY 1
"""
NUMBERING = """
    SELECT pg_get_serial_sequence(name, 'id') FROM unnest(CAST(%(tables_of_keys)s AS text[])) AS name
    WHERE pg_get_serial_sequence(name, 'id') IS NOT NULL ORDER BY 1
"""
NAMED = 3  # tables named in a sentence


@dataclass(frozen=True)
class Excess:
    """What a role can do to the log, beyond what `grants` gives; `text` follows its name in a sentence."""

    role: str
    text: str

    @property
    def sentence(self) -> str:
        return f"{self.role} {self.text}."


def grants(role: str, *, adopts: bool = False) -> list[str]:
    """Return the SQL for a role of PostgreSQL that may write and read the log but not alter it: the web processes'.

    With `adopts` it may also make keys, as web processes do of the keys of another system.

    It takes away what the role has been given so far, by name, as PUBLIC or as a member of another role, in the log,
    its partitions, its seals, the sequences, and the views through which the log can be written. Raises TriggerError
    for another database, for a name that cannot be quoted, and for a role that no such SQL holds back.
    """
    alias = connection_to("postgresql").alias
    if not role or '"' in role or "\0" in role:
        raise TriggerError("That is not the name of a role.")
    with beside_tables(alias) as connection:
        return list(Rights(Guarded(connection)).granting(role, adopts))


def excess(role: str | None = None) -> list[Excess]:
    """Return what roles can do to the log beyond what `grants` gives, in sentences.

    Of all roles that can log in and are neither superusers nor the owner of the log; or of one role, whatever it is.
    Raises TriggerError for a role that does not exist, and for another database.
    """
    with beside_tables(connection_to("postgresql").alias) as connection:
        return Rights(Guarded(connection)).excess(role)


class Rights:
    """The rights of roles on one log."""

    def __init__(self, guarded: Guarded) -> None:
        self.guarded, self.connection = guarded, guarded.connection

    def _ask(self, statement: str, roles: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        whole = ["DELETE", "TRUNCATE", "TRIGGER"]
        version: int = self.connection.pg_version  # type: ignore[attr-defined]
        values: dict[str, Any] = {
            "log": LOG, "seals": SEALS, "identity": IDENTITY, "parent": self.guarded.named(LOG),
            "schema": self.guarded.schema, "roles": list(roles), "growing": list(GROWING), "function": NAME,
            "tables_of_keys": [self.guarded.named(KEYS), self.guarded.named(ORIGINS)],
            "columns": ["INSERT", "UPDATE", "REFERENCES"], "version": version,
            "whole": [*whole, "MAINTAIN"] if version >= 170000 else whole,
        }  # fmt: skip
        with self.connection.cursor() as cursor:
            cursor.execute(SUBJECTS + statement, values)
            return list(cursor.fetchall())

    def _powers(self, roles: Sequence[str]) -> list[tuple[str, str]]:
        """Return roles that no right in tables holds back, and why."""
        version: int = self.connection.pg_version  # type: ignore[attr-defined]
        return sorted(self._ask(POWERS + MAY_TURN_TRIGGERS_OFF if version >= 150000 else POWERS, roles))

    def granting(self, role: str, adopts: bool) -> Iterator[str]:
        """Yield the statements of `grants`."""
        powers = self._powers([role])
        if powers:
            _, power = min(powers, key=lambda each: "superuser" not in each[1])
            raise TriggerError(f"{role} {power}: no right in tables holds it back. Take another role.")
        quote, named, grantee = self.guarded.quote, self.guarded.named, self.guarded.quote(role)
        yield from self._owning(role)
        yield from self._guarding()
        log, others = named(LOG), f"{named(SEALS)}, {named(IDENTITY)}"
        sequences = ", ".join(named(name) for (name,) in self._ask("SELECT relname FROM sequences ORDER BY 1"))
        # Rights to read stay, where the role has them as a member of others: nothing can be altered by them.
        writing = "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
        writing += ", MAINTAIN" if self.connection.pg_version >= 170000 else ""  # type: ignore[attr-defined]
        for is_sequence, giver in self._ask(GIVERS):
            what = f"USAGE, UPDATE ON SEQUENCE {sequences}" if is_sequence else f"{writing} ON {log}, {others}"
            yield f"REVOKE GRANT OPTION FOR {what} FROM {giver} CASCADE;"
        views = [view for (view,) in self._ask(VIEWS)]
        for other in ("PUBLIC", *map(quote, self._memberships(role))):
            yield f"REVOKE {writing} ON {', '.join([log, others, *views])} FROM {other} CASCADE;"
            yield f"REVOKE USAGE, UPDATE ON SEQUENCE {sequences} FROM {other} CASCADE;"
        yield f"REVOKE ALL ON {log}, {others} FROM {grantee} CASCADE;"
        for view in views:
            yield f"REVOKE {writing} ON {view} FROM {grantee} CASCADE;"
        yield f"REVOKE ALL ON SEQUENCE {sequences} FROM {grantee} CASCADE;"
        yield f"{partitions.PartitionedTable(LOG, quote).close(log)};"
        written = ", ".join(quote(column) for column in self.guarded.columns[LOG] if column != "id")
        yield f"GRANT SELECT, INSERT ({written}), UPDATE ({', '.join(map(quote, GROWING))}) ON {log} TO {grantee};"
        yield f"GRANT SELECT ON {named(KEYS)}, {named(ORIGINS)}, {named(IDENTITY)} TO {grantee};"
        if adopts:
            yield f"GRANT INSERT ON {named(KEYS)}, {named(ORIGINS)} TO {grantee};"
            # A table of old may number its rows by a sequence that takes a right of its own.
            numbering = ", ".join(name for (name,) in self._ask(NUMBERING))
            yield f"GRANT USAGE ON SEQUENCE {numbering} TO {grantee};"

    def _owning(self, role: str) -> Iterator[str]:
        """Yield what gives the tables another owner, where the role owns them itself, or as a member of another."""
        owned = self._ask(OWNED, [role])
        if not owned:
            return
        reached = {role, *self._memberships(role)}
        candidates = [pair for (pair,) in self._ask(
            "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(%(parent)s)"
            " UNION ALL SELECT current_user"
        )]  # fmt: skip
        owner = next((name for name in candidates if name not in reached), None)
        if owner is None:
            raise TriggerError(
                f"{role} owns the audit log, or is a member of the role that does. Run this as the database user that"
                " is to own it: the one that migrates, prunes and seals."
            )
        # The sequences go with their tables.
        sequences = {name for (name,) in self._ask("SELECT relname FROM sequences")}
        for _, name, _ in owned:
            if name == NAME:
                yield f"ALTER FUNCTION {self.guarded.named(name)}() OWNER TO {self.guarded.quote(owner)};"
            elif name not in sequences:
                yield f"ALTER TABLE {self.guarded.named(name)} OWNER TO {self.guarded.quote(owner)};"

    def _guarding(self) -> Iterator[str]:
        """Yield what creates the trigger on UPDATE, unless it is as it should be."""
        wanted = Wanted(for_roles=True)
        if not self.guarded.faults(wanted):
            return
        yield f"{self.guarded.function()};"
        for statement in self.guarded.creating(wanted):
            yield f"{statement};"

    def _memberships(self, role: str) -> list[str]:
        """Return the other roles that the role is a member of, directly or not."""
        member = "SELECT other.rolname FROM pg_roles AS other, pg_roles AS role WHERE role.rolname = ANY(%(roles)s)"
        member += " AND other.oid <> role.oid AND pg_has_role(role.oid, other.oid, 'MEMBER') ORDER BY 1"
        return [name for (name,) in self._ask(member, [role])]

    def excess(self, role: str | None) -> list[Excess]:
        """Return what `excess` does."""
        roles = [name for (name,) in self._ask(LOGINS)] if role is None else [role]
        if role is not None and not self._ask("SELECT 1 FROM pg_roles WHERE rolname = ANY(%(roles)s)", roles):
            raise TriggerError(f"There is no role {role}.")
        found = [Excess(name, text) for name, text in self._powers(roles)]
        mighty = {each.role for each in found}
        owned: dict[tuple[str, str], list[str]] = {}
        for name, table, owner in self._ask(OWNED, roles):
            owned.setdefault((name, owner), []).append(table)
            mighty |= {name} if table == LOG else set()
        found += [
            Excess(name, f"owns {_some(tables)}" if name == owner else f"can become {owner}, who owns {_some(tables)}")
            for (name, owner), tables in owned.items()
        ]
        roles = [name for name in roles if name not in mighty]
        found += self._rights(roles)
        if faults := self.guarded.faults(Wanted(for_roles=True)):
            text = f"can rewrite outcomes and counts in {LOG}: {faults[0].sentence.rstrip('.')}"
            found += [Excess(name, text) for (name,) in self._ask(UPDATERS, roles)]
        found += [
            Excess(name, f"cannot add rows with the columns {columns}") for name, columns in self._ask(LACKS, roles)
        ]
        return sorted(found, key=lambda each: (each.role, each.text))

    def _rights(self, roles: Sequence[str]) -> Iterator[Excess]:
        by_table: dict[tuple[str, str], list[str]] = {}
        for name, table, right in self._ask(RIGHTS, roles):
            by_table.setdefault((name, table), []).append(right)
        same_rights: dict[tuple[str, str], list[str]] = {}
        for (name, table), rights in by_table.items():
            same_rights.setdefault((name, _joined(rights)), []).append(table)
        for (name, listed), tables in same_rights.items():
            yield Excess(name, f"has {listed} on {_some(tables)}")


def _joined(rights: Sequence[str]) -> str:
    """Return the rights in words, those in single columns together: `DELETE, UPDATE (at, path)`."""
    columns: dict[str, list[str]] = {}
    for right in rights:
        operation, _, column = right.partition(" ")
        columns.setdefault(operation, []).append(column.strip("()"))
    return ", ".join(f"{each} ({', '.join(names)})" if names != [""] else each for each, names in columns.items())


def _some(tables: Sequence[str]) -> str:
    more = len(tables) - NAMED
    return ", ".join(tables[:NAMED]) + (f" and {more} more" if more > 0 else "")
