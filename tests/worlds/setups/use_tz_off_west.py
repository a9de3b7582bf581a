"""Times are naive and local, west of UTC; each page, filter and option that shows or takes a time is tried."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import KEYS

USE_TZ = False
TIME_ZONE = "America/New_York"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "forms", forms
    yield "filters", filters
    yield "options", options
    yield "a stream", a_stream
    yield "partitions", partitions


def used_key(name: str, **fields: Any) -> Any:
    from django.utils import timezone

    from keys.models import APIKey
    from tests.support.log import record

    key = APIKey.objects.create(name=name, scopes=["orders:read"], **fields)
    record(key, method="GET", path="/used/", at=timezone.now() - timedelta(minutes=3), address="192.0.2.1")
    return key


def forms() -> None:
    """What is typed in the admin is local time, and is shown as such."""
    from django.urls import reverse

    from keys.models import APIKey
    from tests.worlds.admin_pages import boss, shows

    browser, add = boss(), reverse("admin:keys_apikey_add")
    assert "America/New_York" in shows(browser, add)
    form = {"name": "Until noon", "expires_at_0": "2090-07-01", "expires_at_1": "12:00:00"}
    assert "Your new API key" in browser.post(add, form).content.decode()
    key = APIKey.objects.get(name="Until noon")
    assert key.expires_at == datetime(2090, 7, 1, 12)  # noqa: DTZ001
    past = browser.post(add, {**form, "name": "Past", "expires_at_0": "2020-07-01"}).content.decode()
    assert "This moment has passed" in past
    assert "Your new" in browser.post(add, {"name": "90 days", "lifetime": "90"}).content.decode()
    page = reverse("admin:keys_apikey_change", args=[key.pk])
    opened = browser.get(page)
    assert 'value="12:00:00"' in opened.content.decode()
    from tests.support.admin import form_of

    fields = form_of(opened)
    APIKey.objects.filter(pk=key.pk).update(expires_at=datetime(2090, 8, 1, 12))  # noqa: DTZ001
    changed = browser.post(page, {**fields, "expires_at_0": "2090-09-01"})
    assert "2090-08-01 12:00 EDT" in changed.content.decode()
    assert browser.post(page, {**form_of(browser.get(page)), "expires_at_0": "2090-09-01"}).status_code == 302
    key.refresh_from_db()
    assert key.expires_at == datetime(2090, 9, 1, 12)  # noqa: DTZ001


def filters() -> None:
    from django.urls import reverse

    from keys.admin import activity
    from keys.admin.charts import chart
    from tests.worlds.admin_pages import boss, shows

    key, browser = used_key("Filtered"), boss()
    key.rotate(timedelta(hours=1))
    keys, log = reverse("admin:keys_apikey_changelist"), reverse("admin:keys_auditevent_changelist")
    for query, is_shown in (
        ("state=retiring", True),
        ("state=expired", False),
        ("use=7", True),
        ("use=90", False),
        ("use=never", False),
        ("age=90", False),
    ):
        assert (key.prefix in shows(browser, f"{keys}?{query}")) is is_shown, query
    assert "3\N{NO-BREAK SPACE}minutes ago" in shows(browser, keys) or "3 minutes ago" in shows(browser, keys)
    for query in ("when=today", "when=yesterday", "when=30", "when=1999-12-31", f"key={key.pk}", "q=Filtered"):
        assert browser.get(f"{log}?{query}", follow=True).status_code == 200, query
    for step in ("rotate", "deactivate"):
        page = shows(browser, f"{reverse(f'admin:keys_apikey_{step}')}?keys={key.pk}")
        assert "192.0.2.1" in page, step
    for query in ("", "?days=7", f"?key={key.pk}", "?key=env:NONE"):
        shows(browser, reverse("admin:keys_auditevent_usage") + query)
    (*_, today) = activity.by_day([key.pk], 7, 100)[key.pk].days
    assert today.allowed == 1
    assert not chart([today], 10, 10, 1).is_empty


def options() -> None:
    from django.utils import timezone

    from keys.models import APIKey
    from tests.worlds.commands import fails, run

    key = used_key("Listed", expires_at=timezone.now() + timedelta(days=3))
    old = used_key("Long ago")
    APIKey._base_manager.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=200))
    for arguments in (["--expiring", "7d"], ["--expiring", "7d", "--unused", "90d"]):
        # Exit status 1: there are some.
        with pytest.raises(AssertionError, match="keys_list"):
            run("keys_list", *arguments)
    listed = {row["name"]: row for row in json.loads(run("keys_list", "--json"))}
    assert listed["Long ago"]["age"] == "overdue"
    assert listed["Listed"]["last_used_at"][-6:] in {"-04:00", "-05:00"}
    (line,) = json.loads(run("keys_usage", "--json", "--key", str(key.pk)))
    assert line["last_at"][-6:] in {"-04:00", "-05:00"}
    fails("keys_create", "Too late", "--expires", "2020-01-01")
    fails("keys_create", "Never", "--expires", "soon")
    assert " E" in run("keys_explain", given=str(key.key))  # EST or EDT
    run("keys_rotate", str(key.pk), "--grace", "12h")
    run("keys_prune", "--older-than", "1d", "--life-cycle", "--batch-size", "7")
    run("keys_seal", "--rows", "3")
    verified = json.loads(run("keys_verify", "--json", "--keep", "30d"))
    assert datetime.fromisoformat(verified["last_sealed"]).tzinfo is not None


def a_stream() -> None:
    """Uses that came through a stream have the time at which they were made, and are sealed."""
    from django.db import connection
    from django.test import Client, override_settings
    from django.utils import timezone

    from keys.audit import sealing, verifying
    from keys.models import APIKey, AuditEvent
    from tests.support.redis_servers import redis_server, ship

    if connection.vendor != "postgresql":
        return
    key = APIKey.objects.create(name="Streamed", scopes=["orders:read"])
    with redis_server() as server, override_settings(KEYS={**KEYS, "AUDIT_SINK": server.address}):
        assert Client(headers={"X-API-Key": key.key}).get("/orders/").status_code == 200
        assert all(row["at"].tzinfo is None for row in server.rows)
        assert list(sealing.seal()) is not None
        shipped = ship(server.stream).shipped
        assert (shipped.set_aside, shipped.written > 0) == (0, True), shipped
        event = AuditEvent.objects.get(api_key=key.pk, event="used")
        assert event.status == 200
        assert abs(event.at - timezone.now()) < timedelta(minutes=1), event.at
        list(sealing.seal())
        assert not verifying.verify().problems


def partitions() -> None:
    """Months are those of UTC, whatever the time zone."""
    from django.db import connection
    from django.utils import timezone

    from keys.audit import retention
    from keys.audit.partitions import month_of, present, strays
    from tests.support.log import record
    from tests.worlds.commands import run

    if connection.vendor != "postgresql":
        return
    # The last hour of a month here is in the next one there.
    record(method="GET", path="/", at=datetime(2090, 1, 31, 23, 30))  # noqa: DTZ001
    assert [f"{month:%Y-%m}" for month in strays()] == ["2090-02"]
    run("keys_partition", "--ahead", "3")
    assert not strays()
    now = month_of(timezone.now())
    record(method="GET", path="/", at=timezone.now() - timedelta(days=800))
    assert any(partition.since == now for partition in present())
    run("keys_partition", "--older-than", "700d", "--dry-run")
    assert retention.outside_months(timezone.now() - timedelta(days=700)).count() == 1
    run("keys_partition", "--older-than", "700d")
    assert retention.prune(timezone.now() - timedelta(days=700)) == 0
    for row in json.loads(run("keys_partition", "--json")):
        assert row["since"] is None or row["since"].endswith("Z"), row
