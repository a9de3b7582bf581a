"""The calling side when its key is refused, or replaced by the next."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from keys.client import APIKeySession, KeyRefused
from tests.support.processes import ROOT
from tests.support.recording_service import NEW, OLD, REFUSED, Answer, RecordingService, redirect

pytestmark = pytest.mark.usefixtures("bare_environment")

NEWEST = "2222222222222222222222222222222222222222"


# The key is refused


@pytest.mark.parametrize("stream", [False, True])
def test_a_deactivated_key_names_the_variable(service: RecordingService, stream: bool) -> None:
    with APIKeySession(service.url, OLD) as session, pytest.raises(requests.HTTPError) as caught:
        session.get("/x", stream=stream)
    assert type(caught.value) is KeyRefused
    assert str(caught.value) == (
        f"{service.url} answered 401: the API key was refused. Look at AUTH_API_KEY and AUTH_API_KEY_NEXT."
    )
    assert caught.value.response is not None
    assert caught.value.response.status_code == 401
    assert service.received_keys == [OLD]


@pytest.mark.parametrize("key", [None, "", " "])
def test_without_a_key_none_is_sent(service: RecordingService, key: str | None) -> None:
    with (
        APIKeySession(service.url, key, next_key=NEW, variable="BILLING_KEY") as session,
        pytest.raises(KeyRefused, match=r"no API key was sent. Look at BILLING_KEY and BILLING_KEY_NEXT"),
    ):
        session.get("/x")
    assert service.received_keys == [None]


def test_both_keys_refused(service: RecordingService) -> None:
    with (
        APIKeySession(service.url, OLD, next_key=NEWEST) as session,
        pytest.raises(KeyRefused, match="both API keys were refused") as caught,
    ):
        session.get("/x")
    assert service.received_keys == [OLD, NEWEST]
    assert not {OLD, NEWEST} & set(str(caught.value).split())


# The next key


def test_the_next_key_is_tried_once_and_stays(service: RecordingService, rotating: APIKeySession) -> None:
    assert rotating.get("/x").ok
    assert rotating.get("/x").ok
    assert service.received_keys == [OLD, NEW, NEW]


def test_the_next_key_after_a_redirect_within_the_origin(service: RecordingService, rotating: APIKeySession) -> None:
    service.answers["/old"] = [redirect("/x")]
    assert rotating.get("/old").ok
    assert [(received.path, received.key) for received in service.received] == [
        ("/old", OLD),
        ("/x", OLD),
        ("/x", NEW),
    ]


@pytest.mark.parametrize(
    "body", [b"text", "text", io.BytesIO(b"text"), io.StringIO("text")], ids=["bytes", "str", "file", "text file"]
)
def test_a_post_is_sent_again_whole(service: RecordingService, rotating: APIKeySession, body: bytes) -> None:
    assert rotating.post("/x", data=body).ok
    assert [received.body for received in service.received] == [b"text", b"text"]


def test_a_file_is_sent_again_from_where_it_stood(service: RecordingService, rotating: APIKeySession) -> None:
    file = io.BytesIO(b"head:tail")
    file.seek(5)
    assert rotating.put("/x", data=file).ok
    assert [received.body for received in service.received] == [b"tail", b"tail"]


def test_a_generator_cannot_be_sent_again(service: RecordingService, rotating: APIKeySession) -> None:
    with pytest.raises(KeyRefused, match=r"the body cannot be sent again. Look at AUTH_API_KEY") as caught:
        rotating.post("/x", data=(part for part in [b"te", b"xt"]))
    assert caught.value.response is not None
    assert [received.body for received in service.received] == [b"text"]


def test_the_variable_is_read_when_it_is_needed(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AUTH_API_KEY_NEXT")
    service.keys = {OLD}
    with APIKeySession(service.url, OLD) as session:
        assert session.get("/x").ok
        (tmp_path / ".env").write_text(f"AUTH_API_KEY_NEXT={NEW}\n")
        service.keys = {NEW}
        assert session.get("/x").ok
        (tmp_path / ".env").write_text(f"AUTH_API_KEY_NEXT={NEWEST}\n")
        service.keys = {NEWEST}
        assert session.get("/x").ok
        monkeypatch.setenv("AUTH_API_KEY_NEXT", OLD)  # goes before .env
        service.keys = {OLD}
        assert session.get("/x").ok
    assert service.received_keys == [OLD, OLD, NEW, NEW, NEWEST, NEWEST, OLD]


def test_the_variable_is_read_where_the_key_was(service: RecordingService, tmp_path: Path) -> None:
    """A service whose `.env` lies beside its file, and not in the working directory: as `decouple.config` reads it."""
    folder, elsewhere = tmp_path / "service", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / ".env").write_text(f"AUTH_SERVICE_URL={service.url}\nAUTH_API_KEY={OLD}\nAUTH_API_KEY_NEXT={NEW}\n")
    (folder / "call.py").write_text(
        "from decouple import config\n"
        "from keys.client import APIKeySession\n"
        "session = APIKeySession(config('AUTH_SERVICE_URL'), config('AUTH_API_KEY'))\n"
        "print(session.get('/x').status_code)\n"
    )
    done = subprocess.run(
        [sys.executable, str(folder / "call.py")], cwd=elsewhere, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}, check=False,
    )  # fmt: skip
    assert done.stdout == "200\n", done.stderr
    assert service.received_keys == [OLD, NEW]


def test_a_next_key_that_cannot_be_sent_is_said_so(service: RecordingService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", f"{NEW}é")
    with APIKeySession(service.url, OLD) as session, pytest.raises(KeyRefused) as caught:
        session.get("/x")
    assert "the next one cannot be read. Look at AUTH_API_KEY and AUTH_API_KEY_NEXT." in str(caught.value)
    assert NEW not in str(caught.value)


@pytest.mark.parametrize("next_key", ["", " ", OLD, f" {OLD}\n"])
def test_a_next_key_that_is_none_is_not_tried(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, next_key: str
) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", next_key)
    with APIKeySession(service.url, OLD) as session, pytest.raises(KeyRefused, match="the API key was refused"):
        session.get("/x")
    assert service.received_keys == [OLD]


@pytest.mark.parametrize("of_the_request", [True, False])
def test_hooks_that_raise_come_after_the_next_key(
    service: RecordingService, rotating: APIKeySession, of_the_request: bool
) -> None:
    heard: list[int] = []

    def check(response: requests.Response, *args: object, **kwargs: object) -> None:
        heard.append(response.status_code)
        response.raise_for_status()

    if not of_the_request:
        rotating.hooks["response"].append(check)
    hooks = {"response": check} if of_the_request else None
    service.answers["/old"] = [redirect("/x")]
    response = rotating.get("/old", hooks=hooks)
    assert (response.status_code, heard) == (200, [302, 200])
    assert response.request.hooks["response"] == [check]
    service.keys.clear()
    with pytest.raises(KeyRefused):
        rotating.get("/x", hooks=hooks)
    assert heard == [302, 200]


def test_what_follows_a_redirect_is_sent_with_the_next_key(service: RecordingService, rotating: APIKeySession) -> None:
    service.answers["/new"] = [REFUSED, redirect("/x", 303)]
    assert rotating.post("/new", json={}).ok
    assert [(received.path, received.key) for received in service.received] == [
        ("/new", OLD), ("/new", NEW), ("/x", NEW)
    ]  # fmt: skip


@pytest.mark.parametrize(("next_key", "variable"), [("", "AUTH_API_KEY"), (None, "BILLING_API_KEY")])
def test_another_services_next_key_is_left_alone(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch, next_key: str | None, variable: str
) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", NEW)
    with (
        APIKeySession(service.url, OLD, next_key=next_key, variable=variable) as session,
        pytest.raises(KeyRefused, match=variable),
    ):
        session.get("/x")
    assert service.received_keys == [OLD]


def test_threads_share_a_session_through_a_rotation(service: RecordingService, rotating: APIKeySession) -> None:
    service.keys = {OLD, NEW}
    half_way = threading.Barrier(5)

    def call() -> list[int]:
        before = [rotating.get("/x").status_code for _ in range(5)]
        half_way.wait(timeout=60)
        half_way.wait(timeout=60)
        return before + [rotating.post("/x", json={}).status_code for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call) for _ in range(4)]
        half_way.wait(timeout=60)
        service.keys = {NEW}
        half_way.wait(timeout=60)
        assert [status for each in calls for status in each.result(timeout=60)] == [200] * 40
    assert rotating.get("/x").request.headers["X-API-Key"] == NEW


def test_a_thread_that_was_refused_takes_the_key_another_has_found(
    service: RecordingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_API_KEY_NEXT", NEW)
    with APIKeySession(service.url, OLD) as session:

        def rotate_elsewhere() -> Answer:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(session.get, "/x").result(timeout=60).ok
            monkeypatch.delenv("AUTH_API_KEY_NEXT")
            return REFUSED

        service.answers["/slow"] = [rotate_elsewhere, Answer()]
        assert session.get("/slow").ok
    assert service.received_keys == [OLD, OLD, NEW, NEW]
