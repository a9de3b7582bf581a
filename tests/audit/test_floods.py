"""Refusals of strangers leave a bounded number of rows, and exact sums."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Sum
from django.test import Client, RequestFactory
from pytest_django import Settings

from keys.audit.floods import WHOLE_ROWS, Floods
from keys.audit.sinks import sink
from keys.decorators import GUARD
from keys.models import APIKey, AuditEvent
from keys.networks import parse_address
from keys.verification import check
from tests.support.log import row

pytestmark = pytest.mark.django_db


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


def test_thousands_of_addresses(quiet: None) -> None:
    requests = RequestFactory()
    for n in range(1_000):
        for address in (f"10.{n // 250}.7.{n % 250}", f"2001:db8:0:{n % 3:x}::{n:x}"):
            check(requests.get("/guarded/", REMOTE_ADDR=address, headers={"X-API-Key": "é"}), GUARD)
    # 4 networks of IPv4 and 3 of IPv6.
    assert len(refusals()) == 7 * 6
    assert sum(counts()) == 2_000


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
