"""Every view runs in a transaction (`ATOMIC_REQUESTS`), and some guards cannot be seen before it."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import DATABASES

DATABASES["default"]["ATOMIC_REQUESTS"] = True
ROOT_URLCONF = "tests.worlds.inner_urls"
EXPECTED_CHECKS = {"keys.W002", "keys.W019"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "setup runs once", sets_up_once
    for path in ("/by-property/", "/in-a-partial/"):
        yield f"killed in {path}", partial(killed, path, [])
    for path in ("/sets-up/", "/calls-another/"):
        yield f"killed in {path} once it is known", partial(killed, path, [("used", "", 200)])
    yield "a request within", sends_a_request


def sets_up_once() -> None:
    """`setup()` runs as often as Django calls it."""
    from tests.worlds.inner_views import SetsUp

    assert get("/sets-up/") == 200
    assert SetsUp.calls == 1


def killed(path: str, earlier: list[tuple[str, str, int]]) -> None:
    """A worker that is killed in the view leaves its row, at the latest on the second request."""
    from tests.worlds.requests import rows

    before = rows()
    for _ in earlier:
        assert get(path) == 200
    child = fork_and_get(f"{path}?die=1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert rows()[len(before) :] == [*earlier, ("used", "", None)], rows()[len(before) :]


def sends_a_request() -> None:
    """A request that the view builds has a row of its own, with its outcome."""
    from tests.worlds.requests import rows

    before = rows()
    assert get(f"/sends-a-request/?key={token()}") == 200
    assert get(f"/sends-a-request/?key={'0' * 40}") == 401
    assert rows()[len(before) :] == [("used", "", 200), ("refused", "unknown", 401)], rows()[len(before) :]


def fork_and_get(path: str) -> int:
    """Make a request in a child process, and return its id."""
    from django.db import connections

    key = token()
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            get(path, key)
        finally:
            os._exit(1)
    return child


def get(path: str, key: str = "") -> int:
    from django.test import Client

    headers = {"X-API-Key": key or token()}
    return int(Client(raise_request_exception=False, headers=headers).get(path).status_code)


def token() -> str:
    from keys.models import APIKey

    return str(APIKey.objects.create(name="good", scopes=["orders:read"]).key)
