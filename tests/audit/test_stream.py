"""The audit log through a Redis stream: what a request appends, and what an entry is."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.models import APIKey, AuditEvent
from tests.support.callers import UNKNOWN, get
from tests.support.commands import serve
from tests.support.processes import database_url, eventually
from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.django_db


class TestWhatIsAppended:
    def test_a_use_before_its_view_and_its_outcome_after(
        self, server: RedisServer, key: APIKey, settings: Settings
    ) -> None:
        seen: list[Any] = []

        @api_key_required()
        def view(request: HttpRequest) -> HttpResponse:
            seen.extend(server.rows)
            return HttpResponse(status=404)

        serve(settings, view)
        assert get("/0/", key).status_code == 404
        (intent,) = seen
        assert (intent["event"], intent["status"], intent["key_name"]) == ("used", None, "TTS")
        assert server.rows[0] == intent
        duration = server.rows[1]["duration_ms"]
        assert duration >= 0
        assert server.rows[1:] == [{**intent, "status": 404, "duration_ms": duration}]
        assert not AuditEvent.objects.filter(event="used").exists()

    def test_what_the_database_would_hold(self, server: RedisServer, key: APIKey, settings: Settings) -> None:
        def send() -> None:
            get("/guarded/ü/?secret=1", key, User_Agent="TTS/1.0\x07", X_Request_Id="r-1")
            get("/scoped/", key)
            get("/not-scope/", key)

        send()
        settings.KEYS = {}
        send()
        in_database = list(AuditEvent.objects.exclude(method="").order_by("id").values())
        in_stream = server.rows[1::2]
        # What differs each time, and what no request has.
        changing = {"id", "at", "duration_ms", "ticket", "changes"}
        assert [{name: value for name, value in each.items() if name not in changing} for each in in_stream] == [
            {name: value for name, value in each.items() if name not in changing} for each in in_database
        ]

    def test_a_missing_scope_turns_the_use_into_a_refusal(self, server: RedisServer) -> None:
        assert get("/scoped/", APIKey.objects.create(name="A", scopes=[])).status_code == 403
        assert [(each["event"], each["reason"], each["status"]) for each in server.rows] == [
            ("used", "", None), ("refused", "scope", 403)
        ]  # fmt: skip

    @pytest.mark.parametrize("changes", [{"is_active": False}, {"allowed_ips": ["192.0.2.0/24"]}])
    def test_a_known_key_that_is_refused_has_an_entry_each_time(
        self, server: RedisServer, changes: dict[str, Any]
    ) -> None:
        key = APIKey.objects.create(name="A", **changes)
        for _ in range(7):
            assert get("/guarded/", key).status_code == 401
        assert [(each["status"], each["key_name"], each["count"]) for each in server.rows] == [(401, "A", 1)] * 7

    @pytest.mark.matrix
    def test_a_flood_is_six_rows_and_their_counts_add_up(self, server: RedisServer) -> None:
        with time_machine.travel(datetime(2026, 3, 1, 12, 0, tzinfo=UTC)):  # no new minute begins within it
            for _ in range(40):
                assert get("/guarded/", UNKNOWN).status_code == 401
        assert eventually(lambda: sum(counts(server).values()) == 40)
        assert len(counts(server)) == 6
        # One of them at once, and another now and then: not one for each refusal.
        assert len(server.entries) < 40

    def test_steps_of_a_life_stay_in_the_database(self, server: RedisServer, key: APIKey) -> None:
        key.deactivate()
        assert server.entries == []
        assert list(AuditEvent.objects.order_by("id").values_list("event", flat=True)) == ["created", "deactivated"]

    def test_no_secret(self, server: RedisServer, key: APIKey) -> None:
        for token in (str(key.key), UNKNOWN[:-1] + "f"):
            get(f"/guarded/{token}/?key={token}", token, User_Agent=token, X_Request_Id=token)
            assert token not in repr(server.entries)
        assert len(server.entries) == 3

    @pytest.mark.parametrize("atomic", [True, False])
    def test_what_the_view_rolls_back_is_there(
        self, server: RedisServer, key: APIKey, monkeypatch: pytest.MonkeyPatch, atomic: bool
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
        for path in ("/guarded/?status=500", "/named-late/?status=400"):
            get(path, key)
        assert [each["status"] for each in server.rows] == [None, 500, None, 400]

    def test_async_views_and_streams(self, server: RedisServer, key: APIKey) -> None:
        client, headers = AsyncClient(), {"X-API-Key": str(key.key)}
        assert async_to_sync(client.get)("/plain-async/", headers=headers).status_code == 200
        assert async_to_sync(client.get)("/plain-async/", headers={"X-API-Key": UNKNOWN}).status_code == 401
        assert [each["status"] for each in server.rows] == [None, 200, 401]
        assert b"".join(get("/streaming/", key).streaming_content) == b"onetwo"
        assert [each["status"] for each in server.rows][3:] == [None, 200]

    def test_a_key_of_the_environment(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DEDICATED_KEY", "d" * 32)
        assert Client(headers={"X-Internal-Api-Key": "d" * 32}).get("/internal/").status_code == 200
        assert [each["key_name"] for each in server.rows] == ["env:TEST_DEDICATED_KEY"] * 2


def counts(server: RedisServer) -> dict[int, int]:
    """The highest count of each row."""
    highest: dict[int, int] = {}
    for each in server.rows:
        highest[each["ticket"]] = max(highest.get(each["ticket"], 0), each["count"])
    return highest


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_each_process_has_connections_and_tickets_of_its_own(server: RedisServer) -> None:
    program = (
        "import os, sys, django; django.setup()\n"
        "from keys.audit.stream import sink_at\n"
        "from tests.support.log import row\n"
        "sink = sink_at(sys.argv[1]); sink.insert(row())\n"
        "def append():\n"
        "    for n in range(100): sink.insert(row(request_id=f'{os.getpid()}-{n}'))\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0: append(); os._exit(0)\n"
        "append()\n"
        "assert [os.wait()[1] for _ in range(3)] == [0, 0, 0]"
    )
    environment = {
        **os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "example_project.settings"
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", program, server.address], env=environment, check=True, timeout=60)
    rows = server.rows
    assert len({each["request_id"] for each in rows}) == len({each["ticket"] for each in rows}) == 4 * 100 + 1
