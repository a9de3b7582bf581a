"""The statements written by hand, held against the ORM."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.forms.models import model_to_dict
from django.utils import timezone

from keys.audit import statements
from keys.audit.outcomes import Batch, CountedRow, Outcome, RowHandle
from keys.keyrings import DatabaseKeyring
from keys.models import APIKey, AuditEvent, fields
from keys.models.audit_event import EVENT_FIELDS
from keys.networks import parse_address
from keys.verification import objection_to
from tests.support.log import row

pytestmark = pytest.mark.django_db


def state(key: APIKey) -> dict[str, Any]:
    return {field.attname: getattr(key, field.attname) for field in APIKey._meta.concrete_fields}


def test_finds_what_the_orm_finds() -> None:
    soon = timezone.now() + timedelta(days=1)
    keys = [
        APIKey.objects.create(name="plain"),
        APIKey.objects.create(name="full", scopes=["users:read", "users:*"], expires_at=soon, rate="5/min",
                              allowed_ips=["10.0.0.0/8", "2001:db8::/32"]),
        APIKey.objects.create(name="näme 😀 %s", scopes=[], is_active=False),
    ]  # fmt: skip
    keys.append(keys[0].rotate())
    for key in keys:
        found, expected = statements.find(fields.digests(key.key)), APIKey.objects.get(pk=key.pk)
        assert found is not None
        assert state(found) == state(expected)
        assert {name: type(value) for name, value in state(found).items()} == {
            name: type(value) for name, value in state(expected).items()
        }
        assert (found.loaded, found._state.db, found._state.adding) == (expected.loaded, expected._state.db, False)


class TestTwoDigestsInOneLookUp:
    """The second digest is looked for by the same index, and only where the first finds nothing."""

    @pytest.fixture
    def digests(self) -> tuple[str, ...]:
        APIKey.objects.bulk_create([APIKey(name="other") for _ in range(300)])
        return fields.digests(APIKey.objects.create(name="A").key)

    @staticmethod
    def plan(explain: str, digests: tuple[str, ...]) -> str:
        sql = statements._database(connection.alias, connection.vendor).sql.find_by("%s", "%s")
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("ANALYZE keys_apikey")
            cursor.execute(f"{explain} {sql}", digests)
            return "\n".join(str(row) for row in cursor.fetchall())

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="As PostgreSQL tells it.")
    @pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
    def test_postgresql_does_not_begin_the_second(self, digests: tuple[str, ...], mode: str) -> None:
        sql = statements._database(connection.alias, connection.vendor).sql.find_by("$1", "$2")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE keys_apikey")
            cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")
            cursor.execute("SET LOCAL enable_seqscan = on")
            cursor.execute(f"PREPARE two_digests (text, text) AS {sql}")
            try:
                for _ in range(6):
                    cursor.execute("EXPLAIN (ANALYZE, TIMING OFF) EXECUTE two_digests (%s, %s)", digests)
                plan = "\n".join(line for (line,) in cursor.fetchall())
            finally:
                cursor.execute("DEALLOCATE two_digests")
        assert plan.count("Index Scan using") == 2, plan
        assert plan.count("never executed") == 1, plan

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="As SQLite tells it.")
    def test_sqlite_uses_the_index_for_both(self, digests: tuple[str, ...]) -> None:
        plan = self.plan("EXPLAIN QUERY PLAN", digests)
        assert plan.count("SEARCH keys_apikey USING INDEX") == 2, plan
        assert "SCAN" not in plan

    @pytest.mark.skipif(connection.vendor != "mysql", reason="As MariaDB tells it.")
    def test_mariadb_reads_one_row_by_the_index(self, digests: tuple[str, ...]) -> None:
        assert "'const'" in self.plan("EXPLAIN", digests)
        # Not FLUSH STATUS, which commits.
        before = self.reads()
        statements.find(digests)
        read = {name: count - before[name] for name, count in self.reads().items()}
        assert read["Handler_read_key"] <= 3, read
        assert read["Handler_read_next"] == 0, read

    @staticmethod
    def reads() -> dict[str, int]:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'")
            return {name: int(count) for name, count in cursor.fetchall()}


def test_finds_a_key_that_can_be_changed_and_saved() -> None:
    key = APIKey.objects.create(name="A")
    found = statements.find(fields.digests(key.key))
    assert found is not None
    found.name = "B"
    found.save()
    assert APIKey.objects.get().name == "B"


def test_finds_no_digest_by_one_that_differs_in_its_case() -> None:
    digests = fields.digests(APIKey.objects.create(name="A", key="a" * 40).key)
    assert statements.find(digests) is not None
    assert statements.find([digest.upper() for digest in digests]) is None


@pytest.mark.parametrize("text", ["", "sha256$", "%s", "'", "\\", "sha256$" + "0" * 64])
def test_finds_nothing_where_there_is_nothing(text: str) -> None:
    APIKey.objects.create(name="A")
    assert statements.find([text, text]) is None
    assert statements.find_and_record([text, text], row(), lambda key: True) == (None, None)
    assert not AuditEvent.objects.filter(event="used").exists()


@pytest.mark.parametrize(
    ("is_active", "lifetime", "allowed_ips"),
    [*product([True, False], [None, timedelta(hours=1), timedelta(0), -timedelta(hours=1)], [[], ["10.0.0.0/8"]])],
)
def test_records_no_use_that_python_would_refuse(
    is_active: bool, lifetime: timedelta | None, allowed_ips: list[str]
) -> None:
    use = row(api_key_id=None, key_name="", key_prefix="")
    key = APIKey.objects.create(name="A", is_active=is_active, allowed_ips=allowed_ips)
    APIKey.objects.update(expires_at=None if lifetime is None else use["at"] + lifetime)
    address = parse_address(use["address"])
    found, handle = DatabaseKeyring().find_and_record(key.key, use, lambda holder: not objection_to(holder, address))
    assert found == key
    is_good = objection_to(APIKey.objects.get(), address) == ""
    written = AuditEvent.objects.filter(event="used")
    if handle is None:
        # Left to the caller.
        assert not written.exists()
        assert not is_good
    else:
        assert is_good
        assert model_to_dict(written.get()) == model_to_dict(
            AuditEvent(**use | {"api_key_id": key.pk, "key_name": "A", "key_prefix": key.prefix}, id=handle.number)
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"event": "refused", "reason": "unknown", "address": None, "status": 401, "duration_ms": 0, "key_name": ""},
        {"address": "192.0.2.255", "count": 2_000_000_000, "status": 599, "duration_ms": 86_400_000},
        {"api_key_id": 9_000_000_000, "path": "ü" * 255, "user_agent": "😀" * 255, "key_name": "%(name)s {} \\"},
    ],
)
def test_inserts_what_the_orm_would(changes: dict[str, Any]) -> None:
    values = row(**changes)
    AuditEvent.objects.create(**values)
    pk = statements.insert(values).number
    inserted, expected = AuditEvent.objects.get(pk=pk), AuditEvent.objects.exclude(pk=pk).get()
    for field in EVENT_FIELDS:
        assert getattr(inserted, field.attname) == getattr(expected, field.attname), field.attname


def neighbours() -> tuple[RowHandle, RowHandle]:
    """Two rows, and not of the same moment."""
    first, second = timezone.now(), timezone.now() + timedelta(microseconds=1)
    return statements.insert(row(at=first)), statements.insert(row(at=second))


def outcome_of(name: RowHandle) -> Outcome:
    return Outcome("refused", "scope", 403, 12, *name)


def test_adds_an_outcome_to_its_own_row_alone() -> None:
    mine, other = neighbours()
    assert statements.write_outcome(outcome_of(mine))
    event = AuditEvent.objects.get(pk=mine.number)
    assert (event.event, event.reason, event.status, event.duration_ms) == ("refused", "scope", 403, 12)
    assert (event.path, event.at) == (row()["path"], mine.at)
    assert not statements.write_outcome(outcome_of(RowHandle(other.number, mine.at)))
    assert not statements.write_outcome(outcome_of(RowHandle(other.number + 1, other.at)))
    assert AuditEvent.objects.get(pk=other.number).status is None


def counting(name: RowHandle, count: int) -> CountedRow:
    counted = CountedRow.written(name, row())
    counted.total = count
    return counted


def test_counts_on_its_own_row_alone_and_never_down() -> None:
    mine, other = neighbours()
    assert statements.count_one_more(mine)
    assert statements.write_count(counting(mine, 43))
    assert statements.write_count(counting(mine, 42))
    for gone in (RowHandle(other.number, mine.at), RowHandle(other.number + 1, other.at)):
        assert not statements.count_one_more(gone)
        assert not statements.write_count(counting(gone, 2))
    assert list(AuditEvent.objects.order_by("id").values_list("count", flat=True)) == [43, 1]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_written_late_is_written_once() -> None:
    late = CountedRow.unwritten(row(event="refused", reason="unknown"), statements.current_place())
    for count in (3, 3, 5, 4):
        statements.write_batch(Batch(counts={late: count}))
    assert list(AuditEvent.objects.values_list("reason", "count")) == [("unknown", 5)]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL can be told not to wait for the disk.")
def test_leaves_the_durability_of_a_project_s_own_transaction_alone() -> None:
    mine, _ = neighbours()
    assert statements.write_outcome(outcome_of(mine))
    assert statements.count_one_more(mine)
    assert statements.write_count(counting(mine, 3))
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcomes", [0, 1, 2, 100])
def test_writes_a_batch_as_one_by_one(outcomes: int) -> None:
    names = [name for _ in range(50) for name in neighbours()]
    lost = RowHandle(names[0].number, names[1].at)
    batch = Batch(
        [Outcome("used", "", 200 + n, n, *name) for n, name in enumerate(names[:outcomes])] + [outcome_of(lost)],
        {counting(name, count): count for name, count in ((names[-1], 8), (names[-2], 2), (lost, 100))},
    )
    statements.write_batch(batch)
    expected = [[200 + n, n, 1] if n < outcomes else [None, None, 1] for n in range(100)]
    expected[98][2], expected[99][2] = 2, 8
    assert [
        list(values) for values in AuditEvent.objects.order_by("id").values_list("status", "duration_ms", "count")
    ] == expected


def test_a_statement_that_fails_leaves_a_transaction_usable() -> None:
    with transaction.atomic():
        AuditEvent.objects.create(**row())
        with pytest.raises(DatabaseError):
            statements.insert(row(event=None))
        assert AuditEvent.objects.count() == 1
