"""Runs a project in a process of its own, and visits it as people and services do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support import runs
from tests.support.processes import ROOT, SECONDS_TO_WAIT

PROJECTS = Path(__file__).resolve().parent


class Project:
    """A project that is running."""

    def __init__(self, process: subprocess.Popen[str], port: str) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    def shell(self, lines: str) -> str:
        """Run lines as `manage.py shell` does, with the names of the lines before, and return what they printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(lines) + "\n")
        self._process.stdin.flush()
        failed, printed = json.loads(self._process.stdout.readline())
        assert not failed, printed
        return str(printed)

    def manage(self, *arguments: str) -> str:
        """Run a command of `manage.py`, and return what it printed."""
        return self.shell(f"from django.core.management import call_command\ncall_command(*{arguments!r})")

    def call(self, method: str, path: str, key: str | None = None, body: Any = None) -> requests.Response:
        """Send a request as a service does, with a key or without."""
        headers = {} if key is None else {"X-API-Key": key}
        return requests.request(method, self.url + path, headers=headers, json=body, timeout=SECONDS_TO_WAIT)

    def log_in(self, username: str) -> "Browser":
        """Return a browser in which the user has logged in at `/login/`. The password is the name."""
        browser = Browser(self.url)
        answer = browser.submit("/login/", username=username, password=username)
        assert not answer.url.endswith("/login/"), answer.text
        return browser


class Browser:
    """A person's browser: it keeps cookies, and sends the CSRF token as a page's script or form does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=SECONDS_TO_WAIT)

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Send JSON as a script of a page does."""
        headers = {"X-CSRFToken": self.session.cookies.get("csrftoken", "")}
        return self.session.request(method, self.url + path, headers=headers, json=body, timeout=SECONDS_TO_WAIT)

    def submit(self, path: str, **fields: Any) -> requests.Response:
        """Fill in the form of a page: what stands in it stays where `fields` say nothing."""
        page = self.get(path)
        (token, *_) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        data = {**fields, "csrfmiddlewaretoken": token}
        return self.session.post(page.url, data=data, timeout=SECONDS_TO_WAIT)


@contextmanager
def project(name: str) -> Iterator[Project]:
    """Run a project until the end of the block; what it wrote is shown where the block fails."""
    runs.begin()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.projects.serve", name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{PROJECTS}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "The project did not start."
        yield Project(process, port)
    finally:
        process.communicate(timeout=SECONDS_TO_WAIT)
    assert process.returncode == 0
