"""Keys that are made, used on every node, deactivated through one of them, and from then on refused by all."""

import http.client
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Self

from tests.cluster.load import Kind, Load
from tests.cluster.nodes import Form, Node
from tests.cluster.processes import wait_until


class Deactivations:
    """One key after the other, from the beginning of its block to the end of it.

    `done` counts the keys that were refused by every node. That a key is used after it was deactivated is found by
    whoever counts the requests: there those with an ended key must all have been refused.
    """

    def __init__(self, nodes: Sequence[Node], load: Load) -> None:
        self._nodes, self._load = nodes, load
        self.done = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def wait_for_one(self) -> None:
        """Wait until at least one key went all the way."""
        wait_until(lambda: self.done > 0, "a key was deactivated and refused by every node")

    def _run(self) -> None:
        for number in count():
            token = self._order(number % len(self._nodes), "/make/", {"name": "ending", "scope": "users:read"})
            for node in range(len(self._nodes)):
                self._send(Kind.GOOD, token, node, until=200)
            self._order((number + 1) % len(self._nodes), "/end/", {"key": token})
            for node in range(len(self._nodes)):
                self._send(Kind.ENDED, token, node, until=401)
            if self._is_over.is_set():
                return
            self.done += 1

    def _send(self, kind: Kind, token: str, node: int, until: int) -> None:
        """Send requests until one is answered so: meanwhile the node or its stores may be down."""
        while not self._is_over.is_set() and self._load.send(kind, token, node).status != until:
            self._is_over.wait(0.05)

    def _order(self, node: int, path: str, form: Form) -> str:
        """Have a node make or end a key, again and again until it says that it has; return what it says."""
        while not self._is_over.is_set():
            with suppress(OSError, http.client.HTTPException):
                answer = self._nodes[node].post(path, form)
                if answer.status == 200:
                    return answer.body.decode()
            self._is_over.wait(0.05)
        return ""
