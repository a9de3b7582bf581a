"""Rights on PostgreSQL: what a web process goes on doing with those of `keys_guard grants`, and what it cannot do."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings

from keys.audit import grants, partitions, statements, triggers
from keys.audit.triggers import TriggerError
from keys.keyrings import DatabaseKeyring
from keys.models import APIKey, AuditEvent, KeyOrigin
from keys.verification import Guard, use_of
from tests.keyrings.conftest import old as old
from tests.keyrings.old_tokens import TOKEN, OldTokens
from tests.support import runs
from tests.support.admin import LIST
from tests.support.commands import found, run
from tests.support.keys import make_key
from tests.support.log import record, row
from tests.support.tables import execute, months_ago, reset_partitions, suffix

needs_roles = pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has roles.")
ROLE, GROUP, OTHER = runs.own("web"), runs.own("group"), runs.own("other")


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL has roles.")
@pytest.mark.django_db
def test_rights_are_for_databases_that_have_roles() -> None:
    for ask in (lambda: grants.grants("web"), grants.excess):
        with pytest.raises(TriggerError, match="This is for PostgreSQL"):
            ask()


@pytest.fixture
def roles() -> Iterator[None]:
    """The role of the web processes, a role that it is a member of, and another."""
    execute(f"CREATE ROLE {GROUP}")
    execute(f"CREATE ROLE {OTHER}")
    execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE {GROUP}")
    yield
    connection.close()
    execute(f"REASSIGN OWNED BY {ROLE}, {GROUP}, {OTHER} TO CURRENT_USER")
    for kind in ("TABLES", "SEQUENCES"):
        execute(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON {kind} FROM PUBLIC")
    execute(f"DROP OWNED BY {ROLE}, {GROUP}, {OTHER}")
    execute(f"DROP ROLE {ROLE}, {GROUP}, {OTHER}")
    for kind in ("TABLES", "SEQUENCES"):
        execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM PUBLIC")
    triggers.remove()
    reset_partitions()


@contextmanager
def logged_in(role: str) -> Iterator[None]:
    """Log in as the role: the connection of this test is its."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "USER", role)
        connection.close()
        try:
            yield
        finally:
            connection.close()


def grant() -> None:
    for statement in grants.grants(ROLE):
        execute(statement)


def is_refused(statement: str, values: Any = None) -> bool:
    try:
        with transaction.atomic():
            execute(statement, values)
    except (ProgrammingError, IntegrityError) as error:
        return any(word in str(error) for word in ("permission denied", "must be owner", "append-only"))
    return False


# What a project may have granted before.
EARLIER = [
    *(
        f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {whom}"
        for kind in ("TABLES", "SEQUENCES")
        for whom in (ROLE, GROUP, "PUBLIC")
    ),
    *(
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {whom}"
        for kind in ("TABLES", "SEQUENCES")
        for whom in (ROLE, GROUP, "PUBLIC")
    ),
    f"GRANT UPDATE (at, path), INSERT (id) ON keys_auditevent TO {ROLE}, {GROUP}, PUBLIC",
    f"GRANT ALL ON keys_auditevent TO {OTHER} WITH GRANT OPTION",
    f"GRANT UPDATE (path) ON keys_auditevent_past TO {ROLE}, {GROUP}, PUBLIC",
    f"ALTER TABLE keys_auditevent_default OWNER TO {ROLE}",
    f"ALTER TABLE keys_auditevent_past OWNER TO {GROUP}",
    f"ALTER TABLE keys_auditseal OWNER TO {GROUP}",
]


@needs_roles
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("roles")
class TestRole:
    """The web process logs in as a role that had every right before."""

    @pytest.fixture(autouse=True)
    def earlier_rights(self, roles: None) -> None:
        for statement in EARLIER:
            execute(statement)

    def test_a_request_leaves_a_finished_row(self, settings: Settings) -> None:
        key = make_key("TTS")
        grant()
        settings.KEYS = {"OUTCOME_DELAY": timedelta(0)}
        with logged_in(ROLE):
            assert execute("SELECT current_user") == [(ROLE,)]
            assert Client(headers={"X-API-Key": key.key}).get("/guarded/").status_code == 200
            assert AuditEvent.objects.filter(event="used", status=200, key_name="TTS").count() == 1
            for _ in range(9):
                assert Client(headers={"X-API-Key": "0" * 40}).get("/guarded/").status_code == 401
            assert sum(AuditEvent.objects.filter(event="refused").values_list("count", flat=True)) == 9

    def test_what_came_through_a_stream_can_be_written(self) -> None:
        grant()
        at = timezone.now()
        with logged_in(ROLE):
            for status in (None, 200, 200):
                statements.ship([{**row(at=at, status=status), "ticket": 7}])
            assert AuditEvent.objects.get(ticket=7).status == 200

    def test_the_admin_and_the_commands_work_with_rights_on_the_keys(self) -> None:
        record(at=months_ago(1))
        boss = get_user_model().objects.create_superuser("boss")
        grant()
        execute(f"GRANT INSERT, UPDATE, DELETE ON keys_apikey TO {ROLE}")
        with logged_in(ROLE):
            key = make_key("TTS")
            key.rotate()
            key.deactivate()
            browser = Client()
            browser.force_login(boss)
            assert browser.get(LIST).status_code == 200
            assert run("keys_list").status == 0
            assert run("keys_usage").status == 0
            # What it may not do is told in a sentence.
            pruned = run("keys_prune", "--older-than", "1d")
            assert (pruned.status, "permission denied" in pruned.err) == (1, True)
        steps = AuditEvent.objects.order_by("id").values_list("event", flat=True)
        assert [*steps][1:5] == ["created", "created", "rotated", "deactivated"]

    def test_nothing_is_altered_neither_through_a_partition_nor_by_update(self) -> None:
        now = timezone.now()
        used, refused = (
            record(at=now, key_name="TTS"),
            record(event="refused", reason="expired", key_name="TTS", at=now),
        )
        step, late = record(event="deactivated", at=now, status=None), record(at=months_ago(2))
        grant()
        # By whatever it is made.
        partitions.make(months_ago(-5))
        record(at=months_ago(-20))
        record(at=months_ago(-30))
        while partitions.gather():
            pass
        names = [partition.name for partition in partitions.present()]
        assert f"keys_auditevent_{suffix(months_ago(-20))}" in names
        through = [
            statement.format(name)
            for name in names
            for statement in (
                "UPDATE {} SET path = 'x'", "UPDATE {} SET status = 1", "DELETE FROM {}", "TRUNCATE {}",
                "INSERT INTO {} SELECT * FROM keys_auditevent LIMIT 1", "ALTER TABLE {} DISABLE TRIGGER ALL",
                "DROP TABLE {}",
            )
        ]  # fmt: skip
        altered = [
            f"UPDATE keys_auditevent SET event = 'used' WHERE id = {step.pk}",
            f"UPDATE keys_auditevent SET status = 500 WHERE id = {used.pk}",
            f"UPDATE keys_auditevent SET count = count + 1 WHERE id IN ({used.pk}, {refused.pk})",
            f"UPDATE keys_auditevent SET at = now() WHERE id = {late.pk}",
            "UPDATE keys_auditevent SET path = ''",
            "INSERT INTO keys_auditevent (id, at) VALUES (7, now())",
            "DELETE FROM keys_auditevent",
            "TRUNCATE keys_auditevent",
            "LOCK TABLE keys_auditseal IN EXCLUSIVE MODE",
            *(f"SELECT setval('keys_{name}_seq', 1)" for name in ("auditevent_id", "auditseal_number")),
            "SELECT nextval('keys_auditevent_id_seq')",
            "DELETE FROM keys_auditseal",
            "TRUNCATE keys_auditseal",
            "UPDATE keys_auditseal SET count = 1",
            "INSERT INTO keys_auditseal (number) VALUES (7)",
            "UPDATE keys_auditlog SET home = ''",
            "CREATE TRIGGER x BEFORE INSERT ON keys_auditevent FOR EACH ROW EXECUTE FUNCTION keys_append_only()",
            "ALTER FUNCTION keys_append_only() RENAME TO other",
            "ALTER TABLE keys_auditevent DISABLE TRIGGER ALL",
        ]
        before = list(AuditEvent.objects.order_by("id").values_list())
        with logged_in(ROLE):
            for role in (ROLE, GROUP):
                execute(f"SET ROLE {role}")
                assert [statement for statement in [*altered, *through] if not is_refused(statement)] == []
            execute("RESET ROLE")
            # It adds rows, finishes a use and counts a stranger, and nothing else.
            for event in (record(at=now, status=None), record(event="refused", reason="unknown", at=now)):
                AuditEvent.objects.filter(pk=event.pk).update(
                    **{"status": 200} if event.event == "used" else {"count": 2}
                )
        assert list(AuditEvent.objects.filter(pk__lte=before[-1][0]).order_by("id").values_list()) == before
        assert run("keys_guard", "status", "--role", ROLE).status == 0

    def test_status_says_what_each_role_could_do(self) -> None:
        told = run("keys_guard", "status", "--role", ROLE)
        assert told.status == 1
        for part in (
            "TRUNCATE",
            "DELETE",
            "UPDATE (",
            "INSERT (id)",
            "keys_auditevent_id_seq",
            "owns keys_auditevent_default",
        ):
            assert part in told.out, part
        grant()
        told = run("keys_guard", "status", "--role", ROLE)
        assert (told.status, told.out) == (0, f"{ROLE} can add to the log, and alter nothing.\n")
        triggers.install()
        assert found("keys.W023", databases=["default"]) == []
        execute(f"GRANT TRUNCATE ON keys_auditevent TO {GROUP}")
        assert run("keys_guard", "status").out == f"{ROLE} has TRUNCATE on keys_auditevent.\n"
        (warning,) = found("keys.W023", databases=["default"])
        assert f"{ROLE} has TRUNCATE on keys_auditevent." in warning
        execute(f"REVOKE TRUNCATE ON keys_auditevent FROM {GROUP}")
        triggers.remove()
        assert "keys_auditevent_no_update is missing" in run("keys_guard", "status", "--role", ROLE).out

    def test_what_somebody_else_gave_is_taken_away(self) -> None:
        execute(f"GRANT ALL ON SEQUENCE keys_auditevent_id_seq TO {OTHER} WITH GRANT OPTION")
        execute(f"GRANT UPDATE (count) ON keys_auditseal TO {OTHER} WITH GRANT OPTION")
        with transaction.atomic():
            execute(f"SET LOCAL ROLE {OTHER}")
            execute(f"GRANT DELETE, UPDATE ON keys_auditevent TO {ROLE}, {GROUP}, PUBLIC")
            execute(f"GRANT UPDATE ON SEQUENCE keys_auditevent_id_seq TO {ROLE}, {GROUP}, PUBLIC")
            execute(f"GRANT UPDATE (count) ON keys_auditseal TO {ROLE}, {GROUP}, PUBLIC")
        grant()
        assert run("keys_guard", "status", "--role", ROLE).status == 0
        # The other one keeps what is its own.
        assert execute("SELECT has_table_privilege(%s, 'keys_auditevent', 'DELETE')", [OTHER]) == [(True,)]
        with logged_in(ROLE):
            assert is_refused("DELETE FROM keys_auditevent")
            assert is_refused("SELECT setval('keys_auditevent_id_seq', 1)")

    @pytest.mark.parametrize("select", ["SELECT * FROM keys_auditevent", "SELECT * FROM keys_auditevent_default"])
    def test_a_view_is_no_way_around(self, select: str) -> None:
        execute(f"CREATE VIEW seen AS {select}")
        execute("CREATE VIEW seen_again AS SELECT * FROM seen WHERE status = 200")
        execute("CREATE VIEW counted AS SELECT count(*) FROM keys_auditevent")
        execute(f"CREATE VIEW own WITH (security_invoker) AS {select}")
        try:
            grant()
            assert run("keys_guard", "status", "--role", ROLE).status == 0
            with logged_in(ROLE):
                for view in ("seen", "seen_again", "own"):
                    assert execute(f"SELECT count(*) FROM {view}") == [(0,)]
                    assert is_refused(f"DELETE FROM {view}")
                    assert is_refused(f"UPDATE {view} SET path = ''")
            execute(f"GRANT UPDATE (path), DELETE ON seen_again TO {GROUP}")
            told = run("keys_guard", "status", "--role", ROLE)
            assert (told.status, told.out) == (1, f"{ROLE} has DELETE, UPDATE on seen_again.\n")
        finally:
            execute("DROP VIEW own, counted, seen_again, seen")

    def test_a_column_that_came_since_is_told(self) -> None:
        grant()
        execute("ALTER TABLE keys_auditevent ADD COLUMN mood varchar(9) NULL")
        try:
            told = run("keys_guard", "status", "--role", ROLE).out
            assert f"{ROLE} cannot add rows with the columns mood." in told
            grant()
            assert run("keys_guard", "status", "--role", ROLE).status == 0
        finally:
            execute("ALTER TABLE keys_auditevent DROP COLUMN mood CASCADE")

    def test_rights_come_back_with_no_new_month(self) -> None:
        grant()
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {OTHER}")
        assert run("keys_partition", "-v0").status == 0
        held = "SELECT relname FROM pg_class WHERE relname LIKE 'keys\\_auditevent\\_%%' AND relkind = 'r' AND "
        assert execute(f"{held} has_table_privilege(%s, oid, 'DELETE')", [OTHER]) == []
        # Dumps read each partition.
        assert len(execute(f"{held} has_table_privilege(%s, oid, 'SELECT')", [OTHER])) == len(partitions.present())


@needs_roles
@pytest.mark.django_db
class TestRefused:
    """In a transaction, so that no other run sees such roles."""

    def test_a_name_that_cannot_be_quoted_is_refused(self) -> None:
        for name in ("", 'a"b', "a\0b"):
            with pytest.raises(TriggerError, match="not the name of a role"):
                grants.grants(name)

    @pytest.mark.parametrize(
        ("statement", "sentence"),
        [
            ("ALTER ROLE {} SUPERUSER", "superuser"),
            ("GRANT pg_write_all_data TO {}", "is a member of pg_write_all_data"),
            ("ALTER SCHEMA public OWNER TO {}", "owns the schema of the log"),
            ("GRANT {owner} TO {}", "superuser"),
            ("ALTER ROLE {} SET session_replication_role = 'Replica'", "turns triggers off"),
            ("GRANT SET ON PARAMETER session_replication_role TO {}", "turns triggers off"),
        ],
    )
    def test_a_role_that_no_right_holds_back_is_refused(self, statement: str, sentence: str) -> None:
        execute(f"CREATE ROLE {ROLE} LOGIN")
        execute(statement.format(ROLE, owner=connection.settings_dict["USER"]))
        made = run("keys_guard", "grants", "--role", ROLE)
        assert (made.status, made.out) == (1, "")
        assert sentence in made.err
        told = run("keys_guard", "status", "--role", ROLE)
        assert (told.status, sentence in told.out) == (1, True)

    def test_a_role_that_does_not_exist_has_no_status(self) -> None:
        told = run("keys_guard", "status", "--role", "nobody-at-all")
        assert (told.status, told.err) == (1, "There is no role nobody-at-all.")

    def test_the_owner_is_asked_to_give_the_log_away(self) -> None:
        execute(f"CREATE ROLE {ROLE} LOGIN")
        execute(f"CREATE ROLE {OTHER}")
        execute(f"ALTER TABLE keys_auditevent OWNER TO {ROLE}")
        assert f"{ROLE} owns keys_auditevent" in run("keys_guard", "status", "--role", ROLE).out
        for statement in grants.grants(ROLE):
            execute(statement)
        assert run("keys_guard", "status", "--role", ROLE).status == 0
        execute(f"ALTER TABLE keys_auditevent OWNER TO {ROLE}")
        execute(f"SET LOCAL ROLE {ROLE}")
        with pytest.raises(TriggerError, match="is to own it"):
            grants.grants(ROLE)
        execute("RESET ROLE")


@needs_roles
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("roles", "old")
@pytest.mark.parametrize("adopts", [True, False])
def test_a_role_that_may_adopt_makes_a_key_and_changes_none(adopts: bool) -> None:
    for statement in grants.grants(ROLE, adopts=adopts):
        execute(statement)
    with logged_in(ROLE):
        request = RequestFactory().get("/", headers={"X-API-Key": TOKEN})
        use = use_of(request, Guard(keyrings=(DatabaseKeyring(), OldTokens())))
        assert use is not None
        assert use.is_good
        assert is_refused("UPDATE keys_apikey SET is_active = true")
        assert is_refused("UPDATE keys_keyorigin SET ref = ''")
        assert is_refused("DELETE FROM keys_keyorigin")
        assert is_refused("DELETE FROM keys_apikey")
    assert APIKey.objects.count() == KeyOrigin.objects.count() == adopts
    assert [*AuditEvent.objects.filter(event="used").values_list("key_name", flat=True)] == ["Billing"]
    assert grants.excess(ROLE) == []


@needs_roles
@pytest.mark.django_db(transaction=True)
def test_the_command_lets_a_role_adopt_where_a_view_does(old: type[OldTokens], roles: None) -> None:
    right = "GRANT INSERT ON"
    assert f"{right} " in run("keys_guard", "grants", "--role", ROLE).out
    old.adopts = False
    assert f"{right} " not in run("keys_guard", "grants", "--role", ROLE).out
