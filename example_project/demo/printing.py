"""The page that the demo writes: 100 columns, coloured on a terminal alone."""

import json
import re
from typing import Any, TextIO

import requests
from django.core.management.base import OutputWrapper

from example_project.demo.calls import TTS_BACKEND, Call, Job
from keys.models import AuditEvent
from keys.models.audit_event import GATEWAY

WIDTH = 100
# Keys and JSON Web Tokens, wherever they turn up: what is left of them tells them apart and opens nothing.
SECRET = re.compile(r"([0-9a-f]{8})[0-9a-f]{32}|(eyJ[\w-]{5})[\w-]+\.[\w-]+\.[\w-]+")


class Page:
    """Writes to `out` line by line. `style` is Django's, with colours or without."""

    def __init__(self, out: OutputWrapper | TextIO, style: Any) -> None:
        self.out = out
        self.style = style
        self.encoding = getattr(out, "encoding", None) or "utf-8"
        self.good, self.bad, self.rule = ("✓", "✗", "─") if self._can_write("✓✗─…") else ("+", "!", "-")

    def write(self, line: str = "") -> None:
        text = masked(line) if self.rule == "─" else masked(line).replace("…", "~")
        self.out.write(text.encode(self.encoding, "replace").decode(self.encoding) + "\n")
        self.out.flush()

    def title(self, text: str, note: str = "") -> None:
        self.write(f"{self.style.MIGRATE_LABEL(text)}  {note}")

    def heading(self, text: str, note: str = "") -> None:
        rule = self.rule * (WIDTH - len(text) - len(note) - 2)
        self.write()
        self.write(f"{self.style.MIGRATE_LABEL(text)} {rule} {note}".rstrip())

    def remark(self, text: str) -> None:
        self.write(self.style.MIGRATE_HEADING(f"  {text}"))

    def call(self, call: Call, answer: requests.Response, objections: list[str]) -> None:
        """One request and its answer on a line, and under it what is wrong with it."""
        method, _, path = call.request.partition(" ")
        body = "" if call.body is None or "password" in call.body else json.dumps(call.body, separators=(",", ":"))
        where = "tts " if call.to == TTS_BACKEND else ""
        request = f"{method:<4} {where}{path} {body}"
        self._line(call.caller.label, request, answer.status_code, call.highlights(answer), objections)

    def job(self, job: Job, status: int, output: str, objections: list[str]) -> None:
        """The same for a command."""
        self._line(job.label, f"RUN  {' '.join(job.command)}", status, " ".join(output.split()), objections)

    def event(self, event: AuditEvent) -> None:
        """One row of the audit log on a line."""
        what = f"{event.event}: {event.reason}" if event.reason else event.event
        if event.count > 1:
            what += f" ({event.count})"
        key = _fit(f"{event.key_name} {event.key_prefix}", 27).strip()
        if not event.method:
            note = _fit(event.detail or f"by {event.actor}", 42).rstrip()
            self.write(f"{event.at:%H:%M:%S} {_fit(what, 20)} {_fit(key, 27)} {note}")
            return
        status = "---" if event.status is None else str(event.status)
        duration = "" if event.duration_ms is None else f"{event.duration_ms}ms"
        # At a gateway the path tells more, and has the room that the key leaves.
        path = event.path if event.endpoint.startswith(GATEWAY) else ""
        request = f"{event.method} {event.endpoint}{path}"
        room = min(max(len(request), 31), 58 - len(key))
        columns = f"{event.at:%H:%M:%S} {_fit(what, 20)} {_fit(key, 58 - room)}"
        self.write(f"{columns} {_fit(request, room)} {self._coloured(status, event.status)} {duration:>6}")

    def verdict(self, is_good: bool, text: str) -> None:
        mark, colour = (self.good, self.style.SUCCESS) if is_good else (self.bad, self.style.ERROR)
        self.write(colour(f"{mark} {text}"))

    def _line(self, who: str, request: str, status: int, answer: str, objections: list[str]) -> None:
        mark = self.style.ERROR(self.bad) if objections else self.style.SUCCESS(self.good)
        shown = f"{status:<3}"
        columns = f"{mark} {_fit(who, 21)} {_fit(request, 40)} {self._coloured(shown, status)}"
        self.write(f"{columns} {_fit(answer, 31).rstrip()}")
        for objection in objections:
            self.write(self.style.ERROR(f"    {objection}"))

    def _coloured(self, text: str, status: int | None) -> str:
        if status is None or status >= 500:
            return str(self.style.WARNING(text))
        return str(self.style.HTTP_NOT_FOUND(text) if status >= 400 else self.style.SUCCESS(text))

    def _can_write(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True


def masked(text: str) -> str:
    """Return the text without its secrets."""
    return SECRET.sub(lambda found: f"{found[1] or found[2]}…", text)


def _fit(text: str, width: int) -> str:
    """Return the text, masked, in exactly that many columns."""
    text = masked(text)
    text = text if len(text) <= width else f"{text[: width - 1]}…"
    return f"{text:<{width}}"
