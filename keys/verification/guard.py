"""What guards a view, and what is wrong with a guard."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import Promise

from .. import credentials
from ..credentials import Wanted
from ..keyrings import DatabaseKeyring, Keyring


@dataclass(frozen=True)
class Subject:
    """What the row of a request says of the one that it asks about: texts, by column, instead of its own.

    `contradiction` says why nobody can tell which request that is. Then a good key is refused as several keys are, and
    the row says whose it is.
    """

    texts: Mapping[str, str]
    contradiction: str = ""


@dataclass(frozen=True)
class Guard:
    """What guards a view: the headers with the key, the keyrings that are searched, and the texts of a refusal.

    Equal guards make the same decision of the same key, so it is made once for each request.
    """

    # One name or several; no keyword for none in `Authorization`. After "Basic" the key is the password.
    header: str | Sequence[str] = field(default="X-API-Key", compare=False)
    keyword: str | Sequence[str] | None = field(default="Api-Key", compare=False)
    keyrings: tuple[Keyring, ...] = (DatabaseKeyring(),)
    refused_detail: str = "Invalid API key."
    not_configured_detail: str = "API key not configured"
    # A request without a key gets `refused_detail` too, instead of going on to other authenticators, unless the guard
    # leaves them what it does not know.
    answers_missing: bool = False
    # `request.user` is the owner of the key where that is a user. It decides nothing of the key.
    acts_as_owner: bool = field(default=False, compare=False)
    # A key that no keyring knows is left to the authenticators that follow. If the answer is 401, it was refused.
    leaves_unknown: bool = False
    # Returns which request is asked about, where that is another one: a proxy's, or a service's.
    subject: Callable[[HttpRequest], Subject] | None = None
    # Makes of each refusal what is sent, whoever refuses: the view, or the middleware before it.
    finish: Callable[[HttpRequest, HttpResponseBase, int, str], None] | None = field(default=None, compare=False)
    # Where the key is read, by `header` and `keyword`.
    wanted: Wanted = field(init=False, repr=False)
    # Why the guard cannot work; empty if it can. `check` says so, and each request is answered with an error.
    mistake: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look at the types, as long as no request is near: what raises for a header may show its value."""
        # Tuples for lists, so that guards can be compared and kept in sets.
        lists = {name: getattr(self, name) for name in ("header", "keyword", "keyrings")}
        safe: dict[str, Any] = {name: tuple(held) if isinstance(held, list) else held for name, held in lists.items()}
        if mistake := _mistake_of(self):
            safe = {"mistake": mistake, "header": "X-API-Key", "keyword": None, "keyrings": ()}
        for name, value in safe.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "wanted", Wanted(_names_in(self.header), _names_in(self.keyword)))
        for header in self.wanted.headers:
            credentials.expect(header)

    def for_gateway(
        self,
        subject: Callable[[HttpRequest], Subject] | None,
        finish: Callable[[HttpRequest, HttpResponseBase, int, str], None],
    ) -> "Guard":
        """Return the guard for a view that answers by itself: nobody follows to whom an unknown key could be left."""
        made = copy(self)  # with what was wrong, of which the values tell nothing any more
        for name, value in {"subject": subject, "finish": finish, "leaves_unknown": False}.items():
            object.__setattr__(made, name, value)
        return made

    @property
    def is_configured(self) -> bool:
        """Whether one of the keyrings could hold a key at all."""
        return any(ring.is_configured() for ring in self.keyrings)

    @cached_property
    def vary(self) -> tuple[str, ...]:
        """The request headers on which the answer depends."""
        return (*self.wanted.headers, "Authorization") if self.wanted.keywords else self.wanted.headers

    @cached_property
    def challenge(self) -> str:
        """The header `WWW-Authenticate` of each 401: a list of all that may be sent (RFC 9110, 11.6.1)."""
        return ", ".join(self.challenges)

    @cached_property
    def challenges(self) -> tuple[str, ...]:
        """The challenge of each keyword; some header has to be there where no keyword is read (RFC 9110, 15.5.2)."""
        return tuple(map(_challenge, self.wanted.keywords or ("Api-Key",)))


def _challenge(keyword: str) -> str:
    is_basic = keyword.lower() == credentials.BASIC
    return 'Basic realm="api", charset="UTF-8"' if is_basic else f'{keyword} realm="api"'


def _names_in(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _mistake_of(guard: Guard) -> str:
    """Return which value of the guard is of a wrong type, as a sentence; empty if none is."""
    headers: Any = guard.header if isinstance(guard.header, list | tuple) else [guard.header]
    if not headers or not all(map(credentials.is_header, headers)):
        return f"header = {guard.header!r} is not the name of a header, nor a list of names."
    keywords: Any = guard.keyword if isinstance(guard.keyword, list | tuple) else [guard.keyword]
    if not all(keyword is None or credentials.is_header(keyword) for keyword in keywords) or (
        None in keywords and guard.keyword is not None
    ):
        return f"keyword = {guard.keyword!r} is neither a word, nor a list of words, nor None."
    keyrings: Any = guard.keyrings
    if not isinstance(keyrings, list | tuple):
        return f"keyrings (or variables) = {keyrings!r} is neither a tuple nor a list."
    for ring in keyrings:
        has_methods = callable(getattr(ring, "find", None)) and callable(getattr(ring, "is_configured", None))
        if isinstance(ring, type) or not has_methods or not isinstance(getattr(ring, "variable", ""), str):
            return f"{ring!r} among the keyrings is no keyring."
    for name in ("refused_detail", "not_configured_detail"):
        if not isinstance(text := getattr(guard, name), str | Promise):
            return f"{name} = {text!r} is not a text."
    for name in ("answers_missing", "acts_as_owner", "leaves_unknown"):
        if not isinstance(switch := getattr(guard, name), bool):
            return f"{name} = {switch!r} is no switch."
    for name in ("subject", "finish"):
        if (function := getattr(guard, name)) is not None and not callable(function):
            return f"{name} = {function!r} cannot be called."
    return ""
