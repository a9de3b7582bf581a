"""Each entry of the stream is written to the table once, in whatever order and however often it is shipped."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from keys.audit import statements, triggers
from keys.audit.entries import encode
from keys.audit.sealing import seal
from keys.audit.shipping import Shipped, Shipper, retry
from keys.audit.stream import GROUP, Stream
from keys.models import APIKey, AuditEvent
from tests.audit.test_entries import POISON, STATES
from tests.support.commands import run
from tests.support.log import AT, errors, row, ticketed
from tests.support.redis_servers import RedisServer, ship

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The audit log is shipped into PostgreSQL."),
]


def written() -> list[dict[str, Any]]:
    return [
        {name: value for name, value in each.items() if name not in {"id", "changes"}}
        for each in AuditEvent.objects.order_by("at").values()
    ]


class TestRows:
    """`statements.ship`, against what the ORM would have made of the last word on each row."""

    OUTCOME = [
        row(ticket=17, at=AT),
        row(ticket=17, at=AT, event="refused", reason="scope", status=403, duration_ms=12),
    ]
    COUNTS = [
        row(ticket=17, at=AT, event="refused", reason="unknown", status=401, key_name="", count=n) for n in (1, 7, 9)
    ]

    @pytest.mark.parametrize("states", [OUTCOME, COUNTS], ids=["outcome", "count"])
    def test_the_order_does_not_matter_nor_how_often(self, states: list[dict[str, Any]]) -> None:
        for times, order in itertools.product((1, 2), itertools.permutations(states)):
            AuditEvent.objects.all().delete()
            for state in [*order * times]:
                assert statements.ship([state]) == []
            assert written() == [states[-1]]

    @pytest.mark.parametrize(("one", "other", "holds"), STATES)
    def test_a_row_changes_by_its_outcome_and_its_count_alone(
        self, one: dict[str, Any], other: dict[str, Any], holds: dict[str, Any] | None
    ) -> None:
        for first, second in ((one, other), (other, one)):
            AuditEvent.objects.all().delete()
            assert statements.ship([first]) == []
            # Beside another one, which is not in the way.
            differing = statements.ship([ticketed(at=AT), second])
            assert differing == ([] if holds is not None else [second])
            assert written()[-1] == (first if holds is None else holds)

    @pytest.mark.parametrize(
        "changes",
        [{}, {"address": None, "status": 0, "duration_ms": 0}, {"api_key_id": 9_000_000_000, "user_agent": "😀" * 255},
         {"path": "%s \\ ' {} NULL ,\"", "address": "192.0.2.255", "count": 2_000_000_000}],
    )  # fmt: skip
    def test_writes_what_the_orm_would(self, changes: dict[str, Any]) -> None:
        rows = [row(ticket=n, **changes) for n in range(3)]
        statements.ship(rows[::-1])
        shipped = written()
        AuditEvent.objects.all().delete()
        AuditEvent.objects.bulk_create(AuditEvent(**each) for each in rows)
        assert shipped == written()

    def test_the_triggers_let_it_through(self) -> None:
        triggers.install()
        for state in [*self.OUTCOME, *self.OUTCOME]:
            statements.ship([state])
        assert [each["status"] for each in written()] == [403]

    def test_all_or_none(self) -> None:
        with pytest.raises(DataError):
            statements.ship([row(ticket=1), row(ticket=2, address="nowhere")])
        assert written() == []

    def test_waits_for_the_disk(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            # The tests themselves do not wait.
            cursor.execute("SET LOCAL synchronous_commit TO on")
            for state in self.OUTCOME:
                statements.ship([state])
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("on",)


class TestShipping:
    def test_requests_come_into_the_table(self, server: RedisServer, stream: Stream, settings: Settings) -> None:
        key = APIKey.objects.create(name="TTS", scopes=[])
        settings.KEYS = {"AUDIT_SINK": server.address}
        statuses = [
            Client(headers={"X-API-Key": token}).get(path).status_code
            for token, path in [(key.key, "/guarded/"), (key.key, "/scoped/"), ("0" * 40, "/guarded/")]
        ]
        appended = {each["ticket"]: each for each in server.rows}
        shipper = ship(stream)
        assert (shipper.shipped.written, shipper.shipped.set_aside) == (5, 0)
        assert written()[1:] == list(appended.values())
        assert [each["status"] for each in written()[1:]] == statuses == [200, 403, 401]
        # After the step that was written at once, and the latest last.
        assert list(AuditEvent.objects.values_list("event", flat=True)) == ["refused", "refused", "used", "created"]
        assert server.entries == []

    def test_an_outcome_that_comes_in_a_later_batch(self, stream: Stream) -> None:
        rows = [ticketed() for _ in range(3)]
        for each in rows:
            stream.append(each, 1000)
        ship(stream, batch_size=2)
        assert [each["status"] for each in written()] == [None] * 3
        stream.append_again([{**rows[1], "status": 201, "duration_ms": 3}])
        ship(stream)
        assert [each["status"] for each in written()] == [None, 201, None]

    def test_an_outcome_that_comes_first(self, server: RedisServer, stream: Stream) -> None:
        use = ticketed()
        stream.append(use, 1000)
        stream.append_again([{**use, "status": 200, "duration_ms": 3}])
        # The first entry is in the hands of one that does not finish.
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "other", {"log": ">"}, count=1)
        Shipper(stream).run_once()
        assert [each["status"] for each in written()] == [200]
        ship(stream)
        assert [each["status"] for each in written()] == [200]
        assert server.entries == []

    def test_what_comes_late_is_sealed_with_the_others(
        self, stream: Stream, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KEYS_SEAL_KEY", "s" * 32)
        settings.KEYS = {"SEAL_AFTER": timedelta(0)}
        stream.append(ticketed(at=timezone.now()), 1000)
        for _ in range(2):
            APIKey.objects.create(name="TTS")
            ship(stream)
            assert [made.count for made in seal()] == [2]
            stream.append(ticketed(at=timezone.now() - timedelta(hours=1)), 1000)
        assert run("keys_verify").status == 0

    def test_what_was_deleted_by_hand_is_told(
        self, server: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
    ) -> None:
        stream.append(ticketed(), 1000)
        stream.append(ticketed(), 1000)
        server.client.xgroup_create("log", GROUP, "0")
        shipper = Shipper(stream)
        server.client.xreadgroup(GROUP, shipper.consumer, {"log": ">"}, count=1)
        (gone, _), _ = server.entries
        server.client.xdel("log", gone)
        shipper.run_once()
        assert len(written()) == 1
        assert errors(caplog) == [lost(1, gone)]
        assert (shipper.shipped.written, shipper.shipped.lost) == (1, 1)
        assert server.client.xpending("log", GROUP)["pending"] == 0

    def test_what_was_trimmed_while_a_dead_shipper_held_it_is_told_once(
        self, server: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(5):
            stream.append(ticketed(), 1000)
        server.client.xgroup_create("log", GROUP, "0")
        server.client.xreadgroup(GROUP, "dead", {"log": ">"}, count=4)
        (first, _), *_ = server.entries
        server.client.xtrim("log", maxlen=2, approximate=False)
        shipper = ship(stream, batch_size=1)
        assert (shipper.shipped.written, shipper.shipped.lost) == (2, 3)
        assert sum(int(message.partition(" ")[0]) for message in errors(caplog)) == 3
        assert f"from {first.decode()} on" in errors(caplog)[0]
        caplog.clear()
        assert (ship(stream).shipped.lost, errors(caplog)) == (0, [])


def lost(number: int, first: bytes) -> str:
    return (
        f"{number} entries of the audit log are lost, from {first.decode()} on: somebody deleted them before they were"
        " shipped."
    )


class TestPoison:
    def test_stands_in_nobody_s_way_and_is_kept(
        self, server: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
    ) -> None:
        poison = {}
        for fields in POISON.values():
            server.client.xadd("log", {"row": encode(ticketed())})
            poison[server.client.xadd("log", fields)] = fields
        server.client.xadd("log", {"row": encode(ticketed())})
        assert ship(stream, batch_size=7).shipped == Shipped(written=len(POISON) + 1, set_aside=len(POISON))
        assert (len(written()), server.entries) == (len(POISON) + 1, [])
        kept = {each[b"entry"]: each for _, each in server.client.xrange(stream.set_aside)}
        assert kept.keys() == poison.keys()
        for entry, each in kept.items():
            assert each[b"error"].startswith(b"EntryError: It")
            assert each.keys() - {b"entry", b"error"} == {name.encode() for name in poison[entry]}
        assert len(errors(caplog)) == len(POISON)
        first = next(iter(poison))
        where = f"Entry {first.decode()} of the audit log cannot be written and is kept in {stream.set_aside}: "
        assert errors(caplog)[0].startswith(where)

    def test_a_row_that_came_twice_and_differs(self, server: RedisServer, stream: Stream) -> None:
        use = ticketed()
        stream.append(use, 1000)
        stream.append_again([{**use, "status": 200}])
        ship(stream)
        forged = [
            {**use, "status": 500}, {**use, "status": 200, "path": "/other"},
            {**use, "event": "refused", "reason": "unknown", "status": 401, "key_name": "", "count": 9},
        ]  # fmt: skip
        for each in forged:
            stream.append_again([each])
        # And what is no news.
        stream.append_again([use, {**use, "status": 200}])
        before = written()
        assert ship(stream).shipped == Shipped(written=2, set_aside=3)
        assert written() == before
        # Also where both come at once.
        use = ticketed()
        stream.append_again([use, {**use, "status": 200}, {**use, "status": 500}])
        assert ship(stream).shipped == Shipped(written=2, set_aside=1)
        assert written()[-1] == {**use, "status": 200}

    def test_that_has_but_the_fields_that_are_added(self, server: RedisServer, stream: Stream) -> None:
        server.client.xadd("log", {"error": "x"})
        for _ in range(2):
            assert ship(stream).shipped == Shipped(set_aside=1)
            assert retry(stream) == 1

    def test_may_be_tried_again(self, server: RedisServer, stream: Stream) -> None:
        server.client.xadd("log", {"row": "{"})
        ship(stream)
        ((aside, fields),) = server.client.xrange(stream.set_aside)
        # Somebody puts it right.
        server.client.xdel(stream.set_aside, aside)
        server.client.xadd(stream.set_aside, {**fields, b"row": encode(ticketed(at=AT))})
        assert retry(stream) == 1
        ship(stream)
        assert [each["at"] for each in written()] == [AT]
        assert server.client.xlen(stream.set_aside) == 0
