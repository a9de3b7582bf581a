"""Refusals of strangers leave a bounded number of rows, and exact sums."""

import ipaddress
import logging
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.db.models import Sum
from django.test import Client, RequestFactory
from pytest_django import Settings

from keys.audit.floods import MOST_ROWS, WHOLE_ROWS, Floods, floods
from keys.audit.outcomes import CountedRow, RowHandle
from keys.audit.sinks import DatabaseSink, sink, written_to
from keys.decorators import GUARD
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import MANY_NETWORKS
from keys.networks import parse_address
from keys.verification import check
from tests.support.log import row

pytestmark = pytest.mark.django_db


class Nowhere(DatabaseSink):
    """Takes rows and keeps none."""

    def insert(self, row: dict[str, Any]) -> RowHandle:
        return RowHandle(1, row["at"], self.place())

    def count_again(self, counted: CountedRow) -> bool:
        return True

    def existing(self, handles: Sequence[RowHandle]) -> set[RowHandle]:
        return {*handles}


class Failing(Nowhere):
    asked = 0

    def insert(self, row: dict[str, Any]) -> RowHandle:
        self.asked += 1
        raise OperationalError


def refusals() -> list[tuple[str, str | None, int]]:
    rows = AuditEvent.objects.filter(event="refused").order_by("id")
    return list(rows.values_list("reason", "address", "count"))


def counts() -> list[int]:
    return [count for *_, count in refusals()]


def knock(address: str = "192.0.2.1", key: str = "0" * 40, times: int = 1) -> None:
    """Try a key that is not there, from an address."""
    client = Client(REMOTE_ADDR=address)
    for _ in range(times):
        assert client.get("/guarded/", headers={"X-API-Key": key}).status_code == 401


@pytest.fixture(autouse=True)
def one_minute() -> Iterator[None]:
    """Keep the clock from turning to a new minute within a test; it goes on from here."""
    floods.forget()  # all tests are in the same minute
    with time_machine.travel(datetime(2026, 3, 1, 12, 0, tzinfo=UTC)):
        yield


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Spare pytest from keeping thousands of log lines."""
    caplog.set_level(logging.CRITICAL, logger="api_keys")


def test_the_first_five_are_whole_rows_and_the_rest_are_one() -> None:
    knock(times=20)
    assert counts() == [1] * WHOLE_ROWS + [15]
    assert len(refusals()) == 6


def test_each_network_reason_and_kind_of_address_has_rows_of_its_own() -> None:
    knock("192.0.2.1", times=6)
    knock("192.0.2.254", times=3)
    knock("::ffff:192.0.2.9", times=1)
    assert counts() == [1] * 5 + [5]
    knock("192.0.3.1")
    knock("2001:db8:0:1::1", times=6)
    knock("2001:db8:0:1:ffff::", times=4)
    assert counts()[6:] == [1] + [1] * 5 + [5]
    knock("2001:db8:0:2::1")
    knock("")
    knock("192.0.2.1", key="")
    assert [(reason, address) for reason, address, _ in refusals()[13:]] == [
        ("unknown", "2001:db8:0:2::1"), ("unknown", None), ("malformed", "192.0.2.1")
    ]  # fmt: skip


def strangers(networks: int, times: int = 1) -> None:
    """Try keys that are not there, from that many networks of IPv6 in turn."""
    for n in range(networks * times):
        request = RequestFactory(REMOTE_ADDR=f"2001:db8:{n % networks:x}::1").get("/guarded/?q=1")
        request.META |= {"HTTP_X_API_KEY": "0" * 40 if n % 2 else "é", "HTTP_USER_AGENT": "bot"}
        check(request, GUARD)


def sums() -> dict[str, int]:
    rows = AuditEvent.objects.filter(event="refused").values_list("reason")
    return dict(rows.annotate(Sum("count")).order_by())


@pytest.mark.matrix
def test_beyond_the_bound_all_networks_share_one_row_for_each_reason(quiet: None) -> None:
    strangers(800, times=2)
    shared = AuditEvent.objects.filter(detail=MANY_NETWORKS).order_by("reason")
    named = AuditEvent.objects.filter(event="refused").exclude(detail=MANY_NETWORKS)
    assert named.count() == MOST_ROWS
    assert [event.reason for event in shared] == ["malformed", "unknown"]
    assert sums() == {"malformed": 800, "unknown": 800}
    for event in shared:
        # Nothing of it is one stranger's.
        assert (event.address, event.path, event.method, event.endpoint, event.user_agent, event.request_id) == (
            None, "", "", "", "", ""
        )  # fmt: skip
        assert (event.event, event.status, event.key_name, event.duration_ms) == ("refused", 401, "", None)
    # The first have a row of their own, and none for what came later.
    assert AuditEvent.objects.get(address="2001:db8:1::1").count == 1


def test_known_keys_have_their_rows_all_the_same(quiet: None) -> None:
    strangers(MOST_ROWS + 10)
    key = APIKey.objects.create(name="A", is_active=False)
    knock("198.51.100.1", key=key.key, times=3)
    assert AuditEvent.objects.filter(key_name="A", reason="inactive", address="198.51.100.1").count() == 3


def test_the_bound_is_that_of_a_minute(quiet: None) -> None:
    with time_machine.travel(datetime(2026, 3, 1, 12, 0, tzinfo=UTC)) as clock:
        strangers(MOST_ROWS + 10)
        clock.shift(60)
        knock("192.0.2.1", times=8)
    assert counts()[-6:] == [1] * 5 + [3]


@pytest.mark.matrix
def test_rows_that_were_rolled_back_take_no_room(quiet: None) -> None:
    for _ in range(3):
        with transaction.atomic():
            strangers(MOST_ROWS // WHOLE_ROWS + 20, times=8)
            transaction.set_rollback(True)
    strangers(20)
    assert sums() == {"malformed": 10, "unknown": 10}


def test_slow_requests_of_long_ago_get_no_rows_of_their_own() -> None:
    now, address, many = datetime(2026, 3, 1, 12, 0, tzinfo=UTC), parse_address("192.0.2.1"), Floods()
    for minutes in range(2, 30):
        at = now - timedelta(minutes=minutes)
        many.record(row(event="refused", reason="unknown", key_name="", at=at), address, sink())
    assert counts() == [1] * 5 + [23]


@pytest.mark.matrix
def test_memory_is_bounded_whatever_comes(quiet: None) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        many, refused = Floods(), row(event="refused", reason="unknown", key_name="")
        with written_to(Nowhere()):
            for n in range(20_000):
                address = ipaddress.IPv6Address((0x20010DB8 << 96) + (n << 64))
                many.record({**refused, "path": f"/{n:0200}"}, address, sink())
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_500_000


def test_networks_whose_rows_fail_are_forgotten(quiet: None) -> None:
    failing = Failing()
    many = Floods()
    for n in range(MOST_ROWS * 2):
        address = ipaddress.IPv4Address(0x0A000000 + n * 256)
        with suppress(OperationalError):
            many.record(row(event="refused", reason="unknown", key_name=""), address, failing)
    assert failing.asked == MOST_ROWS * 2
    many.record(row(event="refused", reason="unknown", key_name=""), parse_address("192.0.2.1"), sink())
    # It has a row of its own: there is room for it.
    assert list(AuditEvent.objects.filter(event="refused").values_list("address", "detail")) == [("2001:db8::7", "")]


def test_a_refused_key_that_is_known_has_a_row_each_time() -> None:
    key = APIKey.objects.create(name="A", is_active=False)
    knock(key=key.key, times=10)
    assert counts() == [1] * 10


def test_each_minute_has_its_own_rows_even_where_a_slow_thread_is_late() -> None:
    floods, address = Floods(), parse_address("192.0.2.1")
    first, second = (datetime(2026, 3, 1, 12, minute, tzinfo=UTC) for minute in (0, 1))
    for at in [first, second] * 10:
        floods.record(row(event="refused", reason="unknown", key_name="", at=at), address, sink())
    for at in (first, second):
        assert list(AuditEvent.objects.filter(at=at).order_by("id").values_list("count", flat=True)) == [1] * 5 + [5]


def test_rows_that_were_rolled_back_stand_for_nothing() -> None:
    for times in (20, 20, 3):
        with transaction.atomic():
            knock(times=times)
            transaction.set_rollback(True)
    # On SQLite these get the ids of those.
    knock("198.51.100.1", times=6)
    knock(times=7)
    assert counts() == [1] * 6 + [1] * 5 + [2]


def test_rows_that_were_deleted_stand_for_nothing() -> None:
    knock(times=9)
    AuditEvent.objects.filter(event="refused").delete()
    knock(times=7)
    assert counts() == [1] * 5 + [2]


@pytest.mark.django_db(transaction=True)
def test_a_flushed_table_begins_anew(settings: Settings) -> None:
    # As between two tests: refusals that are being counted together must not swallow those that follow.
    settings.KEYS = {"OUTCOME_DELAY": timedelta(hours=1)}
    knock(times=20)
    call_command("flush", interactive=False, verbosity=0)
    knock(times=7)
    assert counts() == [1] * 5 + [2]


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_thousands_of_knocks_from_one_address_and_a_good_key_meanwhile(quiet: None) -> None:
    key = APIKey.objects.create(name="A")
    requests = RequestFactory(REMOTE_ADDR="192.0.2.1")
    malformed = requests.get("/guarded/", headers={"X-API-Key": "é"})
    for n in range(100):
        for _ in range(200):
            check(malformed, GUARD)
        check(requests.get("/guarded/", headers={"X-API-Key": f"{n:040x}"}), GUARD)
        if n % 10 == 0:
            assert Client().get("/guarded/", headers={"X-API-Key": key.key}).status_code == 200
    rows = AuditEvent.objects.filter(event="refused")
    sums = dict(rows.values_list("reason").annotate(Sum("count")).order_by())
    assert sums == {"malformed": 20_000, "unknown": 100}
    assert rows.count() == 2 * 6
    assert AuditEvent.objects.filter(event="used", status=200).count() == 10


@pytest.mark.matrix
def test_thousands_of_addresses(quiet: None) -> None:
    requests = RequestFactory()
    for n in range(1_000):
        for address in (f"10.{n // 250}.7.{n % 250}", f"2001:db8:0:{n % 3:x}::{n:x}"):
            check(requests.get("/guarded/", REMOTE_ADDR=address, headers={"X-API-Key": "é"}), GUARD)
    # 4 networks of IPv4 and 3 of IPv6.
    assert len(refusals()) == 7 * 6
    assert sum(counts()) == 2_000


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_exact_sums_from_eight_threads() -> None:
    key = APIKey.objects.create(name="A")
    start, answers = threading.Barrier(8), []

    def run(n: int) -> None:
        client = Client(REMOTE_ADDR="192.0.2.1")
        start.wait()
        try:
            for _ in range(25):
                answers.append(client.get("/guarded/", headers={"X-API-Key": key.key}).status_code)
                answers.append(client.get("/guarded/", headers={"X-API-Key": "0" * 40}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 200 + [401] * 200
    assert AuditEvent.objects.filter(event="used", status=200, key_name="A").count() == 200
    assert not AuditEvent.objects.died().exists()
    assert sum(counts()) == 200
    assert len(counts()) == 6
