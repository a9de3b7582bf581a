"""The guard on plain Django views: functions and classes, sync and async, streams."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from pytest_django import Settings

from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring
from keys.models import APIKey
from keys.verification import Guard
from tests.support.callers import UNKNOWN
from tests.support.log import rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(key: APIKey) -> Client:
    return Client(enforce_csrf_checks=True, raise_request_exception=False, headers={"X-API-Key": key.key})


def call(path: str, key: str | None, **extra: str) -> Any:
    """Make one request through the ASGI side of Django."""
    headers = {} if key is None else {"X-API-Key": key}
    client = AsyncClient(raise_request_exception=False)
    return async_to_sync(client.get)(path, headers={**headers, **extra})


class TestSync:
    def test_a_function(self, caller: Client) -> None:
        assert caller.get("/plain/").json() == {"name": "TTS"}
        assert rows() == [("used", "", "TTS", 200)]

    def test_a_class_without_csrf_as_no_cookie_opens_it(self, caller: Client) -> None:
        response = caller.post("/plain-class/", {"a": 1}, content_type="application/json")
        assert (response.status_code, response.json()) == (200, {"got": {"a": 1}})
        assert Client(enforce_csrf_checks=True).post("/plain-class/").status_code == 401
        assert rows() == [("used", "", "TTS", 200)]

    def test_what_it_answers(self, key: APIKey) -> None:
        poor = APIKey.objects.create(name="poor", scopes=[])
        answers = [
            Client().get("/plain/", headers=headers)
            for headers in ({}, {"X-API-Key": UNKNOWN}, {"X-API-Key": key.key, "Authorization": "Api-Key x"},
                                        {"X-API-Key": poor.key})
        ]  # fmt: skip
        assert [(response.status_code, response.json()["detail"]) for response in answers] == [
            (401, "Authentication credentials were not provided."), (401, "Invalid API key."),
            (400, "More than one API key was presented."), (403, "This API key lacks the scope “users:read”."),
        ]  # fmt: skip
        assert [response.headers.get("WWW-Authenticate") for response in answers] == ['Api-Key realm="api"'] * 2 + [
            None
        ] * 2

    @pytest.mark.parametrize("path", ["/plain-async/", "/async-class/", "/async-method/", "/async-behind-another/"])
    def test_async_views_on_a_sync_server(self, caller: Client, key: APIKey, path: str) -> None:
        assert caller.get(path).json() == {"name": "TTS"}
        assert caller.get(path, headers={"Authorization": "Api-Key x"}).status_code == 400
        refused = Client().get(path, headers={"X-API-Key": UNKNOWN})
        assert (refused.status_code, refused.json()) == (401, {"detail": "Invalid API key."})
        assert rows() == [
            ("used", "", "TTS", 200), ("refused", "conflict", "", 400), ("refused", "unknown", "", 401)
        ]  # fmt: skip

    def test_every_scope_is_asked_for(self, key: APIKey) -> None:
        @api_key_required("users:read", "employees:read")
        def view(request: HttpRequest) -> HttpResponse:
            return JsonResponse({})

        request = RequestFactory().get("/", headers={"X-API-Key": key.key})
        request.resolver_match = None
        assert b"employees:read" in view(request).content
        APIKey.objects.update(scopes=["users:read", "employees:*"])
        assert view(request).status_code == 200

    def test_a_guard_of_its_own(self, key: APIKey) -> None:
        @api_key_required(
            guard=Guard(header="X-Partner-Key", keyword=None, refused_detail="Who are you?", answers_missing=True)
        )
        def view(request: HttpRequest, number: int) -> HttpResponse:
            """Say a number."""
            return JsonResponse({"number": number, "name": request.auth.name})  # type: ignore[attr-defined]

        def ask(**headers: str) -> HttpResponse:
            request = RequestFactory().get(
                "/", headers={name.replace("_", "-"): value for name, value in headers.items()}
            )
            request.resolver_match = None
            response: HttpResponse = view(request, number=7)
            return response

        assert ask(X_Partner_Key=key.key).content == b'{"number": 7, "name": "TTS"}'
        assert ask(X_API_Key=key.key).content == ask(X_Partner_Key=UNKNOWN).content == b'{"detail": "Who are you?"}'
        assert (view.__name__, view.__doc__) == ("view", "Say a number.")

    @pytest.mark.parametrize("path", ["/cached-method/", "/cached-plain/"])
    def test_no_cache_hands_the_answer_to_anybody(self, caller: Client, path: str) -> None:
        assert caller.get(path).status_code == 200
        assert Client().get(path).status_code == 401

    def test_an_error_in_the_view(self, caller: Client) -> None:
        assert caller.post("/plain-class/", "{", content_type="application/json").status_code == 500
        assert rows() == [("used", "", "TTS", 500)]

    # Django's test client closes the connection with a stream that is not read to its end.
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(("path", "status"), [("/streaming/", 200), ("/streaming/?break=1", 500)])
    def test_a_stream_is_one_row_when_it_ends(self, caller: Client, path: str, status: int) -> None:
        response = caller.get(path)
        assert rows() == [("used", "", "TTS", None)]
        if status == 200:
            assert b"".join(response) == b"onetwo"
        else:
            with pytest.raises(RuntimeError, match="the stream broke"):
                list(response)
        response.close()
        assert rows() == [("used", "", "TTS", status)]

    @pytest.mark.django_db(transaction=True)
    def test_a_stream_that_is_dropped(self, caller: Client) -> None:
        started, untouched = caller.get("/streaming/"), caller.get("/streaming/")
        assert next(iter(started)) == b"one"
        started.close()
        untouched.close()
        assert rows() == [("used", "", "TTS", 499)] * 2


class TestAsync:
    @pytest.fixture(autouse=True)
    def no_error_is_swallowed(self, caplog: pytest.LogCaptureFixture) -> Any:
        yield
        assert not [
            record for record in caplog.records if record.levelno >= logging.ERROR and record.name == "api_keys"
        ]
        assert "SynchronousOnlyOperation" not in caplog.text

    @pytest.mark.parametrize(
        "path",
        [
            "/plain-async/", "/plain/", "/async-class/", "/async-method/", "/async-behind-another/", "/guarded/",
            "/after-session/",
        ],
    )  # fmt: skip
    def test_views_of_every_kind(self, key: APIKey, path: str) -> None:
        assert call(path, key.key).status_code == 200
        assert call(path, UNKNOWN).status_code == 401
        assert call(path, key.key, Authorization=f"Api-Key {UNKNOWN}").status_code == 400
        assert rows() == [("used", "", "TTS", 200), ("refused", "unknown", "", 401), ("refused", "conflict", "", 400)]

    def test_no_key(self) -> None:
        assert call("/plain-async/", None).status_code == 401
        assert call("/plain-async/", None)["Cache-Control"] == "no-store"
        assert rows() == []

    def test_a_view_and_its_guard_block_no_event_loop(self, key: APIKey) -> None:
        # Every query in the loop's thread would raise SynchronousOnlyOperation: the view asks that there is a loop.
        @api_key_required()
        async def view(request: HttpRequest) -> HttpResponse:
            asyncio.get_running_loop()
            return JsonResponse({"name": request.auth.name})  # type: ignore[attr-defined]

        request = RequestFactory().get("/", headers={"X-API-Key": key.key})
        request.resolver_match = None
        assert async_to_sync(view)(request).content == b'{"name": "TTS"}'

    @pytest.mark.parametrize("broken", [False, True])
    @pytest.mark.parametrize("path", ["/streaming-async/", "/streaming/"])
    def test_a_stream_is_one_row_when_it_ends(self, key: APIKey, path: str, broken: bool) -> None:
        async def consume() -> bytes:
            client = AsyncClient()
            response: Any = await client.get(path + ("?break=1" if broken else ""), headers={"X-API-Key": key.key})
            parts: AsyncIterator[bytes] = aiter(response)
            return b"".join([part async for part in parts])

        with pytest.warns(Warning, match="synchronous iterators") if path == "/streaming/" else nullcontext():
            if broken:
                with pytest.raises(RuntimeError, match="the stream broke"):
                    async_to_sync(consume)()
            else:
                assert async_to_sync(consume)() == b"onetwo"
        assert rows() == [("used", "", "TTS", 500 if broken else 200)]

    @pytest.mark.django_db(transaction=True)
    def test_a_stream_that_is_dropped(self, key: APIKey) -> None:
        async def drop() -> None:
            response: Any = await AsyncClient().get("/streaming-async/", headers={"X-API-Key": key.key})
            parts = aiter(response.streaming_content)
            assert await anext(parts) == b"one"
            await parts.aclose()
            await sync_to_async(response.close)()

        async_to_sync(drop)()
        assert rows() == [("used", "", "TTS", 499)]


class Patient(DatabaseKeyring):
    """Writes the use, and then takes its time."""

    begun = threading.Event()
    may_go_on = threading.Event()

    def find_and_record(self, *args: Any) -> Any:
        found = super().find_and_record(*args)
        self.begun.set()
        self.may_go_on.wait(60)
        return found


@pytest.mark.django_db(transaction=True)
def test_a_client_that_hangs_up_while_its_key_is_looked_up(
    settings: Settings, key: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each request has a thread of its own there; none is to keep its connection.
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)

    @api_key_required(guard=Guard(keyrings=(Patient(),)))
    async def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError("nobody is there to see the answer")

    async def hang_up() -> None:
        headers = [(b"host", b"testserver"), (b"x-api-key", str(key.key).encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        client: Any = ApplicationCommunicator(get_asgi_application(), scope)  # type: ignore[no-untyped-call]
        await client.send_input({"type": "http.request"})
        await sync_to_async(Patient.begun.wait, thread_sensitive=False)(60)
        await client.send_input({"type": "http.disconnect"})
        for _ in range(50):
            await asyncio.sleep(0)
        Patient.may_go_on.set()
        await client.wait(60)

    settings.ROOT_URLCONF = (path("", view),)
    asyncio.run(hang_up())
    assert rows() == [("used", "", "TTS", 499)]
