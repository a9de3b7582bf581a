"""Clients that send keyed requests to the nodes in turn, and remember what became of each."""

import http.client
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from tests.cluster.nodes import Node
from tests.cluster.processes import PATIENCE, ClusterError

Result = TypeVar("Result")

CLIENTS = 16


class Kind(StrEnum):
    """What a request presents."""

    GOOD = "good key"
    UNSCOPED = "good key without the scope"
    LIMITED = "good key with a rate"
    ENDED = "deactivated key"
    STRANGER = "unknown key"


GOOD_KINDS = (Kind.GOOD, Kind.UNSCOPED, Kind.LIMITED)
# What a client sends, each as often as it stands here.
MIXTURE = [Kind.GOOD, Kind.UNSCOPED, Kind.GOOD, Kind.LIMITED, Kind.GOOD, Kind.ENDED, Kind.GOOD, Kind.STRANGER]


@dataclass(slots=True)
class Request:
    """A request, and its answer when there was one; the times are those of `monotonic`."""

    id: str
    kind: Kind
    node: int
    started: float = field(default_factory=monotonic)
    ended: float = 0.0
    status: int | None = None
    worker: int = 0


class Load:
    """Sends requests from the beginning of its block to the end of it."""

    def __init__(self, nodes: Sequence[Node], tokens: dict[Kind, list[str]]) -> None:
        self.requests: list[Request] = []
        self._nodes, self._tokens = nodes, tokens
        self._in_flight: dict[str, Request] = {}
        self._changed = threading.Condition()
        self._numbers = count()
        self.is_over = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        for turn in count():
            # By chance, lest all clients send the same at the same time.
            kind = random.choice(MIXTURE)
            request = self.send(kind, random.choice(self._tokens[kind]), (number + turn) % len(self._nodes))
            # Without an answer there is nothing that would slow the client down.
            if self.is_over.wait(0.05 if request.status is None else 0):
                return

    def send(self, kind: Kind, token: str, node: int) -> Request:
        """Send a request with a key and return it with its answer."""
        with self._changed:
            request = Request(f"request-{next(self._numbers)}", kind, node)
            self._in_flight[request.id] = request
        headers = {"X-API-Key": token, "X-Request-ID": request.id}
        answer = None
        with suppress(OSError, http.client.HTTPException):
            answer = self._nodes[node].get("/use/", headers)
        with self._changed:
            request.ended = monotonic()
            if answer is not None:
                request.status, request.worker = answer.status, answer.worker
            del self._in_flight[request.id]
            self.requests.append(request)
            self._changed.notify_all()
        return request

    def in_flight(self, node: int | None = None) -> list[Request]:
        """Return the requests, to that node or to any, that have been sent and not answered."""
        with self._changed:
            return [request for request in self._in_flight.values() if node in (None, request.node)]

    def wait_for(self, is_so: Callable[[], Result], what: str) -> Result:
        """Wait until the requests that are sent and answered make something so, and return what it then is."""
        with self._changed:
            if not (result := self._changed.wait_for(is_so, PATIENCE)):
                raise ClusterError(f"In {PATIENCE:.0f} s it did not come to this: {what}.")
            return result

    def wait_for_each(self, nodes: Sequence[int], since: float, is_it: Callable[[Request], bool], what: str) -> None:
        """Wait until each of these nodes was sent a request, after that time, that became what is asked for."""

        def have_all() -> bool:
            left = set(nodes)
            # The latest are at the end, where the search stops at what ended before.
            for request in reversed(self.requests):
                if not left or request.ended < since:
                    break
                if request.started > since and is_it(request):
                    left.discard(request.node)
            return not left

        self.wait_for(have_all, what)

    def worker_of(self, node: int) -> int:
        """Return the process id of the worker that answered last for a node."""
        with self._changed:
            answered = (request for request in reversed(self.requests) if request.node == node and request.worker)
            return next(answered).worker

    def workers_of(self, node: int) -> set[int]:
        """Return the process ids of all workers that ever answered for a node."""
        with self._changed:
            return {request.worker for request in self.requests if request.node == node and request.worker}
