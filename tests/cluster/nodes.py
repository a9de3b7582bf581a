"""The processes that run the app: nodes of gunicorn, each with workers and threads of its own."""

import http.client
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from tests.cluster.processes import Process, free_port
from tests.support.processes import ROOT

GUNICORN = ["-m", "gunicorn", "example_project.wsgi:application", "--worker-class", "gthread", "--preload"]
GUNICORN += ["--workers", "2", "--threads", "3", "--timeout", "120", "--no-control-socket", "--log-level", "warning"]
# The header in which a worker names itself.
WORKER = "X-Worker"
# Longer than anything behind a node may take until it gives up.
SECONDS_TO_ANSWER = 60


Form = Mapping[str, str | list[str]]


class Answer(NamedTuple):
    """An answer, and the process id of the worker that gave it, 0 where it did not say."""

    status: int
    worker: int
    body: bytes


class Node(Process):
    """One gunicorn."""

    def __init__(self, number: int, folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        command = [sys.executable, *GUNICORN, "--bind", f"127.0.0.1:{self.port}"]
        super().__init__(f"node{number}", command, folder, environment, cwd=ROOT)

    def is_ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.get("/ready/").status == 200
        return False

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and return its answer. Raises OSError or HTTPException where there is no whole one."""
        return self._request("GET", path, None, headers or {})

    def post(self, path: str, form: Form) -> Answer:
        """Send a form and return the answer. Raises OSError or HTTPException where there is no whole one."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._request("POST", path, urlencode(form, doseq=True), headers)

    def _request(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_TO_ANSWER)) as connection:
            connection.request(method, path, body, {"Connection": "close", **headers})
            response = connection.getresponse()
            return Answer(response.status, int(response.headers.get(WORKER, 0)), response.read())
