"""Where scenes are played: sends what they say, compares the answers, and in the end the audit log."""

import time
from collections import Counter
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

import requests
from django.core.management.base import CommandError

from example_project.demo.calls import TTS_BACKEND, Call, Job, Scene
from example_project.demo.cast import Cast
from example_project.demo.printing import Page, masked
from keys.models import AuditEvent

SECONDS_TO_ANSWER = 60


class Answering(Protocol):
    """A service, or what stands before one."""

    @property
    def url(self) -> str: ...
    def last_words(self) -> str: ...


class Stage:
    """Plays scenes against the services, by name, and counts what was sent, what went wrong and what must be logged."""

    patience = 20.0  # seconds to wait for the audit log

    def __init__(self, cast: Cast, services: Mapping[str, Answering], page: Page) -> None:
        self.cast = cast
        self.services = services
        self.page = page
        self.sent = 0
        self.failed = 0
        self.must_be_logged: Counter[str] = Counter()
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor a .netrc has a say here
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # callers bring their own

    def play(self, scene: Scene) -> None:
        """Play one scene to its end. CommandError if a service gives no answer at all."""
        answer: Any = None
        try:
            while True:
                step = scene.send(answer)
                if isinstance(step, str):
                    self.page.remark(step)
                    continue
                self.sent += 1
                self.must_be_logged.update(step.logged.split())
                if isinstance(step, Job):
                    self._run(step)
                    answer = None
                else:
                    answer = self._call(step)
        except StopIteration:
            pass
        finally:
            scene.close()

    def conclude(self, seconds: float) -> None:
        """Print the audit log that was left, and the result. CommandError if anything was not as expected."""
        is_complete = self.settle()
        events = list(self.cast.events())
        self.page.heading("The audit log of this run", "time, what, key, endpoint, status")
        for event in events:
            self.page.event(event)
        good = self.sent - self.failed
        self.page.write()
        self.page.verdict(not self.failed, f"{good} of {self.sent} requests answered as expected, in {seconds:.1f} s")
        self.page.verdict(
            is_complete, f"{len(events)} rows in the audit log, for {self.must_be_logged.total()} uses and refusals"
        )
        if not is_complete:
            self._say_what_differs()
        if self.failed or not is_complete:
            logs = "\n".join(service.last_words() for service in self.services.values())
            raise CommandError(f"Not everything was as expected.\n{masked(logs)}")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def settle(self) -> bool:
        """Wait until the audit log holds what it must, and each use its outcome; tell whether it came to that.

        Outcomes are written after the answer has gone out, so the last ones may be on their way.
        """
        deadline = time.monotonic() + (0.5 if self.failed else self.patience)  # hopeless then, as a rule
        unfinished = self.cast.events().filter(event=AuditEvent.Event.USED, status=None)
        while self.logged() != self.must_be_logged or unfinished.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def logged(self) -> Counter[str]:
        """Return how many uses this run has left in the audit log, and how many refusals for each reason."""
        counts: Counter[str] = Counter()
        requests_only = self.cast.events().filter(event__in=[AuditEvent.Event.USED, AuditEvent.Event.REFUSED])
        for event, reason, count in requests_only.values_list("event", "reason", "count"):
            counts[reason or event] += count
        return counts

    def _say_what_differs(self) -> None:
        logged = self.logged()
        for what, rows in (("missing", self.must_be_logged - logged), ("not expected", logged - self.must_be_logged)):
            if rows:
                self.page.verdict(False, f"{what}: {', '.join(f'{count} {name}' for name, count in rows.items())}")
        for event in self.cast.events().filter(event=AuditEvent.Event.USED, status=None):
            self.page.verdict(False, f"without an outcome: {event.method} {event.path}")

    def _call(self, call: Call) -> requests.Response:
        method, _, path = call.request.partition(" ")
        service = self.services[call.to]
        headers = {"User-Agent": "demo", "X-Request-ID": f"{self.cast.run}-{self.sent}", **call.caller.headers}
        try:
            answer = self._session.request(
                method,
                service.url + path,
                headers=headers,
                json=call.body,
                timeout=SECONDS_TO_ANSWER,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise CommandError(f"{call.request}: no answer ({error}).\n{masked(service.last_words())}") from error
        objections = call.objections(answer)
        self.failed += bool(objections)
        self.page.call(call, answer, objections)
        return answer

    def _run(self, job: Job) -> None:
        backend: Any = self.services[TTS_BACKEND]
        done = backend.run(*job.command)
        is_good = done.returncode == 0 and done.stdout.strip() == job.says
        objections = [] if is_good else [f"expected 0 {job.says!r}, got {done.returncode} {done.stdout}{done.stderr}"]
        self.failed += not is_good
        self.page.job(job, done.returncode, done.stdout, objections)
