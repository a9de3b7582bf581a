"""Guards in the database: what goes on working under them, and what they refuse."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.audit import grants, partitions, retention, statements, triggers
from keys.audit.triggers import TriggerError
from keys.models import APIKey, AuditEvent, AuditSeal
from tests.support import runs
from tests.support.log import row
from tests.support.sealed_logs import FULL, OPEN, REFUSED, STEP, write, write_and_seal
from tests.support.tables import execute, migrate, months_ago, needs_partitions, row_counts, start_log, suffix

HAS_TRIGGERS = connection.vendor in {"postgresql", "sqlite"}
events = AuditEvent._base_manager


def is_refused(statement: str, values: Any = None) -> bool:
    try:
        with transaction.atomic():
            execute(statement, values)
    except IntegrityError as error:
        return "append-only" in str(error)
    return False


@pytest.mark.skipif(HAS_TRIGGERS, reason="For databases that have no triggers of ours.")
@pytest.mark.django_db
def test_elsewhere_they_cannot_be_had() -> None:
    for ask in (triggers.install, triggers.remove, triggers.missing):
        with pytest.raises(TriggerError, match="PostgreSQL and SQLite"):
            ask()


@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db
@pytest.mark.usefixtures("seal_key")
class TestTriggers:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        triggers.install()

    def test_a_request_leaves_a_finished_row(self) -> None:
        key = APIKey.objects.create(name="TTS")
        client = Client(headers={"X-API-Key": key.key})
        assert client.get("/guarded/").status_code == 200
        assert client.get("/guarded/?status=403").status_code == 403
        rows = list(AuditEvent.objects.order_by("id").values_list("event", "status"))
        assert rows == [("created", None), ("used", 200), ("used", 403)]

    def test_a_flood_is_counted(self) -> None:
        for _ in range(9):
            assert Client(headers={"X-API-Key": "0" * 40}).get("/guarded/").status_code == 401
        assert sum(AuditEvent.objects.filter(event="refused").values_list("count", flat=True)) == 9

    def test_the_log_can_be_sealed(self) -> None:
        write_and_seal()
        assert AuditSeal.objects.count() == 3

    @pytest.mark.parametrize("row", [FULL, REFUSED, OPEN, STEP])
    def test_no_column_of_a_row_can_be_changed(self, row: dict[str, Any]) -> None:
        (pk,) = write(row)
        for field in AuditEvent._meta.concrete_fields:
            column = connection.ops.quote_name(str(field.column))
            values = {"at": timezone.now(), "event": "used", "address": "192.0.2.9", "status": 418, "changes": "{}"}
            value = values.get(str(field.column), 77)
            if row is OPEN and field.column in {"status", "event"}:
                continue  # Its outcome, which may come, and what it is already.
            is_same = row in (FULL, OPEN) and field.column == "event"
            is_flood = row is REFUSED and field.column == "count"
            statement = f"UPDATE keys_auditevent SET {column} = %s WHERE id = {pk}"
            assert is_refused(statement, [str(value) if field.column == "at" else value]) != (is_same or is_flood), (
                column
            )

    @pytest.mark.parametrize("change", [{"count": 8}, {"status": 200}, {"path": "/other", "count": 10}])
    def test_the_row_of_a_flood_can_only_grow(self, change: dict[str, Any]) -> None:
        (pk,) = write(REFUSED)
        events.filter(pk=pk).update(count=10)
        with pytest.raises(IntegrityError), transaction.atomic():
            events.filter(pk=pk).update(**change)

    def test_an_outcome_comes_once_and_the_same_may_come_again(self) -> None:
        (pk,) = write(OPEN)
        outcome = {"event": "refused", "reason": "scope", "status": 403, "duration_ms": 3}
        for _ in range(2):
            events.filter(pk=pk).update(**outcome)
        with pytest.raises(IntegrityError), transaction.atomic():
            events.filter(pk=pk).update(**outcome | {"status": 200})

    @pytest.mark.parametrize(
        "change",
        [
            {"status": 200, "path": "/"},
            {"status": 200, "count": 2},
            {"event": "created", "status": 200},
            {"duration_ms": 1},
        ],
    )
    def test_with_an_outcome_nothing_else_can_come(self, change: dict[str, Any]) -> None:
        (pk,) = write(OPEN)
        with pytest.raises(IntegrityError), transaction.atomic():
            events.filter(pk=pk).update(**change)

    def test_no_row_can_be_deleted_or_replaced(self) -> None:
        ids = write_and_seal(rows=2)
        columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in AuditEvent._meta.concrete_fields)
        for statement in (
            "DELETE FROM keys_auditevent",
            f"DELETE FROM keys_auditevent WHERE id = {ids[0]}",
            "DELETE FROM keys_auditseal",
            "UPDATE keys_auditseal SET count = count",
            *(
                ["TRUNCATE keys_auditevent", "TRUNCATE keys_auditseal"]
                if connection.vendor == "postgresql"
                else [
                    f"REPLACE INTO keys_auditevent ({columns}) SELECT {columns} FROM keys_auditevent",
                    "REPLACE INTO keys_auditseal SELECT * FROM keys_auditseal",
                ]
            ),
        ):
            assert is_refused(statement), statement

    def test_they_can_be_removed(self) -> None:
        assert triggers.missing() == []
        triggers.remove()
        assert triggers.missing() != []
        write(FULL)
        assert not is_refused("DELETE FROM keys_auditevent")
        triggers.remove()

    def test_one_that_is_gone_or_disabled_is_missing(self) -> None:
        if connection.vendor == "postgresql":
            execute("ALTER TABLE keys_auditevent DISABLE TRIGGER keys_auditevent_no_update")
            execute("DROP TRIGGER keys_auditseal_no_delete ON keys_auditseal")
        else:
            execute("DROP TRIGGER keys_auditevent_no_update")
            execute("DROP TRIGGER keys_auditseal_no_delete")
        assert triggers.missing() == ["keys_auditevent_no_update", "keys_auditseal_no_delete"]


@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db(transaction=True)
def test_retention_needs_an_age_and_keeps_to_it() -> None:
    now = timezone.now()
    _, young = write(FULL, FULL, at=now - timedelta(days=3), step=timedelta(days=2))
    triggers.install()
    try:
        with pytest.raises(IntegrityError, match="append-only"):
            retention.prune(now - timedelta(days=2))
        triggers.install(timedelta(days=2))
        assert retention.prune(now - timedelta(days=2)) == 1
        with pytest.raises(IntegrityError, match="append-only"):
            retention.prune(now)
        assert is_refused(f"DELETE FROM keys_auditevent WHERE id = {young}")
    finally:
        # The tables are flushed after this test.
        triggers.remove()


@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db(transaction=True)
def test_the_tables_can_be_taken_away_under_them() -> None:
    write(FULL)
    triggers.install()
    try:
        migrate("zero")
    finally:
        migrate()
    assert len(triggers.missing()) > 5
    triggers.remove()
    assert AuditEvent.objects.count() == AuditSeal.objects.count() == 0


@needs_partitions
@pytest.mark.django_db
def test_partitions_come_and_go_under_them() -> None:
    start_log(3)
    write(STEP, FULL, at=months_ago(3))
    # Some that find no partition, and are given one.
    write(FULL, at=months_ago(-9))
    write(FULL, at=months_ago(-30))
    triggers.install()
    assert {partitions.gather(), partitions.gather()} == {
        f"keys_auditevent_{suffix(months_ago(-number))}" for number in (9, 30)
    }
    assert [count for _, count in retention.drop_months(months_ago(1))] == [1, 0]
    partitions.make(months_ago(-10))
    assert triggers.missing() == []
    for name in row_counts():
        assert is_refused(f"DELETE FROM keys_auditevent_{name}")
    execute(f"ALTER TABLE keys_auditevent_{suffix(months_ago(-9))} DISABLE TRIGGER keys_auditevent_no_delete")
    assert triggers.missing() == ["keys_auditevent_no_delete"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL has roles.")
@pytest.mark.django_db
def test_rights_are_for_databases_that_have_roles() -> None:
    with pytest.raises(TriggerError, match="This is for PostgreSQL"):
        grants.grants("web")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL has roles.")
class TestRole:
    """The web process logs in as a role that owns nothing."""

    pytestmark = pytest.mark.django_db(transaction=True)
    ROLE = runs.own("web")

    @pytest.fixture
    def as_role(self, key: APIKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        execute(f"CREATE ROLE {self.ROLE} LOGIN")
        # What a project may have granted before.
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {self.ROLE}")
        for statement in grants.grants(self.ROLE):
            execute(statement)
        with monkeypatch.context() as patch:
            patch.setitem(connection.settings_dict, "USER", self.ROLE)
            connection.close()
            yield
        connection.close()
        execute(f"DROP OWNED BY {self.ROLE}")
        execute(f"DROP ROLE {self.ROLE}")

    def test_a_request_leaves_a_finished_row(self, as_role: None, key: APIKey, settings: Settings) -> None:
        settings.KEYS = {"OUTCOME_DELAY": timedelta(0)}
        assert execute("SELECT current_user") == [(self.ROLE,)]
        assert Client(headers={"X-API-Key": key.key}).get("/guarded/").status_code == 200
        assert AuditEvent.objects.filter(event="used", status=200, key_name="TTS").count() == 1
        for _ in range(9):
            assert Client(headers={"X-API-Key": "0" * 40}).get("/guarded/").status_code == 401
        assert sum(AuditEvent.objects.filter(event="refused").values_list("count", flat=True)) == 9

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM keys_auditevent",
            "TRUNCATE keys_auditevent",
            "UPDATE keys_auditevent SET path = ''",
            "UPDATE keys_auditevent SET at = now()",
            "INSERT INTO keys_auditevent (id, at) VALUES (7, now())",
            "SELECT * FROM keys_auditseal",
            "DELETE FROM keys_auditseal",
            "INSERT INTO keys_auditseal (number) VALUES (7)",
            "ALTER TABLE keys_auditevent DISABLE TRIGGER ALL",
            "DROP TABLE keys_auditevent",
        ],
    )
    def test_nothing_else_can_be_done(self, as_role: None, statement: str) -> None:
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            execute(statement)

    def test_what_came_through_a_stream_can_be_written(self, as_role: None) -> None:
        at = timezone.now()
        for status in (None, 200, 200):
            statements.ship([{**row(at=at, status=status), "ticket": 7}])
        assert AuditEvent.objects.get(ticket=7).status == 200

    def test_a_name_that_cannot_be_quoted_is_refused(self) -> None:
        for name in ("", 'a"b', "a\0b"):
            with pytest.raises(TriggerError, match="not the name of a role"):
                grants.grants(name)
