"""A table `keys_apikey` that is not the old system's stops `migrate` with a sentence, and nothing is touched."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from keys.models import APIKey
from tests.support.callers import opens
from tests.support.old_system import KEY, NORMAL, OLD_TABLE, make_old_system
from tests.support.processes import ROOT
from tests.support.tables import drop_tables, execute, migrate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables_put_back")]

VENDOR = connection.vendor
BOOLEAN = {"sqlite": '"is_active" bool', "postgresql": '"is_active" boolean', "mysql": "`is_active` bool"}[VENDOR]
CREATED = {
    "sqlite": '"created_at" datetime',
    "postgresql": '"created_at" timestamp with time zone',
    "mysql": "`created_at` datetime(6)",
}[VENDOR]
MOMENT = {"sqlite": "2020-01-01", "postgresql": "2020-01-01Z", "mysql": "2020-01-01"}[VENDOR]


@pytest.fixture(autouse=True)
def empty_place() -> Iterator[None]:
    drop_tables()
    yield
    drop_tables()


def make(table: list[str], *, known: bool = True) -> None:
    for statement in table:
        execute(statement)
    if known:
        MigrationRecorder.Migration.objects.create(app="keys", name="0001_initial")


def changed(old: str, new: str) -> list[str]:
    """Return the old system's table with something else in it, without its second index."""
    statement = OLD_TABLE[VENDOR][0]
    assert old in statement
    return [statement.replace(old, new)]


def with_column(column: str) -> list[str]:
    return [OLD_TABLE[VENDOR][0].removesuffix(")") + f", {column})"]


def quoted(name: str) -> str:
    return connection.ops.quote_name(name)


def everything() -> dict[str, Any]:
    """Return what the database holds of the tables of this app, and of the history."""
    with connection.cursor() as cursor:
        tables = connection.introspection.get_table_list(cursor)
        columns = {
            table.name: connection.introspection.get_table_description(cursor, table.name)
            for table in tables
            if table.name.startswith("keys_")
        }
    rows = {name: execute(f"SELECT * FROM {name}") for name in columns}
    return {"columns": columns, "rows": rows, "history": list(MigrationRecorder.Migration.objects.values())}


def another_primary_key() -> list[str]:
    columns = f"{quoted('name')} varchar(100) NOT NULL PRIMARY KEY, {KEY} varchar(40) NOT NULL UNIQUE"
    return [f"CREATE TABLE keys_apikey (id integer NOT NULL, {columns}, {BOOLEAN} NOT NULL, {CREATED} NOT NULL)"]


ANOTHER = {
    "no key": (lambda: changed(f"{KEY} varchar(40) NOT NULL UNIQUE, ", ""), "no column key"),
    "no is_active": (lambda: changed(f"{BOOLEAN} NOT NULL, ", ""), "no column is_active"),
    "one that must be filled": (lambda: with_column("user_id integer NOT NULL"), "user_id, that must be filled"),
    "a name of ours": (lambda: with_column("prefix varchar(8) NULL"), "a column prefix already"),
    "a longer key": (lambda: changed("(40)", "(64)"), "keys_apikey.key is"),
    "a key of another type": (lambda: changed("varchar(40)", "char(40)"), "keys_apikey.key is char"),
    "a flag as a number": (lambda: changed(BOOLEAN, f"{quoted('is_active')} smallint"), "is_active is smallint"),
    "a moment as a text": (lambda: changed(CREATED, f"{quoted('created_at')} varchar(30)"), "created_at is"),
    "a day": (lambda: changed(CREATED, f"{quoted('created_at')} date"), "created_at is date"),
    "no name": (lambda: changed("varchar(40) NOT NULL", "varchar(40) NULL"), "key may be null"),
    "a unique name": (lambda: changed("varchar(100) NOT NULL", "varchar(100) NOT NULL UNIQUE"), "a constraint"),
    "a condition": (lambda: with_column("CONSTRAINT only_long CHECK (length(name) > 7)"), "a constraint"),
    "another primary key": (another_primary_key, "the primary key of keys_apikey is not id"),
}


@pytest.mark.parametrize(("table", "names"), ANOTHER.values(), ids=ANOTHER)
def test_another_table_is_refused_by_name_and_not_touched(table: Callable[[], list[str]], names: str) -> None:
    make(table())
    before = everything()
    with pytest.raises(CommandError) as refused:
        migrate()
    assert "keys_apikey" in str(refused.value)
    assert names in str(refused.value)
    assert everything() == before


def test_one_sentence_names_all_differences() -> None:
    make(changed(f"{KEY} varchar(40) NOT NULL UNIQUE, {BOOLEAN}", "user_id integer NOT NULL, token text"))
    with pytest.raises(CommandError, match=r"no column key; .*no column is_active; .*user_id.*; .*token"):
        migrate()


def test_a_key_cannot_be_the_name_of_a_column() -> None:
    """SQLite reads a column that is not there as a text."""
    make(changed(f"{KEY} varchar(40) NOT NULL UNIQUE, ", ""))
    execute("INSERT INTO keys_apikey (name, is_active, created_at) VALUES ('A', %s, %s)", [True, MOMENT])
    with pytest.raises(CommandError):
        migrate()
    assert len(execute("SELECT name FROM keys_apikey")) == 1


@pytest.mark.parametrize("known", [True, False], ids=["in the history", "not in the history"])
@pytest.mark.parametrize("options", [{}, {"fake_initial": True}], ids=["", "fake initial"])
def test_whatever_the_history_knows(known: bool, options: dict[str, Any]) -> None:
    make(with_column("user_id integer NOT NULL"), known=known)
    before = everything()
    with pytest.raises(CommandError, match="user_id"):
        call_command("migrate", "keys", verbosity=0, **options)
    assert everything() == before


def test_those_who_run_migrations_in_another_way_are_stopped_too() -> None:
    make(with_column("user_id integer NOT NULL"))
    before = everything()
    executor = MigrationExecutor(connection)
    with pytest.raises(CommandError, match="user_id"):
        executor.migrate([key for key in executor.loader.graph.leaf_nodes() if key[0] == "keys"])
    assert everything() == before


def test_the_old_table_without_a_history_is_taken_over_on_demand() -> None:
    make_old_system()
    MigrationRecorder.Migration.objects.filter(app="keys").delete()
    before = everything()
    with pytest.raises(CommandError, match="--fake-initial"):
        migrate()
    assert everything() == before
    call_command("migrate", "keys", fake_initial=True, verbosity=0)
    assert opens(NORMAL)


def test_an_empty_old_table_is_one_too() -> None:
    make(OLD_TABLE[VENDOR])
    migrate()
    assert opens(APIKey.objects.create(name="A").key)


def test_a_history_without_the_table() -> None:
    MigrationRecorder.Migration.objects.create(app="keys", name="0001_initial")
    before = everything()
    with pytest.raises(CommandError, match="there is no table keys_apikey"):
        migrate()
    assert everything() == before


def test_a_view() -> None:
    make([OLD_TABLE[VENDOR][0].replace("keys_apikey", "behind"), "CREATE VIEW keys_apikey AS SELECT * FROM behind"])
    try:
        with pytest.raises(CommandError, match="a view"):
            migrate()
        assert "keys_auditevent" not in connection.introspection.table_names()
    finally:
        execute("DROP VIEW keys_apikey")
        execute("DROP TABLE behind")


@pytest.mark.parametrize("table", ["keys_auditevent", "keys_auditlog", "keys_auditseal"])
@pytest.mark.parametrize("old", [True, False], ids=["upgrade", "fresh"])
def test_another_apps_table_in_the_place_of_the_log(table: str, old: bool) -> None:
    if old:
        make_old_system()
    execute(f"CREATE TABLE {table} (id integer)")
    before = everything()
    with pytest.raises(CommandError, match=f"there is a table {table} already"):
        migrate()
    assert everything() == before


def test_one_more_column_that_needs_no_value() -> None:
    """SQLite would lose it, so it is refused there; it stays elsewhere."""
    make([*with_column("remark varchar(20) NULL"), *OLD_TABLE[VENDOR][1:]])
    execute(
        f"INSERT INTO keys_apikey (name, {KEY}, is_active, created_at, remark) VALUES ('A', %s, %s, %s, 'ours')",
        [NORMAL, True, MOMENT],
    )
    if VENDOR == "sqlite":
        before = everything()
        with pytest.raises(CommandError, match="remark, which would be lost"):
            migrate()
        assert everything() == before
    else:
        migrate()
        assert execute("SELECT remark FROM keys_apikey") == [("ours",)]
        assert opens(NORMAL)
        assert opens(APIKey.objects.create(name="new").key)


@pytest.mark.skipif(VENDOR != "sqlite", reason="Others keep triggers.")
def test_a_trigger_that_would_be_lost() -> None:
    make_old_system()
    execute("CREATE TRIGGER watches AFTER INSERT ON keys_apikey BEGIN SELECT 1; END")
    with pytest.raises(CommandError, match="a trigger, watches"):
        migrate()


@pytest.mark.matrix
@pytest.mark.skipif(VENDOR != "sqlite", reason="Needs a database of its own, which is a file there.")
@pytest.mark.parametrize("is_known", [True, False])
def test_no_other_app_is_migrated_before_it_and_one_line_says_why(tmp_path: Path, is_known: bool) -> None:
    path = tmp_path / "another.sqlite3"
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE keys_apikey (id integer PRIMARY KEY, user_id integer NOT NULL)")
        if is_known:
            file.execute(
                "CREATE TABLE django_migrations (id integer PRIMARY KEY, app text, name text, applied datetime)"
            )
            file.execute("INSERT INTO django_migrations VALUES (1, 'keys', '0001_initial', '2020-01-01 00:00:00')")
        file.commit()
        before = list(file.iterdump())
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--skip-checks"],
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": f"sqlite:///{path}",
                "DJANGO_SETTINGS_MODULE": "example_project.settings",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("CommandError: ")
        assert "user_id" in line
        assert list(file.iterdump()) == before


@pytest.mark.skipif(VENDOR != "postgresql", reason="Only PostgreSQL has a search path.")
class TestSchemas:
    @pytest.fixture(autouse=True)
    def schemas(self) -> Iterator[None]:
        execute("CREATE SCHEMA first_of_two")
        execute("SET search_path TO first_of_two, public")
        yield
        execute("SET search_path TO DEFAULT")
        execute("DROP SCHEMA first_of_two CASCADE")

    def test_the_table_in_a_later_schema_is_the_one_that_is_compared(self) -> None:
        make(
            [statement.replace('"keys_apikey"', "public.keys_apikey", 1) for statement in with_column("a int NOT NULL")]
        )
        with pytest.raises(CommandError, match="one more column, a,"):
            migrate()

    def test_another_schemas_table_is_not_in_the_way_of_a_new_one(self) -> None:
        execute("CREATE TABLE public.keys_apikey (id integer)")
        execute("CREATE TABLE public.keys_auditevent (id integer)")
        migrate()
        assert opens(APIKey.objects.create(name="A").key)
        execute("DROP TABLE public.keys_apikey, public.keys_auditevent")
