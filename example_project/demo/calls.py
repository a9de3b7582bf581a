"""What the play is made of: who asks what, and the answer that is expected."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

AUTH_SERVICE = "auth service"
TTS_BACKEND = "TTS backend"
NGINX = "nginx"


@dataclass(frozen=True)
class Caller:
    """Somebody who sends requests: what the page calls them, and the headers that they send."""

    label: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request, and what is expected of it.

    `says` is the part of the answer that matters: a string is its `detail`, a mapping is found in the JSON (or in one
    of the items of a list). `mentions` is found in the text, `headers` in those of the answer. `logged` names, parted
    by blanks, the rows that the request leaves in the audit log: `used`, or the reason of a refusal.
    """

    caller: Caller
    request: str
    status: int
    says: Any = None
    body: Any = None
    mentions: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    logged: str = ""
    to: str = AUTH_SERVICE

    def objections(self, answer: requests.Response) -> list[str]:
        """Return what is wrong with the answer, as lines of text; nothing if it is as expected."""
        found = []
        if answer.status_code != self.status:
            found.append(f"expected {self.status}, got {answer.status_code}")
        if self.says is not None and not is_part_of(self._expected, json_of(answer)):
            found.append(f"expected {json.dumps(self._expected)}, got {answer.text[:300]}")
        if self.mentions not in answer.text:
            found.append(f"expected a mention of {self.mentions}, got {answer.text[:300]}")
        for name, value in self.headers.items():
            if name not in answer.headers:
                found.append(f"expected a header {name}, got none")
            elif value not in answer.headers[name]:
                found.append(f"expected {name}: {value}, got {answer.headers[name]}")
        return found

    def highlights(self, answer: requests.Response) -> str:
        """Return the part of the answer that matters, in one line; all of it if it is not as expected."""
        actual = json_of(answer)
        if isinstance(actual, Mapping) and "detail" in actual:
            return str(actual["detail"])
        if isinstance(self._expected, Mapping) and isinstance(actual, Mapping):
            parts = {name: actual.get(name) for name in self._expected}
            return ", ".join(f"{name} {_words(value)}" for name, value in parts.items())
        if isinstance(self._expected, Mapping) and is_part_of(self._expected, actual):
            return ", ".join(f"{name} {_words(value)}" for name, value in self._expected.items())
        if self.headers:
            return ", ".join(f"{name}: {answer.headers.get(name, 'none')}" for name in self.headers)
        return _words(actual) if actual is not None else answer.reason

    @property
    def _expected(self) -> Any:
        return {"detail": self.says} if isinstance(self.says, str) else self.says


@dataclass(frozen=True)
class Job:
    """A management command of the TTS backend, and what it is expected to write. `logged` is as for a call."""

    label: str
    command: tuple[str, ...]
    says: str
    logged: str = ""


# A scene yields what is to be sent and is handed the answer. A string tells what happens in between.
Scene = Generator[Call | Job | str, requests.Response, None]


def is_part_of(expected: Any, actual: Any) -> bool:
    """Tell whether all that is expected is there; a mapping may have more, a list may not."""
    if isinstance(expected, Mapping) and isinstance(actual, list):
        return any(is_part_of(expected, item) for item in actual)
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            name in actual and is_part_of(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(is_part_of, expected, actual))
    return bool(expected == actual)


def json_of(answer: requests.Response) -> Any:
    """Return the answer's JSON; None if it is none."""
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
