"""Migrations of tables that are ours already: what stops them, what they leave alone, and the way back."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from pytest_django import Settings

from keys.audit import sealing, triggers
from keys.models import APIKey, AuditEvent, AuditSeal, KeyOrigin
from keys.models.fields import Digest
from keys.tokens import digests
from tests.support.callers import opens
from tests.support.commands import run
from tests.support.old_system import KEY, NORMAL, OLD_TABLE, insert
from tests.support.sealed_logs import problems, write_and_seal
from tests.support.tables import drop_tables, execute, migrate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables_put_back")]

VENDOR = connection.vendor
FOREIGN = "sk_live_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
FUNCTION = "CREATE OR REPLACE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
WATCH = "CREATE TRIGGER watches BEFORE INSERT ON keys_auditevent FOR EACH ROW {} EXECUTE FUNCTION watch()"

# What could be left behind, past the tables.
LEFT = {
    "sqlite": ["SELECT name FROM sqlite_master WHERE name LIKE 'keys%%' OR sql LIKE '%%keys_a%%'"],
    "postgresql": [
        "SELECT relname FROM pg_class WHERE relname LIKE 'keys\\_%%'",
        "SELECT proname FROM pg_proc WHERE proname LIKE 'keys\\_%%'",
        "SELECT typname FROM pg_type WHERE typname LIKE 'keys\\_%%' OR typname LIKE '\\_keys\\_%%'",
    ],
}

# What would stop a migration with an error of the database: the migration before it, what is there, how it is named.
IN_THE_WAY: dict[str, dict[str, tuple[str, list[str], str]]] = {
    "sqlite": {
        "a view and a trigger, where the table is copied": (
            "0005",
            ["CREATE VIEW other AS SELECT name FROM keys_apikey",
             "CREATE TRIGGER others AFTER UPDATE ON keys_apikey BEGIN SELECT 1; END"],
            "the view other uses keys_apikey; keys_apikey has a trigger, others, which would be lost",
        ),
    },
    "postgresql": {
        "a view of keys": ("0006", ["CREATE VIEW other AS SELECT prefix FROM keys_apikey"], "view other uses"),
        "a view of the log": ("0006", ["CREATE VIEW other AS SELECT * FROM keys_auditevent"], "auditevent.key_prefix"),
        "a view of a partition": (
            "0006", ["CREATE VIEW other AS SELECT * FROM keys_auditevent_default"], "keys_auditevent.key_prefix",
        ),
        "a policy": ("0006", ["CREATE POLICY other ON keys_apikey USING (prefix <> '')"], "policy other"),
        "a trigger": ("0006", [FUNCTION, WATCH.format("WHEN (NEW.key_prefix = '')")], "trigger watches"),
    },
    "mysql": {},
}  # fmt: skip

# What is no obstacle, and is as it was afterwards.
NOT_IN_THE_WAY: dict[str, list[str]] = {
    "sqlite": [
        "CREATE VIEW other AS SELECT name, prefix FROM keys_apikey",
        "CREATE TRIGGER others AFTER UPDATE ON keys_apikey BEGIN SELECT 1; END",
    ],
    "postgresql": [
        "CREATE VIEW other AS SELECT name FROM keys_apikey",
        "CREATE INDEX others ON keys_auditevent (key_prefix)",
        FUNCTION,
        WATCH.format(""),
    ],
    "mysql": ["CREATE VIEW other AS SELECT name, prefix FROM keys_apikey"],
}


@pytest.fixture
def as_before() -> Iterator[None]:
    """Take away what a test made beside the tables, and bring these up to date."""
    yield
    execute("DROP VIEW IF EXISTS other")
    if VENDOR == "sqlite":
        execute("DROP TRIGGER IF EXISTS others")
    if VENDOR == "postgresql":
        for statement in (
            "POLICY IF EXISTS other ON keys_apikey",
            "FUNCTION IF EXISTS watch CASCADE",
            "INDEX IF EXISTS others",
        ):
            execute(f"DROP {statement}")
    migrate()


def applied() -> set[str]:
    return {*MigrationRecorder.Migration.objects.filter(app="keys").values_list("name", flat=True)}


@pytest.mark.parametrize(("before", "statements", "named"), IN_THE_WAY[VENDOR].values(), ids=IN_THE_WAY[VENDOR])
def test_what_stands_in_the_way_is_named_before_anything_is_changed(
    as_before: None, before: str, statements: list[str], named: str
) -> None:
    migrate(before)
    history = applied()
    for statement in statements:
        execute(statement)
    with pytest.raises(CommandError) as refused:
        migrate()
    assert named in str(refused.value)
    assert "make it again" in str(refused.value)
    assert applied() == history


def test_what_is_not_in_the_way_stays(as_before: None) -> None:
    key = APIKey.objects.create(name="A")
    migrate("0006")
    for statement in NOT_IN_THE_WAY[VENDOR]:
        execute(statement)
    migrate()
    assert opens(key.key)
    assert execute("SELECT name FROM other") == [("A",)]
    if VENDOR == "sqlite":
        assert execute("SELECT count(*) FROM sqlite_master WHERE name = 'others' AND type = 'trigger'") == [(1,)]
    if VENDOR == "postgresql":
        assert execute("SELECT count(*) FROM pg_trigger WHERE tgname = 'watches' AND tgparentid = 0") == [(1,)]
    call_command("makemigrations", "keys", check=True, dry_run=True, verbosity=0)


def test_servers_of_the_release_before_go_on_writing() -> None:
    """Until they are restarted they know the tables as they were before the newest migration."""
    loader = MigrationLoader(connection)
    before = sorted(name for app, name in loader.disk_migrations if app == "keys")[-2]
    models = loader.project_state(("keys", before)).apps
    key = models.get_model("keys", "APIKey").objects.create(name="A", key="a" * 40)
    assert opens("a" * 40)
    events = models.get_model("keys", "AuditEvent").objects
    row = {field.attname: getattr(events.get(method="GET"), field.attname) for field in events.model._meta.fields}
    events.create(**{**row, "id": None, "api_key_id": key.pk, "ticket": None})
    assert AuditEvent.objects.filter(event="used", key_name="A").count() == 2


@pytest.mark.skipif(VENDOR != "postgresql", reason="Only PostgreSQL numbers the files of its tables.")
def test_no_table_and_no_index_is_written_anew() -> None:
    files = "SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^keys_(apikey|audit)' ORDER BY 1"
    migrate("0006")
    before = execute(files)
    migrate()
    assert execute(files) == before


@pytest.mark.matrix
@pytest.mark.usefixtures("seal_key")
def test_seals_from_before_hold_after() -> None:
    write_and_seal()
    try:
        migrate("0006")
        migrate()
        assert problems() == []
        write_and_seal()
        assert problems() == []
    finally:
        AuditSeal.objects.all().delete()


@pytest.mark.skipif(VENDOR != "mysql", reason="Only MariaDB has row formats.")
@pytest.mark.parametrize("row_format", ["COMPACT", "REDUNDANT"])
def test_a_table_from_before_wide_indexes(row_format: str) -> None:
    drop_tables()
    execute(f"{OLD_TABLE[VENDOR][0]} ROW_FORMAT = {row_format}")
    MigrationRecorder.Migration.objects.create(app="keys", name="0001_initial")
    insert(("A", "a" * 40))
    migrate()
    assert opens("a" * 40)


class TestTheWayBack:
    """What each step leaves and takes, with a key of every kind, rows, seals and triggers."""

    @pytest.fixture(autouse=True)
    def used(self, settings: Settings, seal_key: str) -> Iterator[None]:
        settings.KEYS = {"OWNERS": ["auth.User"], "SEAL_AFTER": timedelta(0)}
        keys: Any = APIKey.objects
        self.plain, self.owned = keys.create(name="plain").key, keys.create(name="owned", owner=self.anna()).key
        keys.create(name="short", key=FOREIGN[:40])
        keys.create(name="foreign", key=FOREIGN)
        imported = keys.create(name="imported", key=Digest(digests(NORMAL * 2)[1]))
        KeyOrigin.objects.create(source="old.Token", ref="7", api_key=imported, at=timezone.now())
        assert all(map(opens, (self.plain, self.owned, FOREIGN, NORMAL * 2)))
        list(sealing.seal())
        self.digests = [*map(str, keys.values_list("key", flat=True))]
        if VENDOR in triggers.VENDORS:
            triggers.install()
        yield
        migrate()
        if VENDOR in triggers.VENDORS:
            triggers.remove()

    @staticmethod
    def anna() -> User:
        return User.objects.create(username="anna")

    @pytest.mark.matrix
    def test_to_the_release_before_keys_and_log_stay_and_origins_go(self) -> None:
        before = execute("SELECT id, at, key_prefix, key_name FROM keys_auditevent ORDER BY id")
        migrate("0006")
        assert execute("SELECT id, at, key_prefix, key_name FROM keys_auditevent ORDER BY id") == before
        assert "keys_keyorigin" not in connection.introspection.table_names()
        assert execute("SELECT prefix FROM keys_apikey WHERE name = 'foreign'") == [(FOREIGN[:16],)]
        migrate()
        assert all(map(opens, (self.plain, self.owned, FOREIGN, NORMAL * 2)))
        assert problems() == []
        assert not KeyOrigin.objects.exists()

    @pytest.mark.matrix
    @pytest.mark.parametrize("target", ["0005", "0004", "0003"])
    def test_further_back_owned_keys_end_and_the_others_go_on(self, target: str) -> None:
        migrate(target)
        migrate()
        assert all(map(opens, (self.plain, FOREIGN, NORMAL * 2)))
        assert not opens(self.owned)

    @pytest.mark.matrix
    def test_beyond_the_digests_every_key_ends_and_the_log_goes(self) -> None:
        migrate("0001")
        rows = execute(f"SELECT name, {KEY}, is_active FROM keys_apikey ORDER BY id")
        assert [(name, bool(is_active)) for name, _, is_active in rows] == [
            (name, False) for name in ("plain", "owned", "short", "foreign", "imported")
        ]
        assert not {key for _, key, _ in rows} & {*self.digests}
        migrate()
        APIKey.objects.update(is_active=True)
        assert not any(map(opens, (self.plain, self.owned, FOREIGN, NORMAL * 2, *self.digests)))

    @pytest.mark.matrix
    def test_zero_leaves_nothing_of_ours_but_what_django_keeps(self) -> None:
        plan = run("migrate", "keys", "zero", "--plan").out
        assert "Every key ends for good" in plan
        assert "Every owned key ends" in plan
        rights = Permission.objects.filter(content_type__app_label="keys").count()
        migrate("zero")
        names = {name for name in connection.introspection.table_names() if name.startswith("keys_")}
        assert (names, applied()) == (set(), set())
        assert Permission.objects.filter(content_type__app_label="keys").count() == rights > 0
        for statement in LEFT.get(VENDOR, ()):
            assert execute(statement) == []
        migrate()
        assert (APIKey.objects.count(), AuditEvent.objects.count(), AuditSeal.objects.count()) == (0, 0, 0)
        assert not any(map(opens, (self.plain, self.owned, FOREIGN, NORMAL * 2, *self.digests)))
        assert opens(APIKey.objects.create(name="new").key)


@pytest.mark.matrix
@pytest.mark.parametrize("backwards", [False, True])
def test_the_sql_of_each_migration_can_be_read(backwards: bool) -> None:
    for name in ("0006", "0007"):
        written = run("sqlmigrate", "keys", name, *(["--backwards"] if backwards else []))
        assert (written.status, "keys_apikey" in written.out) == (0, True), written.err
