"""What a service is told of a key that was presented to it, and for how long it may remember that (RFC 7662)."""

import json
from collections import OrderedDict
from copy import deepcopy
from hashlib import sha256
from time import monotonic, time
from typing import Any
from urllib.parse import urlencode

from ..scopes import grants
from ..tokens import MAX_PRESENTED_LENGTH, Secret

PATH = "/api/v1/keys/introspect/"
MOST_REMEMBERED = 4096  # answers
FAR_AWAY = 2**40  # seconds after 1970; of any number that JSON can hold, a clock's is made

_MEANINGS = {
    **dict.fromkeys((301, 302, 303, 307, 308), "it leads elsewhere, and a token is not sent on."),
    400: "the question was not understood. Is the address that was handed on an address?",
    403: "this service's key may not ask about others. It needs the scope keys:introspect.",
    404: "nothing is there. Look at the address of the auth service, and at the path.",
    429: "this service's key has asked too often.",
    503: "keys cannot be checked there right now.",
}


class Introspection(dict[str, Any]):
    """The answer: `active` and, of an active key, `scope`, `client_id`, `username`, `sub`, `iat` and `exp`."""

    @property
    def is_active(self) -> bool:
        return self.get("active") is True

    @property
    def scopes(self) -> list[str]:
        scope = self.get("scope")
        return scope.split() if isinstance(scope, str) else []

    def has_scope(self, required: str) -> bool:
        """Tell whether the key is active and holds the scope, by name or by a wildcard."""
        return self.is_active and grants(self.scopes, required)


class Question:
    """One question about a token, whose text is nowhere shown.

    Whatever was sent as a key can be asked about, so that the service has every attempt on its log. Of a text that is
    too long for a key no more is sent than shows that.
    """

    def __init__(self, base_url: str, path: str, token: str, address: str | None, request_id: str | None) -> None:
        self.asked_at = monotonic()
        self.url = f"{base_url.rstrip('/')}/{path.lstrip('/')}"
        fields = {"token": token[: MAX_PRESENTED_LENGTH + 1]} | ({"address": address} if address else {})
        self.form = Secret(urlencode(fields, errors="surrogatepass"))
        self.digest = sha256(f"{self.url}\0{self.form}".encode("utf-8", "surrogatepass")).digest()
        self.headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        # It comes from a stranger, too, and not all that one can send can be sent on.
        if request_id and request_id.isascii() and request_id.isprintable():
            self.headers["X-Request-ID"] = request_id[:MAX_PRESENTED_LENGTH].strip()

    def read(self, status: int, content: bytes) -> Introspection:
        """Return the answer. Raises ValueError, with a text for people, if it is none."""
        if status != 200:
            meaning = f": {_MEANINGS[status]}" if status in _MEANINGS else "."
            raise ValueError(f"{self.url} answered {status}{meaning}")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise ValueError(f"{self.url} answered 200, and not whether a key is active. Look at who answers there.")
        return Introspection(answer)


class Memory:
    """Answers of active keys, by a digest of the question.

    Without a lock, which a fork would leave locked: each step is one call of a dictionary. A copy that goes to another
    process by pickle is empty, as clocks differ.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, tuple[float, float, Introspection]] = OrderedDict()

    def __reduce__(self) -> tuple[type["Memory"], tuple[()]]:
        return Memory, ()

    def recall(self, question: Question, max_age: float) -> Introspection | None:
        """Return what was answered to this question within the last `max_age` seconds; None if nothing was."""
        asked_at, end, answer = self._answers.get(question.digest, (0.0, 0.0, None))
        is_fresh = max_age > 0 and question.asked_at < asked_at + max_age and question.asked_at < end
        return deepcopy(answer) if is_fresh else None

    def keep(self, question: Question, answer: Introspection, max_age: float) -> None:
        """Remember an active key from the moment of the question, until it expires. Forget one that is not active."""
        self._answers.pop(question.digest, None)
        if not answer.is_active or max_age <= 0:
            return
        self._answers[question.digest] = question.asked_at, _end_of(answer), deepcopy(answer)
        while len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)


def _end_of(answer: Introspection) -> float:
    """Return when the key expires, on the clock that nobody sets; the beginning of time if nobody can tell."""
    expires_at = answer.get("exp", FAR_AWAY)
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return 0.0
    return monotonic() + min(expires_at, FAR_AWAY) - time()
