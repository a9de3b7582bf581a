"""The calling side when the service is slow, broken or away."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import requests

from keys.client import APIKeySession
from tests.support.recording_service import KEY, Answer, RecordingService


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between repeats, noted and not waited for."""
    noted: list[float] = []
    monkeypatch.setattr(time, "sleep", noted.append)
    return noted


def test_a_slow_answer_is_a_timeout_and_not_repeated(service: RecordingService) -> None:
    released = threading.Event()

    def late() -> Answer:
        released.wait(timeout=60)
        return Answer()

    service.answers["/slow"] = [late]
    with APIKeySession(service.url, KEY, timeout=(5, 0.05)) as session, pytest.raises(requests.ReadTimeout):
        session.get("/slow")
    with APIKeySession(service.url, KEY) as session, pytest.raises(requests.ReadTimeout):
        session.get("/slow", timeout=0.05)
    released.set()
    service.stop()  # and with it the threads of both requests are done
    assert len(service.received) == 2


def test_there_are_timeouts_by_default() -> None:
    assert APIKeySession("https://auth.example.com", KEY).timeout == (3.05, 10.0)


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_repeats_with_growing_pauses(
    service: RecordingService, session: APIKeySession, pauses: list[float], method: str, status: int
) -> None:
    service.answers["/x"] = [Answer(status), Answer(status), Answer(status), Answer()]
    assert session.request(method, "/x").status_code == 200
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("POST", Answer(503)),
        ("PUT", Answer(502)),
        ("DELETE", Answer(504)),
        ("POST", Answer(503, {"Retry-After": "1"})),
        ("GET", Answer(500)),
        ("GET", Answer(429, {"Retry-After": "1"})),
        ("GET", Answer(503, {"Retry-After": "31"})),
    ],
)
def test_is_not_repeated(
    service: RecordingService, session: APIKeySession, pauses: list[float], method: str, answer: Answer
) -> None:
    service.answers["/x"] = [answer]
    assert session.request(method, "/x").status_code == answer.status
    assert len(service.received) == 1
    assert pauses == []


def test_waits_as_long_as_the_service_asks(
    service: RecordingService, session: APIKeySession, pauses: list[float]
) -> None:
    service.answers["/x"] = [Answer(503, {"Retry-After": "30"}), Answer()]
    assert session.get("/x").ok
    assert pauses == [30]


@pytest.mark.parametrize("value", ["soon", "-5", ""])
def test_a_wish_that_nobody_can_read_is_not_an_error(
    service: RecordingService, session: APIKeySession, pauses: list[float], value: str
) -> None:
    service.answers["/x"] = [Answer(503, {"Retry-After": value}), Answer()]
    assert session.get("/x").ok


def test_returns_the_last_answer_when_repeating_did_not_help(service: RecordingService) -> None:
    service.answers["/x"] = [Answer(502), Answer(503, body=b"down")]
    with APIKeySession(service.url, KEY, retries=1) as session:
        response = session.get("/x")
    assert (response.status_code, response.text, len(service.received)) == (503, "down", 2)


@pytest.mark.parametrize(("method", "attempts"), [("GET", 2), ("POST", 1)])
def test_a_connection_that_breaks_is_repeated_for_a_get_only(
    service: RecordingService, session: APIKeySession, method: str, attempts: int
) -> None:
    service.answers["/x"] = [None, Answer()]
    if method == "GET":
        assert session.get("/x").ok
    else:
        with pytest.raises(requests.ConnectionError):
            session.request(method, "/x")
    assert len(service.received) == attempts


class OnFirstRecord(logging.Handler):
    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act, self.messages = act, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if len(self.messages) == 1:
            self.act()


def test_survives_a_restart_of_the_service(service: RecordingService, session: APIKeySession) -> None:
    assert session.get("/x").ok
    service.stop()
    restarted: list[RecordingService] = []

    def restart() -> None:
        restarted.append(end.enter_context(RecordingService(KEY, port=service.server_port)))

    on_refusal = OnFirstRecord(restart)
    with ExitStack() as end:
        logging.getLogger("urllib3.connectionpool").addHandler(on_refusal)
        end.callback(logging.getLogger("urllib3.connectionpool").removeHandler, on_refusal)
        assert session.get("/x").ok
    assert "Connection refused" in on_refusal.messages[0]
    assert restarted[0].received_keys == [KEY]


def test_a_post_is_not_repeated_when_the_service_is_away(
    service: RecordingService, session: APIKeySession, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    service.stop()
    with pytest.raises(requests.ConnectionError):
        session.post("/x", json={})
    assert "Retrying" not in caplog.text
    assert pauses == []
