"""Tokens: how they are made, recognised and digested. Pure functions, no Django.

A token is 160 random bits. A slow hash protects secrets that people choose and others can guess; 2**160 cannot be
searched at any speed. So one round of SHA-256 is enough, and a look-up costs one index probe (OWASP ASVS 5.0, 11.4.1;
NIST SP 800-63B, 5.1.2.2).
"""

import hashlib
import re
import secrets
from math import log2

LENGTH = 40
PREFIX_LENGTH = 8
LONGEST_TAG = 12  # such as `sk_live_`, which all keys of another system begin with
LONGEST_VISIBLE = LONGEST_TAG + PREFIX_LENGTH
MAX_PRESENTED_LENGTH = 128
SPARED_BITS = 80  # how much of a foreign key stays secret when its beginning is shown

_STANDARD = re.compile(r"[0-9a-fA-F]{40}\Z")
_TAG = re.compile(r"(?:[a-z][a-z0-9]*_)+")
_LETTER_BESIDE_DIGIT = re.compile(r"(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z])(?=[0-9])")
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
    """Return the beginning that identifies a key to people: 8 characters, after a tag such as `sk_live_`.

    Empty if the rest would be too easy to guess: too short, or chosen by a person, whom no rule can tell for certain.
    """
    if is_standard(token):
        return token[:PREFIX_LENGTH]
    tag = _TAG.match(token)
    length = tag.end() if tag is not None and tag.end() <= LONGEST_TAG else 0
    shown = token[: length + PREFIX_LENGTH]
    return shown if looks_random(token[len(shown) :]) else ""


def looks_random(text: str) -> bool:
    """Tell whether the text looks as if a machine drew it, and is long enough to be a secret of `SPARED_BITS`.

    Letters and digits are mixed, as no words are with a year behind them.
    """
    drawn = [character for character in text if character.isalnum()]
    sets = (("0123456789abcdef", 16), ("0123456789ABCDEF", 16))
    size = next((size for held, size in sets if not {*drawn} - {*held}), None)
    if size is None:
        size = 62 if text != text.lower() and text != text.upper() else 36
    is_mixed = len(_LETTER_BESIDE_DIGIT.findall(text)) >= 4 and len({*drawn}) >= 8
    return is_mixed and len(drawn) * log2(size) >= SPARED_BITS


def digest(token: str) -> str:
    """Return what is stored instead of the token: its SHA-256, tagged with the algorithm."""
    return "sha256$" + hashlib.sha256(_octets(token)).hexdigest()


def digests(token: str) -> tuple[str, str]:
    """Return each digest by which a token may be stored: ours, and the SHA-512 that other systems keep."""
    return digest(token), "sha512$" + hashlib.sha512(_octets(token)).hexdigest()


def _octets(token: str) -> bytes:
    return token.encode("utf-8", "surrogatepass")
