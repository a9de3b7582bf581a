"""`python -m example_project.demo.orders [port]`: a service that knows nothing of keys, and not of Django.

It answers who has called it by `X-Key-Name`, which the gateway before it has set. Writes its port to standard output,
and ends when standard input does. Only the standard library is imported.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Orders(BaseHTTPRequestHandler):
    """Has any order that it is asked for, and takes any that it is sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"order": self.path})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(201, {"order": self.path})

    def _answer(self, status: int, found: dict[str, str]) -> None:
        caller = {"for": unquote(self.headers.get("X-Key-Name", "")), "got_a_key": "X-API-Key" in self.headers}
        body = json.dumps({**found, **caller}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def end_with_parent() -> None:
    """Return when the parent is gone, and end this process."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=end_with_parent, daemon=True).start()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with ThreadingHTTPServer(("127.0.0.1", port), Orders) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
