"""System C of the example: the tracking ingest, and what the analysis makes of it."""

import json
import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from example_project.tracking.batches import read_batch, store_batch
from example_project.tracking.models import Click, Link
from tests.support.callers import post

pytestmark = pytest.mark.django_db

BATCH = "/api/tracking-ingest/batch"
ANALYSIS = "/api/analyze/clicks"

# How many wait for a lock, where it can be asked.
WAITING = {
    "postgresql": "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks"
    " JOIN pg_database ON pg_database.oid = database WHERE datname = current_database())",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
    " ON trx_mysql_thread_id = id WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()",
}


@pytest.fixture
def promo() -> Link:
    return Link.objects.create(slug="promo", url="https://example.com/promo")


def click(**changes: Any) -> dict[str, Any]:
    return {"click_id": str(uuid4()), "link": "promo", "clicked_at": "2026-03-01T12:00:00Z", **changes}


def send(client: Client, *clicks: Any) -> Any:
    return post(client, BATCH, {"clicks": list(clicks)})


class TestBatch:
    def test_is_stored(self, shared: Client, promo: Link) -> None:
        row = click(clicked_at="2026-03-01T12:00:00+02:00")
        response = send(shared, row, click())
        assert (response.status_code, response.json()) == (200, {"success": True, "stored": 2, "duplicates": 0})
        stored = Click.objects.get(pk=row["click_id"])
        assert (stored.link, stored.clicked_at.isoformat()) == (promo, "2026-03-01T10:00:00+00:00")

    def test_of_nothing(self, shared: Client) -> None:
        assert send(shared).json() == {"success": True, "stored": 0, "duplicates": 0}

    def test_stores_a_click_once(self, shared: Client, promo: Link) -> None:
        old = click(clicked_at="2026-01-01T00:00:00Z")
        send(shared, old)
        new = click()
        again = {**new, "click_id": UUID(new["click_id"]).hex.upper(), "clicked_at": "2026-05-01T00:00:00Z"}
        response = send(shared, {**old, "clicked_at": "2026-02-01T00:00:00Z"}, new, again)
        assert response.json() == {"success": True, "stored": 1, "duplicates": 2}
        assert sorted(Click.objects.values_list("clicked_at__month", flat=True)) == [1, 3]

    def test_is_all_or_none_and_names_each_bad_row(self, shared: Client, promo: Link) -> None:
        rows = [click(), click(link="nowhere"), click(click_id="x", clicked_at="yesterday"), click(), "row", {}]
        response = send(shared, *rows)
        assert response.status_code == 400
        assert response.json()["success"] is False
        errors = response.json()["errors"]
        assert set(errors) == {"1", "2", "4", "5"}
        assert errors["1"] == {"link": ["Unknown link."]}
        assert set(errors["2"]) == {"click_id", "clicked_at"}
        assert set(errors["5"]) == {"click_id", "link", "clicked_at"}
        assert not Click.objects.exists()

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("link", ["pro\x00mo", "\ud800", "", " promo ", 5, ["promo"], {}, None]),
            ("click_id", [7, True, None, "", "\x00", "0" * 33, ["x"]]),
            ("clicked_at", ["\x00", 1772366400, 1e300, None, "", "noon", ["x"], "2026-02-30T00:00:00Z"]),
            ("clicked_at", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59", "9999-12-31T23:59:59-14:00"]),
            ("clicked_at", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "10000-01-01T00:00:00Z"]),
        ],
        ids=ascii,
    )
    def test_refuses_a_bad_value(self, shared: Client, promo: Link, field: str, values: list[Any]) -> None:
        response = send(shared, click(), *(click(**{field: value}) for value in values))
        assert response.status_code == 400
        errors = response.json()["errors"]
        assert {index: set(error) for index, error in errors.items()} == {
            str(index): {field} for index in range(1, len(values) + 1)
        }

    @pytest.mark.parametrize("row", [None, True, 7, "row", []], ids=repr)
    def test_refuses_what_is_no_row(self, shared: Client, promo: Link, row: Any) -> None:
        response = send(shared, click(), row)
        assert response.status_code == 400
        assert set(response.json()["errors"]) == {"1"}

    @pytest.mark.parametrize(
        "body", [None, [], 7, "clicks", {}, {"clicks": None}, {"clicks": {}}, {"clicks": "x"}, {"clicks": 1}]
    )
    def test_refuses_a_bad_body(self, shared: Client, body: Any) -> None:
        response = post(shared, BATCH, json.dumps(body))
        assert response.status_code == 400
        assert response.json() == {"success": False, "errors": {"clicks": ["Expected a list of clicks."]}}

    def test_takes_naive_times_as_the_servers(self, shared: Client, promo: Link) -> None:
        with override_settings(TIME_ZONE="Asia/Tokyo"):
            assert send(shared, click(clicked_at="2026-03-01T12:00:00")).status_code == 200
        assert Click.objects.get().clicked_at.isoformat() == "2026-03-01T03:00:00+00:00"

    def test_takes_1000_clicks_in_a_handful_of_queries(self, shared: Client) -> None:
        links = Link.objects.bulk_create(Link(slug=f"l{n}", url="https://example.com") for n in range(1000))
        rows = [click(link=link.slug) for link in links]
        with CaptureQueriesContext(connection) as queries:
            assert send(shared, *rows).json() == {"success": True, "stored": 1000, "duplicates": 0}
        assert len(queries) < 20
        assert send(shared, *rows).json() == {"success": True, "stored": 0, "duplicates": 1000}

    def test_takes_no_more_than_1000(self, shared: Client, promo: Link) -> None:
        response = send(shared, *[click() for _ in range(1001)])
        assert response.status_code == 400
        assert "1000" in response.json()["errors"]["clicks"][0]
        assert not Click.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_counts_exactly_when_the_same_clicks_arrive_at_once(self, promo: Link) -> None:
        rows = sorted((click() for _ in range(300)), key=lambda row: str(row["click_id"]))
        stored: list[int] = []

        def arrive(rows: list[dict[str, Any]]) -> None:
            try:
                stored.append(store_batch(read_batch({"clicks": rows})))
            finally:
                connection.close()

        # In opposite order they would each wait for the other, once both have come as far as the click in the middle.
        threads = [threading.Thread(target=arrive, args=(rows[::step],)) for step in (1, -1)]
        with transaction.atomic():
            store_batch(read_batch({"clicks": [rows[150]]}))
            for thread in threads:
                thread.start()
            while connection.vendor in WAITING and all(thread.is_alive() for thread in threads):
                with connection.cursor() as cursor:
                    cursor.execute(WAITING[connection.vendor])
                    if cursor.fetchone() == (2,):
                        break
                # MariaDB looks again only when nobody has asked for a tenth of a second.
                time.sleep(0.2)
            transaction.set_rollback(True)
        for thread in threads:
            thread.join()
        assert (len(stored), sum(stored)) == (2, 300)
        assert Click.objects.count() == 300


class TestAnalysis:
    def test_counts_by_link_and_day(self, shared: Client, promo: Link) -> None:
        Link.objects.create(slug="autumn", url="https://example.com/autumn")
        Link.objects.create(slug="unused", url="https://example.com/unused")
        send(
            shared,
            click(clicked_at="2026-03-01T23:59:59Z"),
            click(clicked_at="2026-03-02T00:00:00Z"),
            click(clicked_at="2026-03-02T01:30:00+02:00"),
            click(link="autumn"),
        )
        with CaptureQueriesContext(connection) as queries:
            response = shared.get(ANALYSIS)
        assert response.json() == [
            {"link": "autumn", "day": "2026-03-01", "clicks": 1},
            {"link": "promo", "day": "2026-03-01", "clicks": 2},
            {"link": "promo", "day": "2026-03-02", "clicks": 1},
        ]
        assert len([query for query in queries if "tracking_click" in query["sql"]]) == 1

    def test_has_the_days_of_the_time_zone(self, shared: Client, promo: Link) -> None:
        send(shared, click(clicked_at="2026-03-01T20:00:00Z"))
        with override_settings(TIME_ZONE="Asia/Tokyo"):
            assert shared.get(ANALYSIS).json() == [{"link": "promo", "day": "2026-03-02", "clicks": 1}]

    @pytest.mark.parametrize("time_zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
    def test_reaches_the_ends_of_the_calendar(self, shared: Client, promo: Link, time_zone: str) -> None:
        send(shared, click(clicked_at="9999-12-30T23:59:59Z"), click(clicked_at="0001-01-02T00:00:00Z"))
        with override_settings(TIME_ZONE=time_zone):
            assert len(shared.get(ANALYSIS).json()) == 2
