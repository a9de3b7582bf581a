"""What a request presents: one key or several, and its address. Only this module trusts proxies.

It also keeps the headers in which keys are presented out of Django's error reports.
"""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter

from . import tokens
from .conf import conf
from .networks import Address, parse_address
from .tokens import Secret

# Whitespace around a header's value (RFC 9110, 5.5); str.strip() alone would also remove line breaks.
BLANKS = " \t"
_NAMES_OF_ADDRESS = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")

_MOST_IN_CONFLICT = 4  # keys of one request that are looked up to tell whose they are

# Names of headers, and of schemes in `Authorization` (RFC 9110, 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Headers that guards read, as `META` names them, whose names do not tell Django that they are to be hidden.
exposed: set[str] = set()


@dataclass(frozen=True, slots=True)
class Credential:
    """What one request presented as its key."""

    token: Secret
    presented: tuple[Secret, ...]
    in_conflict: bool

    @property
    def may_be_a_key(self) -> bool:
        """Whether it can be a key at all; otherwise no look-up is needed."""
        return not self.in_conflict and tokens.is_presentable(self.token)

    @property
    def looks_repeated(self) -> bool:
        """Whether it may be a header sent twice, which servers join with a comma (RFC 9110, 5.3)."""
        return "," in self.token

    @property
    def in_dispute(self) -> list[Secret]:
        """The keys of a conflict, from every header and from one that was sent twice; the first few of many."""
        parts = (part.strip(BLANKS) for token in self.presented for part in token.split(",", _MOST_IN_CONFLICT))
        found = (Secret(part.rpartition(" ")[2]) for part in parts)  # a part may begin with its scheme
        return list(dict.fromkeys(filter(tokens.is_presentable, found)))[:_MOST_IN_CONFLICT]


class Presented(dict[str, Any]):
    """The headers that name the key and the client's address, as `META` held them. Its repr is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<headers of a request>"


@dataclass(frozen=True)
class Wanted:
    """Where a guard looks for a key: in these headers, and in `Authorization` after these keywords, in any case."""

    headers: tuple[str, ...]
    keywords: tuple[str, ...] = ()

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(map(_meta_name, self.headers))

    @cached_property
    def _schemes(self) -> frozenset[str]:
        return frozenset(keyword.lower() for keyword in self.keywords)

    @cached_property
    def _all_names(self) -> tuple[str, ...]:
        authorization = ("HTTP_AUTHORIZATION",) if self.keywords else ()
        return (*self._names, *_NAMES_OF_ADDRESS, *authorization)

    def presented(self, meta: Mapping[str, Any]) -> Presented:
        """Return all that a decision about this request's key and address depends on. `read` accepts it as `meta`."""
        return Presented({name: meta[name] for name in self._all_names if name in meta})

    def is_same_key(self, one: Presented, other: Presented) -> bool:
        """Tell whether both present the same key, or none, from the same address, in whichever of the headers."""
        if one == other:
            return True
        if any(one.get(name) != other.get(name) for name in _NAMES_OF_ADDRESS):
            return False
        first, second = self.read(one), self.read(other)
        if first is None or second is None:
            return first is second
        same = tokens.bare(first.token, conf.PREFIX) == tokens.bare(second.token, conf.PREFIX)
        return same and not (first.in_conflict or second.in_conflict)

    def read(self, meta: Mapping[str, Any]) -> Credential | None:
        """Return what is presented, in whichever place; None if nothing is.

        Two different keys are a conflict; neither is preferred.
        """
        found = [Secret(meta[name].strip(BLANKS)) for name in self._names if name in meta]
        if self._schemes and (authorization := meta.get("HTTP_AUTHORIZATION")) is not None:
            scheme, value = _split(authorization)
            if scheme in self._schemes:
                found.append(Secret(value))
            elif any(_split(part)[0] in self._schemes for part in authorization.split(",")):
                # The header was sent twice, for two schemes. The whole value cannot be a key.
                found.append(Secret(authorization))
        if not found:
            return None
        in_conflict = len({tokens.bare(token, conf.PREFIX) for token in found}) > 1
        return Credential(found[0], tuple(found), in_conflict)


@lru_cache
def _meta_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def is_header(name: object) -> bool:
    """Tell whether a value of any type is the name of a header."""
    return isinstance(name, str) and _TOKEN.fullmatch(name) is not None


def expect(header: str) -> None:
    """Note that keys are presented in this header."""
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
