"""The calling side with httpx: one class for the sync and the async client."""

import asyncio
import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from keys.httpx_client import APIKeyAuth, KeyRefused
from tests.support.processes import ROOT
from tests.support.recording_service import NEW, OLD, REFUSED, Answer, RecordingService, redirect

pytestmark = pytest.mark.usefixtures("bare_environment")


Call = Callable[..., httpx.Response]


def call_sync(auth: APIKeyAuth, method: str, url: str, **options: Any) -> httpx.Response:
    with httpx.Client(auth=auth, follow_redirects=True) as client:
        return client.request(method, url, **options)


def call_async(auth: APIKeyAuth, method: str, url: str, **options: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with httpx.AsyncClient(auth=auth, follow_redirects=True) as client:
            return await client.request(method, url, **options)

    return asyncio.run(call())


either = pytest.mark.parametrize("call", [call_sync, call_async])


@either
def test_the_next_key_is_tried_once_and_stays(service: RecordingService, call: Call) -> None:
    auth = APIKeyAuth(service.url, f"{OLD}\n", next_key=NEW)
    assert call(auth, "POST", f"{service.url}/x", content=b"text").status_code == 200
    assert call(auth, "GET", f"{service.url}/x").status_code == 200
    assert service.received_keys == [OLD, NEW, NEW]
    assert [received.body for received in service.received] == [b"text", b"text", b""]


def test_a_stream_is_sent_again_whole(service: RecordingService) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"te"
        yield b"xt"

    auth = APIKeyAuth(service.url, OLD, next_key=NEW)
    assert call_async(auth, "POST", f"{service.url}/x", content=parts()).status_code == 200
    assert [received.body for received in service.received] == [b"text", b"text"]


def test_the_variable_is_read_when_it_is_needed(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AUTH_API_KEY_NEXT")
    auth = APIKeyAuth(service.url, OLD)
    (tmp_path / ".env").write_text(f"AUTH_API_KEY_NEXT={NEW}\n")
    assert call_sync(auth, "GET", f"{service.url}/x").status_code == 200
    monkeypatch.setenv("AUTH_API_KEY_NEXT", OLD)
    service.keys = {OLD}
    assert call_sync(auth, "GET", f"{service.url}/x").status_code == 200


@either
def test_a_refused_key_names_the_variable_and_is_not_shown(
    service: RecordingService, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = APIKeyAuth(service.url, OLD, variable="BILLING_KEY")
    message = r"answered 401: the API key was refused\. Look at BILLING_KEY and BILLING_KEY_NEXT\."
    with pytest.raises(KeyRefused, match=message) as caught:
        call(auth, "GET", f"{service.url}/x")
    assert caught.value.response.status_code == 401
    assert service.received_keys == [OLD]
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert OLD not in f"{shown} {auth!r} {caught.value.request.headers!r} {caplog.text}"


@either
def test_a_password_in_the_address_is_not_shown(service: RecordingService, call: Call) -> None:
    with pytest.raises(KeyRefused, match=r"^http://127.0.0.1:\d+ answered 401: the API key was refused"):
        call(APIKeyAuth(service.url.replace("//", "//anna:secret@"), OLD), "GET", f"{service.url}/x")


@either
def test_both_keys_refused(service: RecordingService, call: Call) -> None:
    with pytest.raises(KeyRefused, match="both API keys were refused"):
        call(APIKeyAuth(service.url, OLD, next_key="2" * 40), "GET", f"{service.url}/x")
    assert service.received_keys == [OLD, "2" * 40]


@either
@pytest.mark.parametrize("key", ["", " "])
def test_without_a_key_none_is_sent(service: RecordingService, call: Call, key: str) -> None:
    with pytest.raises(KeyRefused, match=r"no API key was sent\. Look at AUTH_API_KEY and AUTH_API_KEY_NEXT"):
        call(APIKeyAuth(service.url, key, next_key=NEW), "GET", f"{service.url}/x")
    assert [received.headers["Authorization"] for received in service.received] == [None]


@either
def test_a_next_key_that_cannot_be_sent_is_said_so(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", f"{NEW}é")
    with pytest.raises(KeyRefused, match=r"the next one cannot be read\. Look at AUTH_API_KEY") as caught:
        call(APIKeyAuth(service.url, OLD), "GET", f"{service.url}/x")
    assert NEW not in str(caught.value)


def test_the_variable_is_read_where_the_key_was(service: RecordingService, tmp_path: Path) -> None:
    """From the `.env` beside the file, where `decouple.config` looks, when the working directory has none."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / ".env").write_text(f"AUTH_API_KEY_NEXT={NEW}\n")
    file = tmp_path / "service" / "call.py"
    file.write_text(
        "import httpx\n"
        "from keys.httpx_client import APIKeyAuth\n"
        f"print(httpx.get('{service.url}/x', auth=APIKeyAuth('{service.url}', '{OLD}')).status_code)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "200\n", done.stderr


@either
def test_the_key_is_for_the_origin_alone(service: RecordingService, call: Call) -> None:
    with RecordingService() as stranger:
        service.answers["/away"] = [redirect(f"{stranger.url}/")]
        service.answers["/private"] = [redirect(f"{stranger.url}/private")]
        service.answers["/round"] = [redirect(f"{stranger.url}/back")]
        stranger.answers["/"] = [Answer()]
        stranger.answers["/back"] = [redirect(f"{service.url}/x")]
        auth = APIKeyAuth(service.url, NEW)
        assert call(auth, "GET", f"{service.url}/away").status_code == 200
        assert call(auth, "GET", f"{stranger.url}/").status_code == 200
        assert call(auth, "GET", f"{stranger.url}/private").status_code == 401
        assert call(auth, "GET", f"{service.url}/private").status_code == 401
        with pytest.raises(KeyRefused):
            call(auth, "GET", f"{service.url}/round")
        assert stranger.received_keys == [None] * 5
    assert service.received_keys == [NEW, NEW, NEW, None]


def test_what_was_redirected_is_not_sent_again(service: RecordingService) -> None:
    service.answers["/done"] = [redirect("/x", 303)]
    with pytest.raises(KeyRefused):
        call_sync(APIKeyAuth(service.url, OLD, next_key=NEW), "POST", f"{service.url}/done")
    assert [received.path for received in service.received] == ["/done", "/x"]


@pytest.mark.parametrize(
    ("url", "is_origin"),
    [
        ("https://auth.example.com:443/x", True),
        ("HTTPS://someone@AUTH.example.com/x", True),
        ("http://auth.example.com/x", False),
        ("https://auth.example.com:8443/x", False),
        ("https://auth.example.com@evil.example/", False),
    ],
)
def test_what_is_the_origin(url: str, is_origin: bool) -> None:
    request = httpx.Request("GET", url)
    next(APIKeyAuth("https://auth.example.com/v1/", NEW).auth_flow(request))
    assert request.headers.get("Authorization") == (f"Api-Key {NEW}" if is_origin else None)


@either
def test_a_call_that_was_refused_takes_the_key_another_has_found(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", NEW)
    auth = APIKeyAuth(service.url, OLD)

    def rotate_elsewhere() -> Answer:
        assert call(auth, "GET", f"{service.url}/x").status_code == 200
        monkeypatch.delenv("AUTH_API_KEY_NEXT")
        return REFUSED

    service.answers["/slow"] = [rotate_elsewhere, Answer()]
    assert call(auth, "GET", f"{service.url}/slow").status_code == 200
    assert service.received_keys == [OLD, OLD, NEW, NEW]


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="AUTH_API_KEY holds characters") as caught:
        APIKeyAuth("https://auth.example.com", f"{OLD}\n{NEW}")
    assert OLD not in str(caught.value)


def test_importing_without_httpx_names_the_extra() -> None:
    code = "import sys; sys.modules['httpx'] = None; import keys.httpx_client"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("ImportError: keys.httpx_client needs httpx: install django-service-keys[httpx].\n")
