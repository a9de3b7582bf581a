"""A proxy before a database server that can lose a reply: the server has done it, and nobody hears of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connection

from tests.support.processes import SECONDS_TO_WAIT


class LossyProxy:
    """Passes on what clients and the server say, until it is told which reply to lose."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._told: bytes | None = None
        self.lost = 0  # replies so far
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_reply_to(self, text: bytes) -> None:
        """Lose the reply to the next message that holds the text, and the connection with it."""
        self._told = text

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server, SECONDS_TO_WAIT) as server, suppress(OSError):
            server.settimeout(None)
            is_to_be_lost = threading.Event()
            threading.Thread(target=self._answer, args=(client, server, is_to_be_lost), daemon=True).start()
            while said := client.recv(65_536):
                if self._told is not None and self._told in said:
                    self._told = None
                    is_to_be_lost.set()
                server.sendall(said)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, client: socket.socket, server: socket.socket, is_to_be_lost: threading.Event) -> None:
        # The server answers when it is done: PostgreSQL says all in one piece, and MariaDB.
        with suppress(OSError):
            while said := server.recv(65_536):
                if is_to_be_lost.is_set():
                    self.lost += 1
                    break
                client.sendall(said)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def lossy_proxy() -> Iterator[LossyProxy]:
    """Lead the tests' connections through a proxy until the end of the block. The test must be a transactional one."""
    before: dict[str, Any] = connection.settings_dict
    proxy = LossyProxy((before["HOST"], int(before["PORT"])))
    options = {**before["OPTIONS"], **({"sslmode": "disable"} if connection.vendor == "postgresql" else {})}
    connection.close()
    connection.settings_dict = {**before, "HOST": proxy.address[0], "PORT": proxy.address[1], "OPTIONS": options}
    try:
        yield proxy
    finally:
        connection.close()
        connection.settings_dict = before
        proxy.close()
