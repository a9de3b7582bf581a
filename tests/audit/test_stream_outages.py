"""The audit log through a Redis stream that is unavailable, or full: no view runs, and nothing is trimmed."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from pytest_django import Settings

from keys.audit.servers import StreamError
from keys.audit.stream import Stream
from keys.decorators import api_key_required
from keys.models import APIKey
from tests.support.callers import UNAVAILABLE, UNKNOWN, get
from tests.support.commands import serve
from tests.support.log import errors, ticketed
from tests.support.processes import SECONDS_TO_WAIT, eventually
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.servers import UVICORN, serving, status_of

pytestmark = pytest.mark.django_db


class TestWithoutRedis:
    @pytest.fixture
    def gone(self, own_server: RedisServer) -> None:
        own_server.kill()

    def test_no_view_runs_and_no_key_is_refused(
        self, gone: None, key: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        for path in ("/guarded/?status=404", "/plain/", "/throttled/", "/named-late/?status=404"):
            for token in (key.key, UNKNOWN, ""):
                response = get(path, token)
                assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        assert errors(caplog) == ["The audit log cannot be written: StreamError"] * 12

    def test_unless_it_may_fail_open(
        self, gone: None, key: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYS = {**settings.KEYS, "AUDIT_FAIL_OPEN": True}
        assert get("/guarded/?status=404", key).status_code == 404
        assert get("/guarded/", UNKNOWN).status_code == 401
        assert errors(caplog)[0] == "The audit log cannot be written: StreamError"
        assert async_to_sync(AsyncClient().get)("/plain-async/", headers={"X-API-Key": key.key}).status_code == 200

    def test_it_comes_back_with_nothing_in_its_memory(self, own_server: RedisServer, key: APIKey) -> None:
        assert get("/guarded/", key).status_code == 200
        own_server.kill()
        own_server.start()
        # The connection is another, and Redis does not know the script any more.
        assert get("/guarded/", key).status_code == 200
        assert [each["status"] for each in own_server.rows] == [None, 200]

    def test_a_redis_that_hangs_is_not_waited_for(
        self, own_server: RedisServer, key: APIKey, settings: Settings
    ) -> None:
        settings.KEYS = {"AUDIT_SINK": own_server.address + "&socket_timeout=0.05"}
        get("/guarded/", key)
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            assert get("/guarded/", key).status_code == 503
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        # It was sent, though, and once: a use without an outcome.
        assert eventually(lambda: len(own_server.entries) == 3)
        assert [each["status"] for each in own_server.rows] == [None, 200, None]

    @pytest.mark.matrix
    @pytest.mark.django_db(transaction=True)
    def test_a_redis_that_hangs_holds_up_nobody_else(
        self, own_server: RedisServer, key: APIKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AUDIT_SINK", own_server.address + f"&socket_timeout={SECONDS_TO_WAIT}")
        with serving(UVICORN) as server, ThreadPoolExecutor(1) as pool:
            header = b"X-API-Key: " + str(key.key).encode()
            assert status_of(server.send(header, path=b"/plain-async/")) == 200
            own_server.process.send_signal(signal.SIGSTOP)
            try:
                waiting = pool.submit(server.send, header, path=b"/plain-async/")
                assert [status_of(server.send(path=b"/plain-async/")) for _ in range(3)] == [401] * 3
                assert not waiting.done()
            finally:
                own_server.process.send_signal(signal.SIGCONT)
            assert status_of(waiting.result()) == 200

    def test_a_use_whose_outcome_is_lost_is_there(
        self, own_server: RedisServer, key: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        @api_key_required()
        def view(request: HttpRequest) -> HttpResponse:
            own_server.kill()
            return HttpResponse()

        serve(settings, view)
        assert get("/0/", key).status_code == 200
        assert errors(caplog) == ["The outcome of a request could not be added to the audit log."]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("redis://:s3cret?x@host", "is neither"), ("redis://:s3cret#x@host", "%23"),
     ("redis://host?db=s3cret", "is neither"), ("rediss://:s3cret@host?ssl_cert_reqs=s3cret", "is neither")],
)  # fmt: skip
def test_an_address_that_is_none_is_told_without_a_part_of_it(
    settings: Settings, key: APIKey, caplog: pytest.LogCaptureFixture, address: str, sentence: str
) -> None:
    settings.KEYS = {"AUDIT_SINK": address}
    assert get("/guarded/", key).status_code == 500
    assert 'ImproperlyConfigured: KEYS["AUDIT_SINK"]' in caplog.text
    assert sentence in caplog.text
    assert "s3cret" not in caplog.text


class TestTheLimit:
    def test_a_full_backlog_refuses_uses_and_trims_nothing(
        self, server: RedisServer, key: APIKey, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYS = {"AUDIT_SINK": server.address, "AUDIT_BACKLOG_LIMIT": 3}
        # What has begun is brought to its end: the outcome of the second is the fourth entry.
        assert [get("/guarded/", key).status_code for _ in range(4)] == [200, 200, 503, 503]
        assert get("/guarded/", UNKNOWN).status_code == 503
        assert [each["status"] for each in server.rows] == [None, 200, None, 200]
        assert errors(caplog) == ["The audit log cannot be written: BacklogFullError"] * 3

        settings.KEYS = {**settings.KEYS, "AUDIT_FAIL_OPEN": True}
        assert get("/guarded/", key).status_code == 200
        assert len(server.entries) == 4

        settings.KEYS = {**settings.KEYS, "AUDIT_FAIL_OPEN": False}
        server.client.xdel("log", *(entry for entry, _ in server.entries[:2]))
        assert get("/guarded/", key).status_code == 200

    def test_a_redis_that_is_full_refuses_uses(self, own_server: RedisServer, key: APIKey) -> None:
        own_server.client.config_set("maxmemory", 1)
        assert get("/guarded/", key).status_code == 503
        own_server.client.config_set("maxmemory", 0)
        assert get("/guarded/", key).status_code == 200


def test_who_is_in_no_hurry_waits_longer_than_the_address_says(server: RedisServer) -> None:
    address = f"{server.address}&socket_timeout=0.05"
    server.client.client_pause(500)
    with pytest.raises(StreamError):
        Stream(address).length()
    assert Stream(address, socket_timeout=30).length() == 0


@pytest.mark.parametrize(("options", "kept"), [(("--appendonly", "yes", "--appendfsync", "always"), 50), ((), 0)])
def test_what_a_killed_redis_remembers(options: tuple[str, ...], kept: int) -> None:
    with redis_server(*options) as server:
        stream: Stream = server.stream
        for _ in range(50):
            stream.append(ticketed(), 1000)
        server.kill()
        server.start()
        assert stream.length() == kept
