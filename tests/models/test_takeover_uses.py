"""What else of a database uses the old table: what would stop the takeover half way is named before it begins."""

from collections.abc import Iterator

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, connection, transaction

from keys.models import APIKey
from tests.models.test_takeover import everything, make
from tests.support.callers import opens
from tests.support.old_system import KEY, NARROW_ID, NORMAL, NOT_UNIQUE, OLD_TABLE, insert
from tests.support.tables import drop_tables, execute, migrate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables_put_back")]

VENDOR = connection.vendor


# What uses the old table in a way that stops the takeover after it has begun, and how the refusal names it.
FUNCTION = "CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
WATCH = "CREATE TRIGGER watches BEFORE UPDATE {} ON keys_apikey FOR EACH ROW {} EXECUTE FUNCTION watch()"
USES: dict[str, dict[str, tuple[list[str], str]]] = {
    "sqlite": {
        "a view": (["CREATE VIEW other AS SELECT name FROM Keys_APIKey"], "the view other uses keys_apikey"),
        "a trigger of another table": (
            ["CREATE TABLE others (a int)",
             "CREATE TRIGGER other AFTER INSERT ON others BEGIN DELETE FROM keys_apikey; END"],
            "the trigger other uses keys_apikey",
        ),
        "a foreign key to the key": (
            ["CREATE TABLE others (k varchar(40) REFERENCES keys_apikey(key))"], "a foreign key of others",
        ),
        "what a crash has left": (["CREATE TABLE new__keys_apikey (a int)"], "a table new__keys_apikey already"),
        "an index of that name": (
            ["CREATE TABLE others (a int)", "CREATE INDEX keys_event_at ON others (a)"], "keys_event_at is taken",
        ),
    },
    "postgresql": {
        "a view": (["CREATE VIEW other AS SELECT * FROM keys_apikey"], "view other uses keys_apikey.key"),
        "a materialized view": (
            ["CREATE MATERIALIZED VIEW other AS SELECT * FROM keys_apikey"], "materialized view other",
        ),
        "a foreign key to the key": (
            ["CREATE TABLE others (k varchar(40) REFERENCES keys_apikey(key))"], "others_k_fkey on table others",
        ),
        "a generated column": (
            ["ALTER TABLE keys_apikey ADD low text GENERATED ALWAYS AS (lower(key)) STORED"], "column low of table",
        ),
        "a trigger of the column": ([FUNCTION, WATCH.format("OF key", "")], "trigger watches"),
        "a trigger with a condition": ([FUNCTION, WATCH.format("", "WHEN (NEW.key <> OLD.key)")], "trigger watches"),
        "a policy": (["CREATE POLICY other ON keys_apikey USING (key <> '')"], "policy other"),
        "rows that are hidden": (
            [f"ALTER TABLE keys_apikey {what} ROW LEVEL SECURITY" for what in ("ENABLE", "FORCE")], "may hide rows",
        ),
        "a rule": (["CREATE RULE other AS ON DELETE TO keys_apikey WHERE OLD.key = '' DO NOTHING"], "rule other"),
        "an exclusion": (["ALTER TABLE keys_apikey ADD CONSTRAINT alone EXCLUDE (name WITH =)"], "its own, alone"),
        "an index of that name": (
            ["CREATE TABLE others (a int)", "CREATE INDEX keys_event_at ON others (a)"], "keys_event_at is taken",
        ),
    },
    "mysql": {
        "a foreign key to the key": (
            ["CREATE TABLE others (k varchar(40), CONSTRAINT far FOREIGN KEY (k) REFERENCES keys_apikey(`key`))"],
            "foreign key far of others",
        ),
        "a generated column": (
            ["ALTER TABLE keys_apikey ADD low varchar(40) AS (lower(`key`)) STORED"], "generated column low",
        ),
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def empty_place() -> Iterator[None]:
    """Drop today's tables before, and the old one with what uses it after."""
    drop_tables()
    yield
    if VENDOR == "postgresql":
        execute("DROP TABLE IF EXISTS keys_apikey CASCADE")
        execute("DROP FUNCTION IF EXISTS watch")
    else:
        execute("DROP VIEW IF EXISTS other")
    for table in ("others", "new__keys_apikey"):
        execute(f"DROP TABLE IF EXISTS {table}")
    drop_tables()


@pytest.mark.parametrize(("statements", "names"), USES[VENDOR].values(), ids=USES[VENDOR])
def test_what_would_stop_the_takeover_half_way_is_named_before_it_begins(statements: list[str], names: str) -> None:
    make([*OLD_TABLE[VENDOR], *statements])
    insert(("A", NORMAL))
    before = everything()
    with pytest.raises(CommandError) as refused:
        migrate()
    assert names in str(refused.value)
    assert everything() == before


# Databases that came from elsewhere, of which nothing is to be refused.
INDEX = f"CREATE UNIQUE INDEX by_key ON keys_apikey ({KEY})"
GOOD_HERE: dict[str, dict[str, list[str]]] = {
    "sqlite": {
        "typed by hand": [
            "CREATE TABLE keys_apikey (id INTEGER PRIMARY KEY, name VARCHAR (100) NOT NULL,"
            " key VARCHAR( 40 ) NOT NULL UNIQUE, is_active BOOL NOT NULL DEFAULT 1, created_at DATETIME NOT NULL)"
        ],
        "a foreign key to the row": [*OLD_TABLE["sqlite"], "CREATE TABLE others (k bigint REFERENCES keys_apikey(id))"],
    },
    "postgresql": {
        "a view without the key": [*OLD_TABLE["postgresql"], "CREATE VIEW other AS SELECT id, name FROM keys_apikey"],
        "a foreign key to the row": [
            *OLD_TABLE["postgresql"],
            "CREATE TABLE others (k bigint REFERENCES keys_apikey(id))",
        ],
        "a part of the keys is unique": [*NOT_UNIQUE["postgresql"], f"{INDEX} WHERE is_active"],
    },
    "mysql": {
        "a narrow foreign key": [
            *NARROW_ID["mysql"],
            "CREATE TABLE others (k int NOT NULL, CONSTRAINT far FOREIGN KEY (k) REFERENCES keys_apikey(id)"
            " ON DELETE CASCADE)",
        ],
        "a view": [*OLD_TABLE["mysql"], "CREATE VIEW other AS SELECT * FROM keys_apikey"],
        "another engine": [f"{OLD_TABLE['mysql'][0]} ENGINE=MyISAM"],
    },
}
GOOD = {
    **GOOD_HERE[VENDOR],
    "an index in the constraint's place": [*NOT_UNIQUE[VENDOR], INDEX],
    "an index beside the constraint": [*OLD_TABLE[VENDOR], INDEX],
}


@pytest.mark.matrix
@pytest.mark.parametrize("table", GOOD.values(), ids=GOOD)
def test_an_old_table_that_came_another_way_is_taken_over(table: list[str]) -> None:
    make(table)
    insert(("A", NORMAL))
    ((pk,),) = execute("SELECT id FROM keys_apikey")
    if "others" in table[-1]:
        execute("INSERT INTO others VALUES (%s)", [pk])
    migrate()
    assert opens(NORMAL)
    assert opens(APIKey.objects.create(name="B").key)
    with pytest.raises(IntegrityError), transaction.atomic():
        APIKey.objects.create(name="C", key=NORMAL)
    if VENDOR == "mysql" and "others" in table[-1]:
        with pytest.raises(IntegrityError):
            execute("INSERT INTO others VALUES (77)")
        execute("DELETE FROM keys_apikey WHERE id = %s", [pk])
        assert execute("SELECT * FROM others") == []


@pytest.mark.skipif(VENDOR != "sqlite", reason="Only SQLite has tables without row ids.")
def test_a_table_that_does_not_number_its_rows() -> None:
    make([OLD_TABLE[VENDOR][0].replace(" AUTOINCREMENT", "") + " WITHOUT ROWID"])
    with pytest.raises(CommandError, match="not numbered"):
        migrate()


@pytest.mark.skipif(VENDOR != "mysql", reason="Only MariaDB calls a partitioned table a base table.")
def test_a_partitioned_table() -> None:
    make([f"{NOT_UNIQUE[VENDOR][0]} PARTITION BY HASH(id) PARTITIONS 2"])
    with pytest.raises(CommandError, match="no plain table"):
        migrate()
