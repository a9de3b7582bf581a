"""The manual's guard for FastAPI, word for word: with a service that plays the auth service, and with the real one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keys.calling.introspection import PATH
from keys.models import APIKey, AuditEvent
from tests.docs.pages import block, run
from tests.support.callers import UNKNOWN
from tests.support.processes import eventually
from tests.support.recording_service import KEY, Answer, RecordingService
from tests.support.servers import UVICORN, Server, serving, status_of

pytestmark = pytest.mark.usefixtures("bare_environment")

EXAMPLE = "example_project.settings"
YES = Answer(body=b'{"active": true, "scope": "orders:read", "username": "Billing"}')
NO = Answer(body=b'{"active": false}')
BLOCK = block("docs/calling.md", "## A service in FastAPI", "python")

Headers = list[tuple[str, str]]


@pytest.fixture
def manual(service: RecordingService, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the manual's block, whose auth service is played."""
    monkeypatch.setenv("AUTH_SERVICE_URL", service.url)
    monkeypatch.setenv("AUTH_API_KEY", KEY)
    return run(BLOCK)


def answers(app: Any, auth_service: httpx.AsyncClient, *requests: Headers) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 1234))
        async with auth_service, httpx.AsyncClient(base_url="http://orders", transport=transport) as client:
            return [await client.get("/orders", headers=headers) for headers in requests]

    return asyncio.run(ask())


def statuses(manual: dict[str, Any], *requests: Headers) -> list[int]:
    return [answer.status_code for answer in answers(manual["app"], manual["auth_service"], *requests)]


ONE: Headers = [("X-API-Key", "a key")]


def test_who_is_let_in(service: RecordingService, manual: dict[str, Any]) -> None:
    service.answers[PATH] = [YES, NO, Answer(body=b'{"active": true, "scope": "orders:write"}')]
    good, bad, lacking, none, two, same = answers(
        manual["app"],
        manual["auth_service"],
        [*ONE, ("X-Request-ID", "r-7")],
        ONE,
        ONE,
        [],
        [*ONE, ("X-API-Key", "another")],
        ONE * 2,
    )
    assert (good.status_code, good.json()) == (200, {"for": "Billing"})
    assert (bad.status_code, bad.json()) == (401, {"detail": "Invalid API key."})
    assert (none.status_code, lacking.status_code, two.status_code, same.status_code) == (401, 403, 400, 400)
    assert bad.headers["WWW-Authenticate"] == none.headers["WWW-Authenticate"] == 'Api-Key realm="api"'
    first, *_ = service.received
    assert (first.body, first.headers["X-Request-ID"]) == (b"token=a+key&address=192.0.2.7", "r-7")
    assert len(service.received) == 3


@pytest.mark.parametrize(
    "answer", [Answer(401), Answer(403), Answer(429), Answer(500), Answer(503), Answer(200), Answer(302), None]
)
def test_nobody_is_let_in_if_nobody_can_say(
    service: RecordingService, manual: dict[str, Any], answer: Answer | None, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers[PATH] = [answer]
    assert statuses(manual, ONE) == [503]
    assert "An API key cannot be checked: " in caplog.text
    assert "a key'" not in caplog.text


def test_nobody_is_let_in_if_the_auth_service_is_away(service: RecordingService, manual: dict[str, Any]) -> None:
    service.stop()
    assert statuses(manual, ONE, []) == [503, 401]


def test_the_guard_of_an_endpoint_of_starlette(service: RecordingService, manual: dict[str, Any]) -> None:
    guard: Callable[[Request], Awaitable[dict[str, Any]]] = manual["key_with"]("orders:read")

    async def orders(request: Request) -> Response:
        key = await guard(request)
        return JSONResponse({"for": key["username"]})

    service.answers[PATH] = [YES, NO, Answer(503)]
    app = Starlette(routes=[Route("/orders", orders)])
    answered = answers(app, manual["auth_service"], ONE, ONE, ONE, [])
    assert [answer.status_code for answer in answered] == [200, 401, 503, 401]
    assert answered[0].json() == {"for": "Billing"}


# With real servers


@contextmanager
def orders_service(folder: Path, *options: str) -> Iterator[Server]:
    command = ("-m", "uvicorn", "orders_service:app", "--app-dir", str(folder), "--fd", "{fd}", *options)
    with serving(command) as server:
        yield server


def get(server: Server, *headers: bytes) -> int:
    return status_of(server.send(*headers, path=b"/orders"))


def presented(key: APIKey) -> bytes:
    return f"X-API-Key: {key.key}".encode()


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_a_service_in_front_of_a_real_auth_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    caller = APIKey.objects.create(name="Orders", scopes=["keys:introspect"])
    good, lacking, ended, near, far = (
        APIKey.objects.create(name=name, scopes=scopes, allowed_ips=networks)
        for name, scopes, networks in [
            ("Good", ["orders:read"], []),
            ("Lacking", ["users:read"], []),
            ("Ended", ["orders:read"], []),
            ("Near", ["orders:read"], ["127.0.0.0/8"]),
            ("Far", ["orders:read"], ["192.0.2.0/24"]),
        ]
    )
    (tmp_path / "orders_service.py").write_text(BLOCK)
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("AUTH_API_KEY", str(caller.key))
    with ExitStack() as auth_runs, ExitStack() as end:
        auth = auth_runs.enter_context(serving(UVICORN, settings=EXAMPLE))
        monkeypatch.setenv("AUTH_SERVICE_URL", "http://{}:{}".format(*auth.address))
        direct = end.enter_context(orders_service(tmp_path, "--no-proxy-headers"))
        behind = end.enter_context(orders_service(tmp_path, "--forwarded-allow-ips", "127.0.0.1"))
        forged = b"X-Forwarded-For: 192.0.2.7"

        assert b'{"for":"Good"}' in direct.send(presented(good), b"X-Request-ID: r-7", path=b"/orders")
        row = AuditEvent.objects.get(key_name="Good", event="used")
        assert (row.actor, row.endpoint) == ("key:Orders", "introspection:Orders")
        assert (row.address, row.request_id) == ("127.0.0.1", "r-7")

        assert get(direct, presented(ended)) == 200
        ended.deactivate()
        assert get(direct, presented(ended)) == 401
        assert get(direct, presented(lacking)) == 403
        assert get(direct, b"X-API-Key: " + UNKNOWN.encode()) == 401
        assert [get(direct, presented(near)), get(direct, presented(far), forged)] == [200, 401]
        assert [get(behind, presented(near), forged), get(behind, presented(far), forged)] == [401, 200]
        asked = AuditEvent.objects.filter(key_name="Orders", event="used")
        assert asked.count() == 9
        assert get(direct) == 401
        assert get(direct, presented(good), presented(near)) == 400
        assert asked.count() == 9  # nothing was asked
        for odd in (b"", b"\xff\xfe", b"caf\xc3\xa9", b"x" * 40_000, b"a b&active=true"):
            assert get(direct, b"X-API-Key: " + odd) == 401, odd
        assert asked.count() == 13  # an empty one is none
        refused = AuditEvent.objects.filter(event="refused", endpoint="introspection:Orders")
        assert sum(refused.filter(reason="malformed").values_list("count", flat=True)) >= 3
        assert {*refused.values_list("reason", flat=True)} == {"inactive", "unknown", "address", "malformed"}

        with ThreadPoolExecutor(8) as pool:
            assert {*pool.map(lambda _: get(direct, presented(good)), range(100))} == {200}
        assert eventually(lambda: AuditEvent.objects.filter(key_name="Good", status=200).count() == 101)

        caller.deactivate()
        assert get(direct, presented(good)) == 503
        auth_runs.close()
        assert get(direct, presented(good)) == 503
        assert get(direct) == 401
