"""A real HTTP service on a thread, for the tests of the clients. It knows some keys, and records its requests."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

# The key of today, and that of before with the one that replaces it.
KEY = "0123456789abcdef0123456789abcdef01234567"
OLD = "0000000000000000000000000000000000000000"
NEW = "1111111111111111111111111111111111111111"


@dataclass
class Received:
    method: str
    path: str
    headers: Message
    body: bytes
    client_port: int

    @property
    def key(self) -> str | None:
        """The key, from either of the two headers."""
        scheme, _, key = (self.headers["Authorization"] or "").partition(" ")
        return self.headers["X-API-Key"] or (key if scheme == "Api-Key" else None)


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status, {"Location": location})


REFUSED = Answer(401, {"WWW-Authenticate": 'Api-Key realm="api"'}, b'{"detail": "Invalid API key."}')


class RecordingService(ThreadingHTTPServer):
    """Answers 200 to one of the keys in `keys`, else 401. A path in `answers` has its own; the last one is repeated.

    An answer may be a callable, called in the server's thread. None closes the connection without an answer.
    """

    daemon_threads = False  # so that server_close waits for the threads of the connections

    def __init__(self, *keys: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.keys = set(keys)
        self.answers: dict[str, list[Answer | Callable[[], Answer] | None]] = {}
        self.received: list[Received] = []
        self._connections: set[socket.socket] = set()
        self._kept_port = socket.socket()
        self._has_stopped = False
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def received_keys(self) -> list[str | None]:
        return [received.key for received in self.received]

    def answer(self, received: Received) -> Answer | None:
        self.received.append(received)
        answers = self.answers.get(received.path)
        if not answers:
            return Answer() if received.key in self.keys else REFUSED
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        return answer() if callable(answer) else answer

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def __exit__(self, *args: object) -> None:
        self.stop()
        self._kept_port.close()

    def __enter__(self) -> Self:
        return self

    def stop(self) -> None:
        """Stop like a killed process: open connections end too. The port stays reserved until the block ends."""
        if self._has_stopped:
            return
        self._has_stopped = True
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with suppress(OSError):  # its own thread has closed it
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        # A bound socket that does not listen refuses connections, but lets a new service use the port.
        self._kept_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept_port.bind(self.server_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingService

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has hung up
            self.close_connection = True

    def respond(self) -> None:
        received = Received(self.command, self.path, self.headers, self.read_body(), self.client_address[1])
        answer = self.server.answer(received)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond  # noqa: N815

    def read_body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: `received` is the log."""
