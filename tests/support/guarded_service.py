"""A service behind a gateway, on a thread: it knows nothing of keys, and keeps what it gets.

`/orders/status/<status>` has that status, and headers as a guard's. `/orders/held` is answered, and the second half of
`/orders/stream` sent, when `released` is set. What asks for an upgrade gets an echo.
"""

import asyncio
import base64
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.support.processes import SECONDS_TO_WAIT

BODY = b'{"orders": []}'
OWN_BODY = b"the service's own"
OWN_HEADERS = {"WWW-Authenticate": "Bearer", "Retry-After": "7", "Cache-Control": "max-age=60"}


@dataclass(frozen=True)
class Received:
    """A request as it came, with the digest of its body. `headers` are in the order in which they came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body_length: int
    body_digest: str

    def values(self, name: str) -> list[str]:
        return [value for held, value in self.headers if held.lower() == name.lower()]

    @property
    def request_id(self) -> str:
        return self.values("X-Request-ID")[0]


class GuardedService:
    """Keeps all requests in `received`, in any order."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self.received: list[Received] = []
        self.released = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._converse, sock=self._listener, limit=2**20)  # bytes of a head
        )
        self._loop.run_forever()
        server.close()
        conversations = asyncio.all_tasks(self._loop)
        for conversation in conversations:
            conversation.cancel()
        self._loop.run_until_complete(asyncio.gather(*conversations, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        self.released.set()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self._read(reader)
                self.received.append(request)
                if request.values("Upgrade"):
                    await _echo(request, reader, writer)
                    break
                await self._answer(request, writer)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, path, _ = start.split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        # nginx says the length of each body that it has read.
        left = length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        digest = hashlib.sha256()
        while left:
            part = await reader.readexactly(min(left, 65_536))
            digest.update(part)
            left -= len(part)
        return Received(method, path, tuple(headers), length, digest.hexdigest())

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> None:
        match request.path.partition("?")[0].split("/")[2:]:
            case ["status", status]:
                writer.write(_answer(int(status), OWN_BODY, OWN_HEADERS))
            case ["held"]:
                await self._until_released()
                writer.write(_answer(200, BODY))
            case ["stream"]:
                # As a service tells nginx to hand on what comes.
                writer.write(_head(200, {"Transfer-Encoding": "chunked", "X-Accel-Buffering": "no"}))
                writer.write(b"6\r\nfirst\n\r\n")
                await writer.drain()
                await self._until_released()
                writer.write(b"7\r\nsecond\n\r\n0\r\n\r\n")
            case _:
                writer.write(_answer(200, BODY) if request.method != "HEAD" else _answer(200, BODY)[: -len(BODY)])
        await writer.drain()

    async def _until_released(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.released.wait, SECONDS_TO_WAIT)


async def _echo(request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # HAProxy looks at it (RFC 6455, 1.3).
    key = "".join(request.values("Sec-WebSocket-Key")) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()
    writer.write(_head(101, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accepted}))
    while said := await reader.read(65_536):
        writer.write(said)
        await writer.drain()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    return _head(status, {"Content-Length": str(len(body)), **(headers or {})}) + body


@contextmanager
def guarded_service() -> Iterator[GuardedService]:
    """Run a service until the end of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        service = GuardedService(listener)
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            yield service
        finally:
            service.stop()
            thread.join()
