"""Asking the service about a key that was presented to us: by requests, and by httpx with both of its clients."""

import asyncio
import json
import logging
import pickle
import ssl
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import requests
from django.test import RequestFactory

from keys import httpx_client
from keys.calling import introspection
from keys.calling.introspection import MOST_REMEMBERED, PATH, Introspection, Memory, Question
from keys.client import APIKeySession, KeyRefused
from keys.httpx_client import APIKeyAuth, aintrospect, introspect
from tests.support.processes import ROOT
from tests.support.recording_service import KEY, NEW, OLD, Answer, RecordingService, redirect

pytestmark = pytest.mark.usefixtures("bare_environment")

TOKEN = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"
ACTIVE = {"active": True, "scope": "orders:* users:read", "client_id": "abcdefab", "username": "Billing", "sub": "7"}
YES = Answer(body=json.dumps(ACTIVE).encode())
NO = Answer(body=b'{"active": false}')
TLS = ssl.create_default_context()  # takes longer to make than a question to ask
REFUSALS = (KeyRefused, httpx_client.KeyRefused)
ERRORS = (requests.RequestException, httpx.HTTPError)

Ask = Callable[..., Introspection]


def by_requests(url: str, key: str = KEY, **options: Any) -> Ask:
    return APIKeySession(url, key, **options).introspect


def by_httpx(url: str, key: str = KEY, **options: Any) -> Ask:
    auth = APIKeyAuth(url, key, **options)

    def ask(token: str, **details: Any) -> Introspection:
        with httpx.Client(auth=auth, verify=TLS) as client:
            return introspect(client, token, **details)

    return ask


def by_async_httpx(url: str, key: str = KEY, **options: Any) -> Ask:
    auth = APIKeyAuth(url, key, **options)

    def ask(token: str, **details: Any) -> Introspection:
        async def call() -> Introspection:
            async with httpx.AsyncClient(auth=auth, verify=TLS) as client:
                return await aintrospect(client, token, **details)

        return asyncio.run(call())

    return ask


@pytest.fixture(params=[by_requests, by_httpx, by_async_httpx])
def caller(request: pytest.FixtureRequest) -> Callable[..., Ask]:
    """Makes what asks a service, with a key of its own."""
    made: Callable[..., Ask] = request.param
    return made


@pytest.fixture
def ask(service: RecordingService, caller: Callable[..., Ask]) -> Ask:
    """Asks a service that calls every key active."""
    service.answers[PATH] = [YES]
    return caller(service.url)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(introspection, "monotonic", clock)
    return clock


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


@pytest.mark.parametrize("request_id", ["é", "a\nX-Forwarded-For: 192.0.2.1", "\udcff", " ", ""])
def test_a_request_id_that_no_header_can_carry_is_not_sent(
    service: RecordingService, ask: Ask, request_id: str
) -> None:
    assert ask(TOKEN, request_id=request_id).is_active
    assert not service.received[0].headers["X-Request-ID"]


@pytest.mark.parametrize("token", ["", " ", "é", "key\0", "a&active=true+%", "line\nline", "🔑", TOKEN + "\n"])
def test_whatever_was_sent_as_a_key_is_asked_about(service: RecordingService, ask: Ask, token: str) -> None:
    service.answers[PATH] = [NO]
    assert not ask(token).is_active
    assert fields(service) == {"token": [token]}


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


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "was not understood"),
        (403, "needs the scope keys:introspect"),
        (404, "nothing is there"),
        (429, "asked too often"),
        (500, "answered 500."),
        (503, "cannot be checked there right now"),
        (204, "answered 204."),
        (201, "answered 201."),
        (302, "leads elsewhere"),
    ],
)
def test_any_other_status_is_an_error(service: RecordingService, ask: Ask, status: int, text: str) -> None:
    service.answers[PATH] = [Answer(status, body=b"" if status == 204 else YES.body)]
    with pytest.raises((requests.HTTPError, httpx.HTTPStatusError), match=text) as caught:
        ask(TOKEN, max_age=60)
    error: Any = caught.value
    assert type(error) in (requests.HTTPError, httpx.HTTPStatusError)
    assert error.response.status_code == status
    assert str(error).startswith(f"{service.url}{PATH} answered {status}")
    assert len(service.received) == 1  # a question is not repeated
    service.answers[PATH] = [NO]
    assert not ask(TOKEN, max_age=60).is_active


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


# What is remembered


def test_nothing_is_remembered_unless_a_time_is_named(service: RecordingService, ask: Ask) -> None:
    for max_age in (0, 0, -1, 60, 0, float("nan")):
        assert ask(TOKEN, max_age=max_age).is_active
    assert len(service.received) == 6


def test_an_active_key_is_asked_about_once_in_that_time(service: RecordingService, ask: Ask, clock: Clock) -> None:
    for now, asked in [(1000.0, 1), (1059.9, 1), (1060.0, 2), (1119.9, 2), (1120.0, 3)]:
        clock.now = now
        assert ask(TOKEN, max_age=60) == ACTIVE
        assert len(service.received) == asked


def test_each_call_names_how_old_its_answer_may_be(service: RecordingService, ask: Ask, clock: Clock) -> None:
    ask(TOKEN, max_age=600)
    clock.now += 30
    ask(TOKEN, max_age=60)
    assert len(service.received) == 1
    ask(TOKEN, max_age=30)
    assert len(service.received) == 2


def test_the_time_begins_with_the_question(service: RecordingService, ask: Ask, clock: Clock) -> None:
    """Otherwise a key would go on for longer that is ended while its answer is on the way."""

    def slow() -> Answer:
        clock.now += 40
        return YES

    service.answers[PATH] = [slow]
    ask(TOKEN, max_age=60)
    clock.now += 20
    ask(TOKEN, max_age=60)
    assert len(service.received) == 2


@pytest.mark.parametrize(
    ("exp", "is_remembered"),
    [(2_000_000_010, True), (2_000_000_000, False), (0, False), (10**400, True), ("soon", False), (True, False),
     (float("nan"), False), (float("inf"), True), ([], False), (None, False)],
)  # fmt: skip
def test_no_answer_outlives_the_key(
    service: RecordingService, ask: Ask, monkeypatch: pytest.MonkeyPatch, exp: object, is_remembered: bool
) -> None:
    monkeypatch.setattr(introspection, "time", lambda: 2_000_000_000.0)
    service.answers[PATH] = [Answer(body=json.dumps({**ACTIVE, "exp": exp}).encode())]
    assert ask(TOKEN, max_age=5).is_active
    assert ask(TOKEN, max_age=5).is_active
    assert len(service.received) == (1 if is_remembered else 2)


def test_a_key_is_forgotten_at_its_end(
    service: RecordingService, ask: Ask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "time", lambda: 2_000_000_000.0)
    service.answers[PATH] = [Answer(body=json.dumps({**ACTIVE, "exp": 2_000_000_010}).encode())]
    for now, asked in [(1000.0, 1), (1009.9, 1), (1010.0, 2)]:
        clock.now = now
        ask(TOKEN, max_age=3600)
        assert len(service.received) == asked


def test_a_key_that_is_not_active_is_asked_about_each_time(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [NO, NO, YES]
    assert [ask(TOKEN, max_age=60).is_active for _ in range(4)] == [False, False, True, True]
    assert len(service.received) == 3


def test_what_one_call_learns_of_an_end_all_know(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [YES, NO]
    assert ask(TOKEN, max_age=60).is_active
    assert not ask(TOKEN).is_active
    assert not ask(TOKEN, max_age=60).is_active
    assert len(service.received) == 3


def test_an_error_is_no_answer_and_takes_none_away(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [YES, Answer(503)]
    assert ask(TOKEN, max_age=60).is_active
    with pytest.raises(ERRORS):
        ask(TOKEN)
    assert ask(TOKEN, max_age=60).is_active


def test_another_question_has_another_answer(service: RecordingService, ask: Ask) -> None:
    service.answers[f"{PATH}?other"] = [YES]
    for details in ({}, {"address": "192.0.2.1"}, {"address": "192.0.2.2"}, {"path": f"{PATH}?other"}):
        ask(TOKEN, max_age=60, **details)
    ask(TOKEN[:-1], max_age=60)
    assert len(service.received) == 5
    ask(TOKEN, max_age=60, address="192.0.2.2", request_id="another")
    assert len(service.received) == 5


def test_what_is_done_to_an_answer_is_done_to_that_alone(service: RecordingService, ask: Ask) -> None:
    service.answers[PATH] = [Answer(body=b'{"active": true, "scope": "orders:read", "aud": ["orders"]}')]
    for _ in range(3):
        answer = ask(TOKEN, max_age=60)
        assert (answer["scope"], answer["aud"]) == ("orders:read", ["orders"])
        answer["scope"] = "*"
        answer["aud"].append("everybody")


def test_callers_share_nothing(service: RecordingService, caller: Callable[..., Ask]) -> None:
    service.answers[PATH] = [YES]
    for key in (KEY, NEW, KEY):
        caller(service.url, key)(TOKEN, max_age=60)
    assert service.received_keys == [KEY, NEW, KEY]


def test_a_pickled_session_remembers_nothing(service: RecordingService, session: APIKeySession) -> None:
    service.answers[PATH] = [YES]
    session.introspect(TOKEN, max_age=60)
    pickled = pickle.dumps(session)
    assert TOKEN.encode() not in pickled
    with pickle.loads(pickled) as copy:  # noqa: S301
        assert copy.introspect(TOKEN, max_age=60).is_active
        assert copy.introspect(TOKEN, max_age=60).is_active
    assert len(service.received) == 2


def question(token: str) -> Question:
    return Question("https://auth.example.com", PATH, token, None, None)


def test_so_many_answers_are_remembered_and_no_more() -> None:
    memory, answer = Memory(), Introspection(ACTIVE)
    for number in range(MOST_REMEMBERED + 10):
        memory.keep(question(f"{number}"), answer, 60)
    known = [number for number in range(MOST_REMEMBERED + 10) if memory.recall(question(f"{number}"), 60)]
    assert known == [*range(10, MOST_REMEMBERED + 10)]
    assert len(memory._answers) == MOST_REMEMBERED


def test_the_memory_holds_no_token() -> None:
    memory = Memory()
    memory.keep(question(TOKEN), Introspection(ACTIVE), 60)
    assert memory.recall(question(TOKEN), 60) == ACTIVE
    assert TOKEN not in repr(memory._answers)


def test_threads_share_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "MOST_REMEMBERED", 8)
    memory = Memory()

    def use(thread: int) -> bool:
        for number in range(2000):
            asked, is_active = question(f"{number * thread % 23}"), number % 5 > 0
            known = memory.recall(asked, 60)
            assert known is None or known == ACTIVE
            memory.keep(asked, Introspection(ACTIVE if is_active else {"active": False}), 60)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert len(memory._answers) <= 8


def test_threads_ask_with_one_session(service: RecordingService, session: APIKeySession) -> None:
    service.answers[PATH] = [YES]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(session.introspect, f"{TOKEN}{n % 5}", max_age=60) for n in range(100)]
        assert all(each.result(timeout=60).is_active for each in asked)
    assert 5 <= len(service.received) <= 20


def test_tasks_ask_with_one_client(service: RecordingService) -> None:
    service.answers[PATH] = [YES]

    async def ask() -> list[Introspection]:
        async with httpx.AsyncClient(auth=APIKeyAuth(service.url, KEY)) as client:
            first = await asyncio.gather(*(aintrospect(client, f"{TOKEN}{n}", max_age=60) for n in range(20)))
            return first + await asyncio.gather(*(aintrospect(client, f"{TOKEN}{n}", max_age=60) for n in range(20)))

    assert all(answer.is_active for answer in asyncio.run(ask()))
    assert len(service.received) == 20


FORKING = """
import os, threading
from keys.calling.introspection import Introspection, Memory, Question

memory, answer, done = Memory(), Introspection(active=True), threading.Event()

def use(first):
    number = first
    while not done.is_set():
        number = (number + 1) % 5000
        asked = Question("https://auth.example.com", "/", str(number), None, None)
        memory.recall(asked, 60)
        memory.keep(asked, answer, 60)

threads = [threading.Thread(target=use, args=(first,)) for first in (0, 2500)]
for thread in threads:
    thread.start()
for _ in range(30):
    child = os.fork()
    if not child:
        asked = Question("https://auth.example.com", "/", "child", None, None)
        memory.keep(asked, answer, 60)
        os._exit(0 if memory.recall(asked, 60) else 1)
    assert os.waitpid(child, 0)[1] == 0
done.set()
"""


def test_a_process_that_forks_while_others_ask_goes_on() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=ROOT, timeout=60, check=True)


@pytest.mark.parametrize(("module", "other"), [("keys.client", "httpx"), ("keys.httpx_client", "requests")])
def test_each_library_is_enough(module: str, other: str) -> None:
    code = f"import sys; sys.modules.update({{'django': None, {other!r}: None}}); import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
