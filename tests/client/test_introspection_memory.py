"""What a service remembers of the keys that it has asked about, and for how long."""

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import requests

from keys.calling import introspection
from keys.calling.introspection import MOST_REMEMBERED, PATH, Introspection, Memory, Question
from keys.client import APIKeySession
from keys.httpx_client import APIKeyAuth, aintrospect
from tests.docs.pages import PAGES
from tests.support.asking import ACTIVE, NO, TLS, TOKEN, YES, Ask
from tests.support.processes import ROOT
from tests.support.recording_service import KEY, NEW, Answer, RecordingService

pytestmark = pytest.mark.usefixtures("bare_environment")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(introspection, "monotonic", clock)
    return clock


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
def test_no_answer_outlives_the_key(monkeypatch: pytest.MonkeyPatch, exp: object, is_remembered: bool) -> None:
    monkeypatch.setattr(introspection, "time", lambda: 2_000_000_000.0)
    memory, answer = Memory(), question(TOKEN).read(200, json.dumps({**ACTIVE, "exp": exp}).encode())
    assert answer.is_active
    memory.keep(question(TOKEN), answer, 5)
    assert (memory.recall(question(TOKEN), 5) is not None) == is_remembered


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
    with pytest.raises((requests.RequestException, httpx.HTTPError)):
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


def test_so_many_answers_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "MOST_REMEMBERED", 8)
    memory, answer = Memory(), Introspection(ACTIVE)
    for number in range(20):
        memory.keep(question(f"{number}"), answer, 60)
    known = [number for number in range(20) if memory.recall(question(f"{number}"), 60)]
    assert known == [*range(12, 20)]
    assert len(memory._answers) == 8
    # The number without the patch.
    assert f"remembers {MOST_REMEMBERED} answers" in " ".join(PAGES["docs/calling.md"].split())


def test_the_memory_holds_no_token() -> None:
    memory = Memory()
    memory.keep(question(TOKEN), Introspection(ACTIVE), 60)
    assert memory.recall(question(TOKEN), 60) == ACTIVE
    assert TOKEN not in repr(memory._answers)


def test_threads_share_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "MOST_REMEMBERED", 8)
    memory = Memory()

    def use(thread: int) -> bool:
        for number in range(400):
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
        auth, few = APIKeyAuth(service.url, KEY), httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(auth=auth, limits=few, verify=TLS) as client:
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


@pytest.mark.matrix
def test_a_process_that_forks_while_others_ask_goes_on() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=ROOT, timeout=60, check=True)
