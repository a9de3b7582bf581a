"""Keys so busy that no page could count all they do: a bounded number of rows is read, and the page says so."""

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from keys.admin import activity, columns, key_admin
from keys.audit import reports
from keys.models import APIKey, AuditEvent
from tests.support.admin import DEACTIVATE, LIST, page_of, text_of
from tests.support.keys import make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy() -> APIKey:
    return make_key("Busy", created_at=timezone.now() - timedelta(days=100))


def at_noon(days: int) -> datetime:
    """Return a moment of a day that is over, as it is in the current time zone."""
    day = timezone.localdate() - timedelta(days=days)
    return timezone.make_aware(datetime.combine(day, time(12)))


def request(key: APIKey, moments: Iterable[datetime], **fields: Any) -> None:
    row = {"event": "used", "method": "GET", "path": "/x/", "status": 200, "address": "10.0.0.1", **fields}
    AuditEvent.objects.bulk_create(
        AuditEvent(at=at, api_key=key, key_name=key.name, key_prefix=key.prefix, **row) for at in moments
    )


def often(times: int, days: int) -> list[datetime]:
    return [at_noon(days) + timedelta(seconds=number) for number in range(times)]


def counted(days: Iterable[activity.Day]) -> list[tuple[int, int, bool]]:
    return [(day.allowed, day.refused, day.has_more) for day in days]


def test_the_list_counts_so_many_requests_of_a_day_and_no_more(
    admin_client: Client, busy: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "A_DAY", 3)
    quiet = make_key("Quiet")
    request(busy, often(9, days=1))
    request(busy, often(3, days=2))
    request(busy, often(4, days=5), event="refused", reason="rate", status=429)
    request(busy, [at_noon(5) - timedelta(hours=1)])
    request(quiet, often(2, days=1))
    page = admin_client.get(LIST)
    recent = {key.name: counted(key.recent.days) for key in page.context["cl"].result_list}
    assert recent == {
        "Busy": [(0, 0, False), (0, 3, True), (0, 0, False), (0, 0, False), (3, 0, False), (3, 0, True), (0, 0, False)],
        "Quiet": [(0, 0, False)] * 5 + [(2, 0, False), (0, 0, False)],
    }
    text = text_of(page)
    assert "At least 6 uses, 3 refused: no more than 3 requests of a day are counted here." in text
    assert "</svg> 6+</span>" in text
    assert "</svg> 2</span>" in text


def test_the_list_asks_as_often_for_busy_keys_as_for_quiet_ones(
    admin_client: Client, busy: APIKey, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(columns, "A_DAY", 1)
    for number in range(20):
        for days in range(1, 7):
            request(make_key(f"Service {number}"), often(2, days=days))
    with django_assert_max_num_queries(11):
        admin_client.get(LIST)


def test_the_chart_has_all_its_days_and_says_which_are_cut(
    admin_client: Client, busy: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_admin, "A_DAY", 5)
    request(busy, often(9, days=1))
    request(busy, often(5, days=20))
    page = admin_client.get(page_of(busy))
    days = counted(page.context["recent"].days)
    assert len(days) == 30
    assert (days[28], days[9]) == ((5, 0, True), (5, 0, False))
    text = text_of(page)
    assert "of a day no more than the latest 5 requests are counted here" in text
    assert f"keys_usage --key {busy.pk}" in text
    assert "at least 5 allowed" in text
    assert ">5+</td>" in text
    assert "counted here" not in text_of(admin_client.get(page_of(make_key("Quiet"))))


def test_the_steps_of_a_busy_keys_life_are_shown_however_old(admin_client: Client, busy: APIKey) -> None:
    AuditEvent.objects.filter(api_key=busy, event="created").update(at=timezone.now() - timedelta(days=100))
    request(busy, often(50, days=1))
    assert [event.event for event in admin_client.get(page_of(busy)).context["steps"]] == ["created"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Others read so few rows without an index.")
def test_the_steps_of_a_life_are_found_by_an_index(busy: APIKey) -> None:
    assert "keys_event_step" in AuditEvent.objects.filter(api_key=busy.pk).steps().order_by("-at")[:10].explain()


def test_who_uses_a_busy_key_is_read_from_its_latest_requests(
    admin_client: Client, busy: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "COUNTED", 4)
    request(busy, often(3, days=2), address="10.0.0.2")
    request(busy, often(3, days=1))
    page = admin_client.get(DEACTIVATE, {"keys": busy.pk})
    (line,) = page.context["lines"]
    # The event that it was made is one of its rows, too.
    assert [(client.address, client.uses) for client in line["clients"]] == [("10.0.0.1", 3)]
    assert "Who used it since" in text_of(page)
    assert "it is so busy that no more is read here" in text_of(page)


def test_a_key_of_which_all_is_refused_is_not_said_to_be_unused(
    admin_client: Client, busy: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "COUNTED", 4)
    request(busy, often(2, days=3))
    request(busy, often(9, days=1), event="refused", reason="rate", status=429)
    text = text_of(admin_client.get(DEACTIVATE, {"keys": busy.pk}))
    assert "were refused; it has so many that no more is read here" in text
    assert "Nobody used it" not in text


def test_the_more_keys_are_asked_about_the_fewer_rows_of_each_are_read(
    busy: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "COUNTED", 8)
    AuditEvent.objects.all().delete()
    other = make_key("Other")
    request(busy, often(9, days=1))
    alone, together = activity.clients([busy.pk], 7), activity.clients([busy.pk, other.pk], 7)
    assert [one[busy.pk].found[0].uses for one in (alone, together)] == [8, 4]
    assert (together[other.pk].found, together[other.pk].read_since) == ([], None)


def test_more_keys_than_can_be_looked_into_are_listed_with_their_last_use(admin_client: Client) -> None:
    keys = [make_key(f"Service {number:02}") for number in range(25)]
    request(keys[7], often(1, days=1))
    page = admin_client.get(DEACTIVATE, {"keys": ",".join(str(key.pk) for key in keys)})
    assert [key.name for key in page.context["many"]][:3] == ["Service 07", "Service 00", "Service 01"]
    assert "When they were last used" in text_of(page)
    assert "Deactivate 25 keys" in text_of(page)


def test_uses_of_a_replaced_key_are_counted_up_to_many(busy: APIKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MANY", 3)
    successor = busy.rotate()
    APIKey._base_manager.filter(pk=successor.pk).update(created_at=timezone.now() - timedelta(days=2))
    busy.refresh_from_db()
    for times, words in ((3, ", 3 times since"), (1, ", more than 3 times since")):
        request(busy, often(times, days=1))
        assert words in reports.retirement(APIKey.objects.get(pk=busy.pk)).sentence
