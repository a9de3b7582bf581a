"""Asking the service about a key that was presented to us: what is asked, answered and never shown."""

import logging
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import requests
from django.test import RequestFactory

from keys import httpx_client
from keys.calling.introspection import PATH, Introspection
from keys.client import APIKeySession, KeyRefused
from keys.httpx_client import APIKeyAuth, introspect
from tests.support.asking import ACTIVE, NO, TOKEN, YES, Ask, by_async_httpx, by_httpx
from tests.support.processes import ROOT
from tests.support.recording_service import KEY, NEW, OLD, Answer, RecordingService, redirect

pytestmark = pytest.mark.usefixtures("bare_environment")

REFUSALS = (KeyRefused, httpx_client.KeyRefused)
ERRORS = (requests.RequestException, httpx.HTTPError)


def fields(service: RecordingService) -> dict[str, list[str]]:
    """Return the form that was sent last."""
    return parse_qs(service.received[-1].body.decode("ascii"), keep_blank_values=True, strict_parsing=True)


# What is asked


def test_the_callers_own_key_asks(service: RecordingService, ask: Ask) -> None:
    answer = ask(TOKEN, address="2001:db8::7", request_id="r-7")
    assert (answer, answer.is_active) == (ACTIVE, True)
    (received,) = service.received
    assert (received.method, received.path, received.key) == ("POST", PATH, KEY)
    assert received.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert received.headers["X-Request-ID"] == "r-7"
    assert fields(service) == {"token": [TOKEN], "address": ["2001:db8::7"]}


@pytest.mark.parametrize("address", [None, ""])
def test_an_address_that_nobody_knows_is_not_sent(service: RecordingService, ask: Ask, address: str | None) -> None:
    ask(TOKEN, address=address)
    assert fields(service) == {"token": [TOKEN]}


def test_a_request_id_that_no_header_can_carry_is_not_sent(service: RecordingService, ask: Ask) -> None:
    for request_id in ("é", "a\nX-Forwarded-For: 192.0.2.1", "\udcff", " ", ""):
        assert ask(TOKEN, request_id=request_id).is_active
        assert not service.received[-1].headers["X-Request-ID"]


def test_whatever_was_sent_as_a_key_is_asked_about(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [NO]
    for token in (" ", "é", "key\0", "a&active=true+%", "line\nline", "🔑", TOKEN + "\n"):
        assert not ask(token).is_active
        assert fields(service) == {"token": [token]}


def test_nothing_is_no_key_and_cannot_be_asked_about(service: RecordingService, ask: Ask) -> None:
    assert ask("") == {"active": False}
    assert not service.received


def test_what_is_no_text_is_asked_about(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [NO]
    assert not ask("\udcff").is_active
    assert service.received[0].body == b"token=%ED%B3%BF"


def test_of_what_is_too_long_for_a_key_no_more_is_sent_than_shows_that(service: RecordingService, ask: Ask) -> None:
    ask("x" * 1_000_000)
    assert fields(service) == {"token": ["x" * 129]}


def test_the_question_goes_where_the_service_is(service: RecordingService, caller: Callable[..., Ask]) -> None:
    service.answers["/auth/asked?by=us"] = [YES]
    assert caller(f"{service.url}/auth/")(TOKEN, path="asked?by=us").is_active
    with pytest.raises(ERRORS, match="answered 401"):
        caller(f"{service.url}/auth", "")(TOKEN, path="https://evil.example/")
    assert service.received[-1].path == "/auth/https://evil.example/"


def test_what_a_session_sends_with_every_request_is_in_nobodys_way(service: RecordingService) -> None:
    service.answers[f"{PATH}?page=1"] = [YES]
    with APIKeySession(service.url, KEY) as session:
        session.headers["Content-Type"], session.params = "application/json", {"page": "1"}
        assert session.introspect(TOKEN).is_active
    assert fields(service) == {"token": [TOKEN]}


def test_a_client_for_another_address_asks_the_service_of_its_key(service: RecordingService) -> None:
    service.answers[PATH] = [YES]
    with (
        RecordingService() as stranger,
        httpx.Client(base_url=stranger.url, follow_redirects=True, auth=APIKeyAuth(service.url, KEY)) as client,
    ):
        assert introspect(client, TOKEN).is_active
        assert stranger.received == []
    assert service.received_keys == [KEY]


def test_a_client_without_a_key_asks_nobody() -> None:
    with httpx.Client() as client, pytest.raises(TypeError, match=r"auth=APIKeyAuth\(url, key\)"):
        introspect(client, TOKEN)


def test_a_session_for_a_user_asks_as_the_service(service: RecordingService, session: APIKeySession) -> None:
    service.answers[PATH] = [YES]
    request = RequestFactory().get("/", headers={"Authorization": "Bearer of.a.user"})
    for_user = session.forward_user(request)
    assert for_user.introspect(TOKEN, max_age=60).is_active
    assert session.introspect(TOKEN, max_age=60).is_active
    assert service.received_keys == [KEY]


# What is answered


@pytest.mark.parametrize(
    ("answer", "granted"),
    [
        ({"active": True, "scope": "orders:read users:*"}, {"orders:read", "users:read", "users:*"}),
        ({"active": True, "scope": "*"}, {"orders:read", "users:read", "orders:write", "users:*"}),
        ({"active": True, "scope": ""}, set()),
        ({"active": True}, set()),
        ({"active": True, "scope": ["orders:read"]}, set()),
        ({"active": False, "scope": "*"}, set()),
        ({"active": "true", "scope": "*"}, set()),
        ({}, set()),
    ],
)
def test_which_scopes_it_holds(answer: dict[str, Any], granted: set[str]) -> None:
    asked = {"orders:read", "users:read", "orders:write", "users:*"}
    assert {scope for scope in asked if Introspection(answer).has_scope(scope)} == granted


STATUSES = [
    (400, "was not understood"),
    (403, "needs the scope keys:introspect"),
    (404, "nothing is there"),
    (429, "asked too often"),
    (500, "answered 500."),
    (503, "cannot be checked there right now"),
    (204, "answered 204."),
    (201, "answered 201."),
    (302, "leads elsewhere"),
]


def test_any_other_status_is_an_error(service: RecordingService, ask: Ask) -> None:
    answers = [Answer(status, body=b"" if status == 204 else YES.body) for status, _ in STATUSES]
    service.answers[PATH] = [*answers, NO]
    for status, text in STATUSES:
        with pytest.raises((requests.HTTPError, httpx.HTTPStatusError), match=text) as caught:
            ask(TOKEN, max_age=60)
        error: Any = caught.value
        assert type(error) in (requests.HTTPError, httpx.HTTPStatusError)
        assert error.response.status_code == status
        assert str(error).startswith(f"{service.url}{PATH} answered {status}")
    assert not ask(TOKEN, max_age=60).is_active
    assert len(service.received) == len(STATUSES) + 1  # no question is repeated


NO_ANSWERS = [
    b"", b"{}", b"true", b"null", b'[{"active": true}]', b'"active"', b'{"active": 1}', b'{"active": "true"}',
    b'{"active": null}', b"<html>Log in to the hotel's network: active=true</html>", b'{"active": true', b"\xff",
    b'{"Active": true}', b"[" * 100_000,
]  # fmt: skip


def test_what_is_no_answer_is_an_error(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [*(Answer(body=body) for body in NO_ANSWERS), YES]
    for _ in NO_ANSWERS:
        with pytest.raises((requests.HTTPError, httpx.HTTPStatusError), match="answered 200, and not whether"):
            ask(TOKEN)
    assert ask(TOKEN).is_active


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (301, "{stranger}/"), (302, "{stranger}/"), (303, "{stranger}/"), (307, "{stranger}/"), (308, "{stranger}/"),
        (308, "/elsewhere"), (308, "http://[/"), (308, "caf\xe9"),
    ],
)  # fmt: skip
def test_no_token_follows_a_redirect(service: RecordingService, ask: Ask, status: int, location: str) -> None:
    with RecordingService() as stranger:
        service.answers[PATH] = [redirect(location.format(stranger=stranger.url), status)]
        with pytest.raises(ERRORS):
            ask(TOKEN)
        assert stranger.received == []
    assert [received.path for received in service.received] == [PATH]


def test_the_callers_own_key_is_refused(service: RecordingService, caller: Callable[..., Ask]) -> None:
    with pytest.raises(REFUSALS, match=r"the API key was refused\. Look at BILLING_KEY and BILLING_KEY_NEXT"):
        caller(service.url, OLD, variable="BILLING_KEY")(TOKEN)
    with pytest.raises(REFUSALS, match="no API key was sent"):
        caller(service.url, "")(TOKEN)
    with pytest.raises(REFUSALS, match="both API keys were refused"):
        caller(service.url, OLD, next_key="2" * 40)(TOKEN)


def test_the_callers_next_key_asks(service: RecordingService, caller: Callable[..., Ask]) -> None:
    service.answers[PATH] = [Answer(401), YES]
    ask = caller(service.url, OLD, next_key=NEW)
    assert ask(TOKEN).is_active
    assert ask(TOKEN).is_active
    assert service.received_keys == [OLD, NEW, NEW]
    assert {received.body for received in service.received} == {f"token={TOKEN}".encode()}


def test_a_service_that_is_away_is_an_error_at_once(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [None]
    with pytest.raises((requests.ConnectionError, httpx.TransportError)):
        ask(TOKEN)
    assert len(service.received) == 1
    service.stop()
    with pytest.raises((requests.ConnectionError, httpx.TransportError)):
        ask(TOKEN)


# What is never shown


def test_the_token_is_in_no_text(
    service: RecordingService, caller: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = TOKEN
    texts = []

    def fail(ask: Ask) -> None:
        try:
            ask(token, address="192.0.2.7", max_age=60)
        except ERRORS as error:
            frames = error.__traceback__
            while frames and Path(frames.tb_frame.f_code.co_filename).parent != ROOT / "keys":
                frames = frames.tb_next  # these are the tests' own, which know it
            assert frames
            shown = traceback.TracebackException(type(error), error, frames, capture_locals=True)
            texts.extend([*shown.format(), str(error), repr(error), repr(vars(error))])
        else:
            pytest.fail("It is no error.")

    ask = caller(service.url)
    service.answers[PATH] = [YES]
    ask(token, max_age=60)
    assert ask(token, max_age=60).is_active
    texts += [repr(ask), repr(ask(token)), repr(getattr(ask, "__self__", ask).__dict__)]
    for answer in (Answer(403), Answer(503), Answer(200), redirect("/elsewhere"), Answer(401), None):
        service.answers[PATH] = [answer]
        fail(caller(service.url))
    service.stop()
    fail(caller(service.url))
    assert "answered 503" in "".join(texts)
    assert f"POST {PATH}" in caplog.text or "send_request_body" in caplog.text
    for secret in (TOKEN, KEY):
        assert secret not in "\n".join([*texts, caplog.text])


@pytest.mark.parametrize("caller", [by_httpx, by_async_httpx], indirect=True)
def test_an_error_shows_no_frames_of_httpx(service: RecordingService, ask: Ask) -> None:
    """Those that write hold the body in plain text."""
    service.answers[PATH] = [None]
    with pytest.raises(httpx.TransportError) as caught:
        ask(TOKEN)
    assert caught.traceback[-1].path == ROOT / "keys" / "httpx_client.py"
    assert caught.value.__suppress_context__


@pytest.mark.matrix
@pytest.mark.parametrize(("module", "other"), [("keys.client", "httpx"), ("keys.httpx_client", "requests")])
def test_each_library_is_enough(module: str, other: str) -> None:
    code = f"import sys; sys.modules.update({{'django': None, {other!r}: None}}); import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
