"""Guards in the database: what goes on working under them, and what they refuse."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import pre_migrate
from django.test import Client
from django.utils import timezone

from keys.audit import partitions, retention, triggers
from keys.audit.triggers import TriggerError
from keys.models import APIKey, AuditEvent, AuditSeal
from tests.support.commands import found, run
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

    @pytest.mark.parametrize(
        "row",
        [
            {"reason": "expired", "key_name": "TTS"},
            {"reason": "unknown", "key_name": "TTS"},
            {"reason": "unknown", "api_key_id": 7},
            {"reason": "rate"},
        ],
    )
    def test_the_count_of_a_known_key_does_not_grow(self, row: dict[str, Any]) -> None:
        (pk,) = write({**REFUSED, "key_name": "", "api_key_id": None, **row})
        with pytest.raises(IntegrityError), transaction.atomic():
            events.filter(pk=pk).update(count=10)

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


def warnings() -> list[str]:
    return found("keys.W022", databases=["default"])


@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db
class TestMigrations:
    """A migration may take columns away that the triggers name, and on SQLite the triggers with the table."""

    @pytest.mark.matrix
    def test_a_check_says_what_is_missing_where_they_were_asked_for(self) -> None:
        assert warnings() == []
        triggers.install(timedelta(days=2))
        assert warnings() == []
        on = " ON keys_auditevent" if connection.vendor == "postgresql" else ""
        execute(f"DROP TRIGGER keys_auditevent_no_delete{on}")
        (warning,) = warnings()
        assert "keys_auditevent_no_delete is missing on keys_auditevent." in warning
        assert run("keys_guard", "status").out == "Missing: keys_auditevent_no_delete.\n"
        triggers.remove()
        assert warnings() == []

    def test_a_column_that_came_since_is_told_until_they_are_made_anew(self) -> None:
        triggers.install(timedelta(days=2))
        execute("ALTER TABLE keys_auditevent ADD COLUMN mood varchar(9) NULL")
        (warning,) = warnings()
        assert "keys_auditevent_no_update was made for other columns" in warning
        assert triggers.missing() == ["keys_auditevent_no_update"]
        assert run("keys_guard", "status").status == 1
        (pk,) = write(FULL)
        assert not is_refused(f"UPDATE keys_auditevent SET mood = 'x' WHERE id = {pk}")
        triggers.install(timedelta(days=2))
        assert warnings() == []
        assert is_refused(f"UPDATE keys_auditevent SET mood = 'y' WHERE id = {pk}")

    def test_one_that_does_something_else_is_told(self) -> None:
        triggers.install()
        if connection.vendor == "postgresql":
            execute(
                "CREATE OR REPLACE FUNCTION keys_append_only() RETURNS trigger LANGUAGE plpgsql"
                " AS 'BEGIN RETURN NEW; END'"
            )
            assert len(triggers.missing()) == 6
            triggers.install()
        else:
            execute("DROP TRIGGER keys_auditseal_no_delete")
            execute("CREATE TRIGGER keys_auditseal_no_delete BEFORE DELETE ON keys_auditseal BEGIN SELECT 1; END")
            assert triggers.missing() == ["keys_auditseal_no_delete"]
            triggers.install()
        assert triggers.missing() == []


@pytest.mark.matrix
@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keep", [None, timedelta(days=2)])
def test_they_come_back_after_a_migration_as_they_were(keep: timedelta | None) -> None:
    now = timezone.now()
    old, young = write(FULL, FULL, at=now - timedelta(days=3), step=timedelta(days=2))
    triggers.install(keep)
    try:
        migrate("0004")
        execute("UPDATE keys_auditevent SET count = count")
        assert is_refused(f"DELETE FROM keys_auditevent WHERE id = {young}")
        assert is_refused(f"UPDATE keys_auditevent SET path = 'x' WHERE id = {young}")
        migrate()
        assert triggers.missing() == []
        assert is_refused(f"UPDATE keys_auditevent SET changes = '{{}}' WHERE id = {young}")
        assert is_refused(f"DELETE FROM keys_auditevent WHERE id = {young}")
        assert is_refused(f"DELETE FROM keys_auditevent WHERE id = {old}") is (keep is None)
    finally:
        triggers.remove()
        migrate()


@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_killed_leaves_a_warning_and_the_next_puts_them_back() -> None:
    plan = [(SimpleNamespace(app_label="keys", name="0005_log_formats"), False)]
    triggers.install(timedelta(days=2))
    try:
        # As `migrate` begins; the rest never comes.
        pre_migrate.send(
            sender=apps.get_app_config("keys"), app_config=apps.get_app_config("keys"), verbosity=0, interactive=False,
            using="default", plan=plan, apps=apps,
        )  # fmt: skip
        assert len(triggers.missing()) == 6
        assert warnings()
        assert run("keys_guard", "status").status == 1
        migrate()
        assert triggers.missing() == warnings() == []
    finally:
        triggers.remove()


@pytest.mark.matrix
@pytest.mark.skipif(not HAS_TRIGGERS, reason="The triggers are for PostgreSQL and SQLite.")
@pytest.mark.django_db(transaction=True)
def test_without_them_a_migration_makes_none() -> None:
    migrate("0004")
    migrate()
    assert len(triggers.missing()) == 6
    assert warnings() == []


@pytest.mark.matrix
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
        assert is_refused(f"TRUNCATE keys_auditevent_{name}")
    for partition in partitions.present():
        assert is_refused(f"TRUNCATE {partition.name}")
    execute(f"ALTER TABLE keys_auditevent_{suffix(months_ago(-9))} DISABLE TRIGGER keys_auditevent_no_delete")
    assert triggers.missing() == ["keys_auditevent_no_delete"]
    execute(f"DROP TRIGGER keys_auditevent_no_truncate ON keys_auditevent_{suffix(months_ago(-10))}")
    assert run("keys_guard", "status").out.splitlines()[:2] == [
        f"Missing: keys_auditevent_no_truncate on keys_auditevent_{suffix(months_ago(-10))}.",
        f"Disabled: keys_auditevent_no_delete on keys_auditevent_{suffix(months_ago(-9))}.",
    ]
