"""What a request presents: one key or several, and its address. Only this module trusts proxies.

It also keeps the headers in which keys are presented out of Django's error reports.
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter

from .conf import conf
from .networks import Address, parse_address
from .redaction import MOST_PARTS
from .tokens import Secret, bare, is_presentable, looks_random

# Whitespace around a header's value (RFC 9110, 5.5); str.strip() alone would also remove line breaks.
BLANKS = " \t"
BASIC = "basic"
_NAMES_OF_ADDRESS = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")

_MOST_IN_CONFLICT = 8  # keys of one request that are looked up to tell whose they are

# Names of headers, and of schemes in `Authorization` (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Headers that guards read, as `META` names them, whose names do not tell Django that they are to be hidden: with keys,
# or with the address that a client has asked for, and its query.
exposed: set[str] = set()


@dataclass(slots=True)
class Credential:
    """What one request presented as its key."""

    # Of each place, the token, and the text as it was sent.
    tokens: tuple[Secret, ...]
    presented: tuple[Secret, ...]
    in_conflict: bool
    # What is in the texts that Basic encodes.
    decoded: tuple[Secret, ...] = ()

    @property
    def token(self) -> Secret:
        """The key, unless there is a conflict."""
        return self.tokens[0]

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All that is masked where the client repeats it."""
        return self.presented + self.decoded

    @property
    def may_be_a_key(self) -> bool:
        """Whether it can be a key at all; otherwise no look-up is needed."""
        return not self.in_conflict and is_presentable(self.token)

    @property
    def looks_repeated(self) -> bool:
        """Whether it may be a header sent twice, which servers join with a comma (RFC 9110, 5.3)."""
        return any("," in text for text in self.presented)

    @property
    def in_dispute(self) -> list[Secret]:
        """The keys of a conflict, from every place and from a header that was sent twice; the first few of many."""
        repeated = (text.split(",", _MOST_IN_CONFLICT) for text in self.presented if "," in text)
        # Each may begin with its scheme.
        parts = [part.strip(BLANKS).rpartition(" ")[2] for texts in repeated for part in texts]
        found = (*self.tokens, *parts, *(self.decoded if parts else ()))
        return list(dict.fromkeys(Secret(text) for text in found if is_presentable(text)))[:_MOST_IN_CONFLICT]


class Presented(dict[str, Any]):
    """The headers that name the key and the client's address, as `META` held them. Its repr is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<headers of a request>"


@dataclass(frozen=True)
class Wanted:
    """Where a guard looks for a key: in these headers, and in `Authorization` after these keywords, in any case.

    After the keyword Basic it is the password, whatever the user is (RFC 7617). Two are equal if they read the same.
    """

    headers: tuple[str, ...] = field(compare=False)
    keywords: tuple[str, ...] = field(default=(), compare=False)
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _all_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _schemes: frozenset[str] = field(init=False, repr=False)
    _places: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Name each place once. To servers `X_API_Key` is `X-API-Key`, which is what arrives."""
        headers, keywords = dict[str, str](), dict[str, str]()
        for header in self.headers:
            headers.setdefault(_meta_name(header), header.replace("_", "-"))
        for keyword in self.keywords:
            keywords.setdefault(keyword.lower(), keyword)
        authorization = ("HTTP_AUTHORIZATION",) if keywords else ()
        for name, value in (
            ("headers", tuple(headers.values())),
            ("keywords", tuple(keywords.values())),
            ("_names", tuple(headers)),
            ("_all_names", (*headers, *_NAMES_OF_ADDRESS, *authorization)),
            ("_schemes", frozenset(keywords)),
            ("_places", frozenset(headers)),
        ):
            object.__setattr__(self, name, value)

    def presented(self, meta: Mapping[str, Any]) -> Presented:
        """Return all that a decision about this request's key and address depends on. `read` accepts it as `meta`."""
        return Presented({name: meta[name] for name in self._all_names if name in meta})

    def is_same_key(self, one: Presented, other: Presented) -> bool:
        """Tell whether both present the same key, or none, from the same address, in whichever of the places."""
        if one == other:
            return True
        if any(one.get(name) != other.get(name) for name in _NAMES_OF_ADDRESS):
            return False
        first, second = self.read(one), self.read(other)
        if first is None or second is None:
            return first is second
        same = bare(first.token, conf.PREFIX) == bare(second.token, conf.PREFIX)
        return same and not (first.in_conflict or second.in_conflict)

    def read(self, meta: Mapping[str, Any]) -> Credential | None:
        """Return what is presented, in whichever place; None if nothing is. Raises nothing.

        Two different keys are a conflict; neither is preferred.
        """
        presented = [Secret(meta[name].strip(BLANKS)) for name in self._names if name in meta]
        found, decoded = presented, list[Secret]()
        if self._schemes and (authorization := meta.get("HTTP_AUTHORIZATION")) is not None:
            scheme, value = _split(authorization)
            if scheme in self._schemes:
                found = [*presented, _password(value) if scheme == BASIC else Secret(value)]
                presented = [*presented, Secret(value)]
            elif "," in authorization and any(_split(part)[0] in self._schemes for part in authorization.split(",")):
                # The header was sent twice, for two schemes. The whole value cannot be a key.
                presented = found = [*presented, Secret(authorization)]
            if BASIC in self._schemes and presented:
                decoded = _decoded(authorization)
        if not found:
            return None
        in_conflict = len(found) > 1 and len({bare(token, conf.PREFIX) for token in found}) > 1
        return Credential(tuple(found), tuple(presented), in_conflict, tuple(decoded))


def _password(encoded: str) -> Secret:
    """Return the password of a user and a password, as Basic encodes them.

    What cannot be decoded stands behind a NUL, so that it is no key.
    """
    try:
        _, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        colon = password = ""
    return Secret(password if colon else f"\0{encoded}")


def _decoded(authorization: str) -> list[Secret]:
    """Return what the texts after the word Basic encode: the user with the password, and the password.

    A key that was given as the user is a secret too.
    """
    found = []
    for part in authorization.split(",", maxsplit=MOST_PARTS):
        scheme, value = _split(part)
        if scheme == BASIC:
            with suppress(ValueError):
                both = b64decode(value, validate=True).decode(errors="surrogateescape")
                user, _, password = both.partition(":")
                found += [both, password, *([user] if not password or looks_random(user) else [])]
    return [Secret(text) for text in found if text]


@lru_cache
def _meta_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def is_header(name: object) -> bool:
    """Tell whether a value of any type is the name of a header."""
    return isinstance(name, str) and _TOKEN.fullmatch(name) is not None


def expect(header: str) -> None:
    """Note that this header is to be hidden."""
    if not SafeExceptionReporterFilter.hidden_settings.search(name := _meta_name(header)):
        exposed.add(name)


def hide_from_reports(request: HttpRequest) -> None:
    """Make the error page and the error mail of this request hide the `exposed` headers too."""
    held = get_exception_reporter_filter(request)
    if not getattr(held, "hides_keys", False):
        hiding = copy(held)
        kind: Any = type(held)
        hiding.__class__ = _hiding(kind)
        request.exception_reporter_filter = hiding


@cache
def _hiding(kind: Any) -> Any:
    class HidesKeys(kind):  # type: ignore[misc]
        hides_keys = True

        def get_safe_request_meta(self, request: HttpRequest) -> dict[str, Any]:
            meta = super().get_safe_request_meta(request)
            return {name: self.cleansed_substitute if name in exposed else value for name, value in meta.items()}

    return HidesKeys


def _split(authorization: str) -> tuple[str, str]:
    """Return the scheme, in lower case, and the rest."""
    scheme, _, value = authorization.strip(BLANKS).partition(" ")
    return scheme.lower(), value.strip(BLANKS)


def client_address(meta: Mapping[str, Any]) -> Address | None:
    """Return the client's address, or None if it is unknown.

    With `KEYS["TRUSTED_PROXIES"]` = n it is the n-th entry of `X-Forwarded-For` from the right, which the outermost
    trusted proxy wrote; None with fewer entries than proxies. With 0 no forwarded header is trusted (OWASP ASVS
    5.0, 4.1.3).
    """
    forwarded = meta.get("HTTP_X_FORWARDED_FOR") if conf.TRUSTED_PROXIES > 0 else None
    if forwarded is None:
        return parse_address(meta.get("REMOTE_ADDR") or "")
    entries = forwarded.split(",")
    return parse_address(entries[-conf.TRUSTED_PROXIES]) if len(entries) >= conf.TRUSTED_PROXIES else None
