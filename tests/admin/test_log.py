"""The audit log in the admin: read by everybody who may, changed by nobody, and never as a whole."""

import csv
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys.admin import log_list
from keys.audit.retention import Pruning
from keys.models import APIKey, AuditEvent
from keys.models.audit_event import MANY_NETWORKS
from tests.support.admin import LOG, staff, text_of
from tests.support.log import body_of

pytestmark = pytest.mark.django_db


def event(**fields: Any) -> AuditEvent:
    row = {"at": timezone.now(), "event": "used", "method": "GET", "path": "/api/x/", "status": 200, "duration_ms": 4}
    made: AuditEvent = AuditEvent.objects.create(**{**row, **fields})
    return made


def shown(client: Client, **query: str) -> list[int]:
    return [one.pk for one in client.get(LOG, query).context["cl"].result_list]


def test_nobody_changes_the_log(admin_client: Client) -> None:
    one = event()
    assert admin_client.get(f"{LOG}add/").status_code == 403
    assert admin_client.get(f"{LOG}{one.pk}/change/").status_code == 200
    assert admin_client.post(f"{LOG}{one.pk}/change/", {"event": "created"}).status_code == 403
    assert admin_client.post(f"{LOG}{one.pk}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(LOG, {"action": "delete_selected", "_selected_action": one.pk, "post": "yes"})
    assert AuditEvent.objects.get() == one
    assert "delete_selected" not in text_of(admin_client.get(LOG))


def test_reading_takes_the_permission() -> None:
    event()
    stranger, reader = staff("view_apikey"), staff("view_auditevent", username="bob")
    for address in (LOG, f"{LOG}export/csv/", f"{LOG}export/jsonl/"):
        assert stranger.get(address).status_code == 403
        assert reader.get(address).status_code == 200


def test_an_event_of_a_deleted_key_is_shown_by_its_name(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS")
    one = event(api_key=key, key_name="TTS", key_prefix=key.prefix)
    key.delete()
    assert ">TTS<" in text_of(admin_client.get(LOG))
    assert admin_client.get(f"{LOG}{one.pk}/change/").status_code == 200
    assert one.pk in shown(admin_client, key=str(one.api_key_id))


def test_an_events_page_shows_what_its_kind_has(admin_client: Client) -> None:
    def fields(one: AuditEvent) -> set[str]:
        return set(re.findall(r'class="form-row field-(\w+)"', text_of(admin_client.get(f"{LOG}{one.pk}/change/"))))

    APIKey.objects.create(name="TTS")
    step, use, refusal = AuditEvent.objects.get(event="created"), event(), event(event="refused", reason="rate")
    assert fields(step) == {"moment", "event", "of_key", "key_prefix", "actor", "count", "detail", "changed"}
    assert {"path", "status", "address", "user_agent"} <= fields(use)
    assert fields(refusal) - fields(use) == {"reason"}
    assert not fields(use) & {"actor", "detail"}
    Pruning(timezone.now(), life_cycle=False).conclude(7)
    pruned = AuditEvent.objects.get(event="pruned")
    assert fields(pruned) == {"moment", "event", "of_key", "key_prefix", "actor", "count", "pruned"}
    assert "uses and refusals before " in text_of(admin_client.get(f"{LOG}{pruned.pk}/change/"))


def test_the_filters_leave_what_they_say(admin_client: Client) -> None:
    now = timezone.now()
    key, other = APIKey.objects.create(name="TTS"), APIKey.objects.create(name="Other")
    AuditEvent.objects.all().delete()
    used = event(api_key=key, key_name="TTS")
    refused = event(event="refused", reason="scope", status=403, api_key=other)
    broken = event(status=500, at=now - timedelta(days=3))
    died = event(status=None, at=now - timedelta(days=40))
    everything = {used.pk, refused.pk, broken.pk, died.pk}
    day = timezone.localtime(broken.at).date().isoformat()
    for query, expected in [
        ({}, everything),
        ({"event__exact": "refused"}, {refused.pk}),
        ({"reason__exact": "scope"}, {refused.pk}),
        ({"status": "2"}, {used.pk}),
        ({"status": "5"}, {broken.pk}),
        ({"status": "none"}, {died.pk}),
        ({"key": str(key.pk)}, {used.pk}),
        ({"when": "today"}, {used.pk, refused.pk}),
        ({"when": "7"}, {used.pk, refused.pk, broken.pk}),
        ({"when": day}, {broken.pk}),
        ({"when": day, "event__exact": "refused"}, set()),
        ({"when": "9999-12-31"}, everything),
        ({"when": "2026-02-31"}, everything),
        ({"key": "9" * 30}, everything),
    ]:
        assert set(shown(admin_client, **query)) == expected, query


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("/api/v1/us", "path", "/api/v1/users/"),
        ("192.0.2.", "address", "192.0.2.77"),
        ("192.0.2.77", "address", "192.0.2.77"),
        ("2001:db8:", "address", "2001:db8::1"),
        ("req-12", "request_id", "req-1234"),
        ("deadbeef", "key_prefix", "deadbeef"),
        ("env:WEBHOOK", "key_name", "env:WEBHOOK_API_KEY"),
    ],
)
def test_the_search_compares_exactly_or_by_the_beginning(
    admin_client: Client, text: str, field: str, value: str
) -> None:
    event()
    found = event(**{field: value})
    assert shown(admin_client, q=text) == [found.pk]


def test_the_search_finds_a_key_by_name_and_prefix(admin_client: Client) -> None:
    key = APIKey.objects.create(name="TTS")
    event(api_key=APIKey.objects.create(name="Other"))
    found = [event(api_key=key).pk, AuditEvent.objects.get(api_key=key, event="created").pk]
    assert shown(admin_client, q="TTS") == shown(admin_client, q=key.prefix) == found


def test_the_search_finds_a_variable_however_many_other_rows_there_are(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_list, "LOOKED_AT", 2)
    found = event(key_name="env:WEBHOOK_API_KEY", at=timezone.now() - timedelta(days=1))
    for _ in range(9):
        event()
    assert shown(admin_client, q="env:WEBHOOK_API_KEY") == [found.pk]


@pytest.mark.parametrize("query", ["path__icontains=x", "user_agent=x", "api_key__name=x", "at__year=2026", "o=1"])
def test_an_address_can_ask_for_nothing_that_reads_every_row(admin_client: Client, query: str) -> None:
    event()
    with CaptureQueriesContext(
        connection,
    ) as captured:
        admin_client.get(f"{LOG}?{query}")
    table, at = map(connection.ops.quote_name, ("keys_auditevent", "at"))
    asked = [one["sql"] for one in captured if f"FROM {table}" in one["sql"]]
    assert not [
        sql for sql in asked if "LIKE" in sql.upper() or "COUNT(" in sql or f"ORDER BY {table}.{at} DESC" not in sql
    ]


def test_nothing_is_counted(admin_client: Client) -> None:
    event()
    for query in ({}, {"event__exact": "used"}, {"q": "/api"}, {"when": "7"}, {"p": "3"}):
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(LOG, query)
        assert not [one["sql"] for one in captured if "COUNT" in one["sql"] or "DISTINCT" in one["sql"]]


def pages(client: Client, **query: str) -> Iterator[list[int]]:
    """Follow the link to the older events to its end."""
    address = f"{LOG}?" + "&".join(f"{name}={value}" for name, value in query.items())
    while address:
        listed = client.get(address).context["cl"]
        yield [one.pk for one in listed.result_list]
        address = f"{LOG}{listed.older_url}" if listed.older else ""


def test_the_way_to_older_events_passes_each_once(admin_client: Client) -> None:
    moment = timezone.now()
    # Three at each moment, so that a page ends in the middle of one.
    made = [event(at=moment - timedelta(seconds=number // 3)).pk for number in range(130)]
    read = list(pages(admin_client))
    assert [len(page) for page in read] == [50, 50, 30]
    assert sorted(pk for page in read for pk in page) == sorted(made)


def test_a_rare_event_is_looked_for_a_part_at_a_time(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_list, "LOOKED_AT", 10)
    moment = timezone.now()
    made = [
        event(at=moment - timedelta(seconds=number // 2), status=500 if number == 33 else 200).pk
        for number in range(40)
    ]
    first = admin_client.get(LOG, {"status": "5"})
    assert not first.context["cl"].result_list
    assert "Nothing was found so far" in text_of(first)
    assert "Look further back" in text_of(first)
    read = list(pages(admin_client, status="5"))
    assert [pk for page in read for pk in page] == [made[33]]
    assert len(read) == 4


def test_a_place_that_is_none_is_the_beginning(admin_client: Client) -> None:
    one = event()
    for before in ("x", "_", "2026-01-01_x", "0001-01-01T00:00:00_1", f"2026-13-01_{10**30}", f"9999-12-31_{10**30}"):
        assert shown(admin_client, before=before) in ([one.pk], [])


def test_the_export_has_what_the_filters_leave_and_not_only_a_page(admin_client: Client) -> None:
    for _ in range(120):
        event()
    event(event="refused", reason="unknown", status=401)
    lines = body_of(admin_client, f"{LOG}export/jsonl/", event__exact="used").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 120
    assert {row["event"] for row in rows} == {"used"}
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert len(list(csv.reader(body_of(admin_client, f"{LOG}export/csv/").splitlines()))) == 122


def test_the_export_is_written_while_it_is_sent(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.admin.export.CHUNK", 10)
    made = {event(at=timezone.now().replace(microsecond=0)).pk for _ in range(35)}
    response: Any = admin_client.get(f"{LOG}export/jsonl/")
    parts = [part.decode() for part in response.streaming_content]
    assert [part.count("\n") for part in parts] == [10, 10, 10, 5]
    assert {json.loads(line)["id"] for part in parts for line in part.splitlines()} == made
    assert response["Content-Disposition"].startswith('attachment; filename="audit-log-')


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(admin_client: Client, beginning: str) -> None:
    event(user_agent=f"{beginning}HYPERLINK(1)", path='/a"b,c/')
    _, row = csv.DictReader, next(csv.DictReader(body_of(admin_client, f"{LOG}export/csv/").splitlines(keepends=True)))
    assert row["user_agent"].startswith("'")
    assert row["path"] == '/a"b,c/'


def test_an_export_in_no_known_form_is_not_there(admin_client: Client) -> None:
    assert admin_client.get(f"{LOG}export/xml/").status_code == 404


def test_the_export_is_a_stream_under_asgi_too(admin_user: User) -> None:
    async def export() -> bytes:
        client = AsyncClient()
        await client.aforce_login(admin_user)
        response: Any = await client.get(f"{LOG}export/jsonl/")
        assert response.is_async
        return b"".join([part async for part in response.streaming_content])

    for _ in range(3):
        event()
    assert async_to_sync(export)().count(b"\n") == 3


def test_an_empty_log_says_what_to_do(admin_client: Client) -> None:
    assert "Call a guarded endpoint" in text_of(admin_client.get(LOG))
    event()
    assert "No event matches" in text_of(admin_client.get(LOG, {"event__exact": "refused"}))


def test_a_row_of_many_networks_says_so(admin_client: Client) -> None:
    fields = {"event": "refused", "reason": "unknown", "method": "", "path": "", "duration_ms": None, "status": 401}
    one = event(**fields, detail=MANY_NETWORKS, count=812)
    page = text_of(admin_client.get(LOG))
    assert "many networks" in page
    assert "several paths" in page
    page = text_of(admin_client.get(f"{LOG}{one.pk}/change/"))
    assert MANY_NETWORKS in page
    assert "User agent" not in page
