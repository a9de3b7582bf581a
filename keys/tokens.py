"""Tokens: how they are made, recognised and digested. Pure functions, no Django.

A token is 160 random bits. A slow hash protects secrets that people choose and others can guess; 2**160 cannot be
searched at any speed. So one round of SHA-256 is enough, and a look-up costs one index probe (OWASP ASVS 5.0, 11.4.1;
NIST SP 800-63B, 5.1.2.2).
"""

import hashlib
import re
import secrets

LENGTH = 40
PREFIX_LENGTH = 8
MAX_PRESENTED_LENGTH = 128

_STANDARD = re.compile(r"[0-9a-fA-F]{40}\Z")
_DIGEST = re.compile(r"(sha256\$[0-9a-f]{64}|sha512\$[0-9a-f]{128})\Z")


class Secret(str):
    """A token in plain text. Its repr, which tracebacks and error reports show, is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def generate() -> str:
    """Return a new token: 40 lower-case hexadecimal characters, 160 bits from the system's generator."""
    return secrets.token_hex(LENGTH // 2)


def is_standard(token: str) -> bool:
    """Tell whether the token has the form that `generate` gives, and so was not typed by hand."""
    return _STANDARD.match(token) is not None


def is_presentable(text: str) -> bool:
    """Tell whether the text can be a token: 1 to 128 printable ASCII characters."""
    return 0 < len(text) <= MAX_PRESENTED_LENGTH and text.isascii() and text.isprintable()


def is_digest(text: str) -> bool:
    """Tell whether the text has the form that `digest` gives."""
    return _DIGEST.match(text) is not None


def bare(token: str, prefix: str) -> str:
    """Return the token without the project's prefix, so that both forms have the same digest."""
    if prefix and token.startswith(prefix) and is_standard(token[len(prefix) :]):
        return token[len(prefix) :]
    return token


def visible_prefix(token: str) -> str:
    """Return the 8 characters that identify a key to people; empty if a person chose it, as they could be all of it."""
    return token[:PREFIX_LENGTH] if is_standard(token) else ""


def digest(token: str) -> str:
    """Return what is stored instead of the token: its SHA-256, tagged with the algorithm.

    A text longer than our tokens gets SHA-512, as other packages use whose keys `keys_import` imports. The length
    alone decides, so there is one digest to look up.
    """
    octets = token.encode("utf-8", "surrogatepass")
    if len(token) <= LENGTH:
        return "sha256$" + hashlib.sha256(octets).hexdigest()
    return "sha512$" + hashlib.sha512(octets).hexdigest()
