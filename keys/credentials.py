"""What a request presents: one key or several, and its address. Only this module trusts proxies."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import tokens
from .conf import conf
from .networks import Address, parse_address
from .tokens import Secret

# Whitespace around a header's value (RFC 9110, 5.5); str.strip() alone would also remove line breaks.
BLANKS = " \t"
_NAMES_OF_ADDRESS = ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")


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


class Presented(dict[str, Any]):
    """The headers that name the key and the client's address, as `META` held them. Its repr is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<headers of a request>"


def presented(meta: Mapping[str, Any], header: str, keyword: str | None = None) -> Presented:
    """Return all that a decision about this request's key and address depends on. `read` accepts it as `meta`."""
    return Presented({name: meta[name] for name in _meta_names(header, keyword) if name in meta})


def is_same_key(one: Presented, other: Presented, header: str, keyword: str | None = None) -> bool:
    """Tell whether both present the same key, or none, from the same address, in whichever of the headers."""
    if one == other:
        return True
    if any(one.get(name) != other.get(name) for name in _NAMES_OF_ADDRESS):
        return False
    first, second = read(one, header, keyword), read(other, header, keyword)
    if first is None or second is None:
        return first is second
    same = tokens.bare(first.token, conf.PREFIX) == tokens.bare(second.token, conf.PREFIX)
    return same and not (first.in_conflict or second.in_conflict)


def read(meta: Mapping[str, Any], header: str, keyword: str | None = None) -> Credential | None:
    """Return what is presented in `header`, or in `Authorization` with `keyword` in any case; None without either.

    Two different keys are a conflict; neither is preferred.
    """
    found = []
    if (value := meta.get(_meta_name(header))) is not None:
        found.append(Secret(value.strip(BLANKS)))
    if keyword is not None and (authorization := meta.get("HTTP_AUTHORIZATION")) is not None:
        scheme, value = _split(authorization)
        if scheme == keyword.lower():
            found.append(Secret(value))
        elif any(_split(part)[0] == keyword.lower() for part in authorization.split(",")):
            # The header was sent twice, for two schemes. The whole value cannot be a key.
            found.append(Secret(authorization))
    if not found:
        return None
    in_conflict = len({tokens.bare(token, conf.PREFIX) for token in found}) > 1
    return Credential(found[0], tuple(found), in_conflict)


@lru_cache
def _meta_name(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


@lru_cache
def _meta_names(header: str, keyword: str | None) -> tuple[str, ...]:
    names = (_meta_name(header), *_NAMES_OF_ADDRESS)
    return names if keyword is None else (*names, "HTTP_AUTHORIZATION")


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
