"""The way back, what the files of the database hold, and old tables of other shapes."""

import os
from importlib import import_module
from pathlib import Path
from subprocess import check_output
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection
from pytest_django import Settings

from keys import tokens
from keys.models import APIKey, AuditEvent
from tests.support.callers import opens
from tests.support.old_system import (
    KEY,
    NARROW_ID,
    NORMAL,
    NOT_UNIQUE,
    OLD_KEYS,
    OLD_TABLE,
    insert,
    make_old_system,
    table,
)
from tests.support.tables import drop_tables, execute, migrate

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables_put_back")]


class TestTheWayBack:
    @pytest.fixture(autouse=True)
    def upgraded_and_back(self) -> None:
        make_old_system()
        migrate()
        APIKey.objects.create(name="new")
        self.digests = list(APIKey.objects.values_list("key", flat=True))
        migrate("0001")

    def test_leaves_the_rows_inactive_with_keys_that_open_nothing(self) -> None:
        rows = execute(f"SELECT name, {KEY}, is_active FROM keys_apikey ORDER BY id")
        assert [name for name, *_ in rows] == [*OLD_KEYS, "new"]
        assert not any(is_active for *_, is_active in rows)
        stored = [key for _, key, _ in rows]
        assert len({*stored}) == len(stored)
        # No header can carry such a key, so that not even an activation makes one work.
        assert all(len(key) == 40 and "\n" in key for key in stored)
        assert not any(digest in table() for digest in self.digests)
        assert execute(f"SELECT count(*) FROM keys_apikey WHERE {KEY} LIKE 'sha256%%'", []) == [(0,)]

    def test_gives_back_the_old_table(self) -> None:
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, "keys_apikey")
        assert {column.name for column in columns} == {"id", "name", "key", "is_active", "created_at"}
        assert "keys_auditevent" not in connection.introspection.table_names()

    def test_and_forward_again_makes_none_of_them_work(self) -> None:
        rows = execute(f"SELECT {KEY} FROM keys_apikey")
        migrate()
        APIKey.objects.update(is_active=True)
        for key in (*OLD_KEYS.values(), *self.digests, *(key for (key,) in rows)):
            assert not opens(key)


def test_on_the_way_back_from_owners_owned_keys_end_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The release before asks for no owner: a key that was refused with its owner would be accepted again."""
    monkeypatch.setattr(import_module("keys.migrations.0006_owners"), "BATCH", 2)
    settings.KEYS = {"OWNERS": ["auth.User"]}
    anna = User.objects.create(username="anna", is_active=False)
    keys: Any = APIKey.objects
    owned = [keys.create(name=f"owned {number}", owner=anna).key for number in range(3)]
    free = keys.create(name="free").key
    ended = keys.create(name="ended", owner=anna)
    ended.deactivate()
    AuditEvent.objects.all().delete()
    migrate("0005")
    migrate()
    assert opens(free)
    assert not any(opens(key) for key in (*owned, ended.key))
    events = AuditEvent.objects.filter(event="deactivated").order_by("key_name")
    assert [(event.key_name, event.detail, event.changes) for event in events] == [
        (f"owned {number}", "its owner was taken from it by a migration", {"is_active": [True, False]})
        for number in range(3)
    ]


def files() -> bytes:
    """What the database's files hold of the table, rows that are no more included."""
    if connection.vendor == "sqlite":
        main = Path(connection.settings_dict["NAME"])
        # By another process: who closes a file of the database, drops the locks of its whole process.
        return check_output(["cat", *main.parent.glob(main.name + "*")])
    if connection.vendor == "mysql":
        # Writes out what has changed, and keeps it as it is while it is read.
        execute("FLUSH TABLES keys_apikey FOR EXPORT")
        held = tablespace().read_bytes()
        execute("UNLOCK TABLES")
        return held
    pages = (
        "SELECT get_raw_page(relname, page) FROM (SELECT relname::text, pg_relation_size(oid) AS size FROM pg_class"
        " WHERE relname LIKE %s AND relkind IN ('r', 'i')) AS relations,"
        " generate_series(0, size / current_setting('block_size')::int - 1) AS page"
    )
    return b"".join(bytes(content) for (content,) in execute(pages, ["keys_apikey%"]))


def tablespace() -> Path:
    """Where MariaDB keeps the table, on its own machine."""
    ((folder, database),) = execute("SELECT @@datadir, DATABASE()")
    return Path(folder, database, "keys_apikey.ibd")


@pytest.fixture
def readable_files() -> None:
    if connection.vendor == "sqlite":
        # As SQLite is built by default; some distributions overwrite what is deleted.
        execute("PRAGMA secure_delete = OFF")
    elif connection.vendor == "mysql":
        if not os.access(tablespace(), os.R_OK):
            pytest.skip("needs MariaDB's files, and so its machine and the right to read them")
    else:
        try:
            execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
        except DatabaseError:
            pytest.skip("needs the extension pageinspect, and a superuser")


def test_the_files_of_the_database_hold_no_plain_key(readable_files: None) -> None:
    make_old_system()
    assert NORMAL.encode() in files()
    migrate()
    held = files()
    assert tokens.digest(NORMAL).encode() in held
    assert not [key for key in OLD_KEYS.values() if key.encode() in held]


class TestOtherOldTables:
    def test_a_narrow_id(self) -> None:
        make_old_system(NARROW_ID)
        migrate()
        assert opens(NORMAL)
        assert opens(APIKey.objects.get(name="normal").rotate().key)

    def test_a_key_without_a_constraint(self) -> None:
        make_old_system(NOT_UNIQUE)
        migrate()
        assert opens(NORMAL)

    def test_two_rows_with_the_same_key(self) -> None:
        make_old_system(NOT_UNIQUE)
        insert(("twin", NORMAL))
        with pytest.raises(IntegrityError):
            migrate()
        assert NORMAL in table()


@pytest.mark.parametrize(
    "old", [OLD_TABLE, NARROW_ID, NOT_UNIQUE, None], ids=["usual", "narrow", "not unique", "fresh"]
)
def test_the_column_of_the_key_has_one_index_and_it_is_unique(old: dict[str, list[str]] | None) -> None:
    if old is None:
        drop_tables()
    else:
        make_old_system(old)
    migrate()
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, "keys_apikey").values()
    assert [index["unique"] for index in constraints if index["columns"] == ["key"]] == [True]
    if connection.vendor == "postgresql":
        # Under whatever name: the LIKE index is not told from others above.
        assert execute(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'keys_apikey' AND indexdef LIKE '%%(key%%'", []
        ) == [(1,)]
    call_command("makemigrations", "keys", check=True, dry_run=True, verbosity=0)
