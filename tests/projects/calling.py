"""`python -m tests.projects.calling <port>`: clients that call without a pause, and remember each answer.

Reads a line of JSON from standard input for each thing to do, and answers it with a line. Nothing is sent twice, and
no client waits between an answer and its next request.
"""

import http.client
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from threading import Condition, Thread
from time import monotonic

from tests.support.processes import SECONDS_TO_WAIT


@dataclass(frozen=True)
class Call:
    """A request and its answer; `status` is 0, and `error` says why, where there was none. Times are `monotonic`."""

    id: str
    started: float
    ended: float
    status: int
    error: str = ""


@dataclass
class Client:
    """A client that sends the same request again and again, on one connection or on a new one each time."""

    name: str
    headers: dict[str, str]
    keeps_connection: bool
    calls: list[Call] = field(default_factory=list)
    is_over: bool = False

    def run(self, port: int, has_called: Condition) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_WAIT)
        for number in count():
            if self.is_over:
                break
            call = self._call(connection, f"{self.name}-{number}")
            if not self.keeps_connection or call.error:
                connection.close()
            with has_called:
                self.calls.append(call)
                has_called.notify_all()
        connection.close()

    def _call(self, connection: http.client.HTTPConnection, request_id: str) -> Call:
        started, status, error = monotonic(), 0, ""
        try:
            connection.request("GET", "/call/", headers={**self.headers, "X-Request-ID": request_id})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException) as exception:
            error = repr(exception)
        return Call(request_id, started, monotonic(), status, error)


class Clients:
    """The clients of one service, each in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._has_called = Condition()
        self._clients: dict[str, tuple[Client, Thread]] = {}

    def start(self, name: str, headers: dict[str, str], keeps_connection: bool) -> None:
        client = Client(name, headers, keeps_connection)
        thread = Thread(target=client.run, args=(self._port, self._has_called))
        self._clients[name] = client, thread
        thread.start()

    def stop(self, name: str) -> None:
        client, thread = self._clients[name]
        client.is_over = True
        thread.join()

    def wait(self, calls: int) -> None:
        """Wait until each client that is not over has called so many times more."""
        wanted = {name: len(client.calls) + calls for name, (client, _) in self._clients.items() if not client.is_over}
        with self._has_called:
            self._has_called.wait_for(lambda: all(len(self._clients[name][0].calls) >= wanted[name] for name in wanted))

    def calls(self) -> dict[str, list[dict[str, object]]]:
        return {name: [asdict(call) for call in client.calls] for name, (client, _) in self._clients.items()}

    def end(self) -> None:
        for client, _ in self._clients.values():
            client.is_over = True


def answers(clients: Clients) -> Iterator[object]:
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        yield getattr(clients, what)(*arguments)


def main(port: int) -> None:
    clients = Clients(port)
    try:
        for answer in answers(clients):
            print(json.dumps(answer), flush=True)
    finally:
        clients.end()


if __name__ == "__main__":
    main(int(sys.argv[1]))
