"""Reads what another system's table holds of a secret: the secret itself, or a digest of it in some spelling."""

from __future__ import annotations

import base64
import re
from string import hexdigits
from typing import Any, NamedTuple
from uuid import UUID

from .. import tokens
from ..models import fields
from ..models.fields import Digest
from .values import ObstacleError

PLAIN, SHA_256, SHA_512 = "plain", "sha256", "sha512"
KINDS = (PLAIN, SHA_256, SHA_512)
SIZES = {SHA_256: 32, SHA_512: 64}  # octets

# The algorithms whose names may be said: any other text before a `$` may be a part of a secret.
_ALGORITHM = (
    r"(?:pbkdf2|argon2|bcrypt|scrypt|unsalted|hmac)(?:[_-](?:sha-?1|sha-?256|sha-?512|md5|default))?|argon2(?:id?|d)"
    r"|sha-?1|ssha(?:256|512)?|sha-?(?:2-)?(?:224|256|384|512)|sha3-?(?:224|256|384|512)|md5|md5-?crypt|blake2[bs]|blake3"
)
_TAGGED = re.compile(rf"(?:\{{({_ALGORITHM})\}}|({_ALGORITHM})(?:\$\$|[$:=]|(?<=\d)-))(?=.)", re.IGNORECASE | re.DOTALL)
_CRYPT = re.compile(r"\$(2[abxy]?|argon2(?:id?|d)|[1567y]|scrypt|pbkdf2[a-z0-9-]*|s0|sha1)\$")
CRYPTS = {
    "2": "bcrypt",
    "2a": "bcrypt",
    "2b": "bcrypt",
    "2x": "bcrypt",
    "2y": "bcrypt",
    "1": "md5-crypt",
    "5": "sha256-crypt",
    "6": "sha512-crypt",
    "7": "scrypt",
    "y": "yescrypt",
    "s0": "scrypt",
}
NAMES = {SHA_256: "SHA-256", SHA_512: "SHA-512"}
LOOKED_UP = ": no key can be looked up by that"
_URL_SAFE = str.maketrans("+/", "-_")
_BETWEEN = re.compile(r"[^\w.-]+")
_PART = re.compile(r"[A-Za-z0-9_.-]{3,}")
_BASE64 = re.compile(r"[A-Za-z0-9_-]+={0,2}\Z")
# Digests by their number of octets, where it is not the one that was named.
_AS_LONG_AS = {16: "MD5", 20: "SHA-1", 28: "SHA-224", 32: "SHA-256", 48: "SHA-384", 64: "SHA-512"}
_NAMED_AS_DIGEST = re.compile(r"hash|digest|sha_?(256|512)", re.IGNORECASE)
SHORTEST_PART = 12  # characters of a secret that say too much of it
SHORTEST_SECRET = 6  # below it a word may hold it by chance


class Stored(NamedTuple):
    """What is read of a secret: by which digests it may be here, the first for a new key, and what people see of it.

    `text` is what the table holds, a secret if it is plain.
    """

    digests: tuple[Digest, ...]
    prefix: str
    typed_by_hand: bool
    text: str
    is_plain: bool

    def is_in(self, text: str) -> bool:
        """Tell whether the text is, or holds, the secret or what should not be seen of it."""
        text = text.strip()
        if not self.is_plain:
            # The secret is not known here, but whether a word is it.
            parts = {text, *text.split(), *_BETWEEN.split(text)}
            return any(self.digests[0] in fields.digests(part) for part in parts if part)
        is_whole = text == self.text or (len(self.text) >= SHORTEST_SECRET and self.text in text)
        return is_whole or share_a_part(text, self.text, self.prefix)


def share_a_part(text: str, secret: str, shown: str = "") -> bool:
    """Tell whether the text holds so much of the secret that nobody should see it; `shown` may be seen."""
    if text == secret:
        return True
    parts = {text[end - SHORTEST_PART : end] for end in range(SHORTEST_PART, len(text) + 1)}
    return any(part in secret and part not in shown for part in parts)


def may_be_secret(text: str) -> bool:
    """Tell whether a word of the text looks as if a machine drew it to be a secret."""
    return any(tokens.is_standard(word) or tokens.looks_random(word) for word in text.split())


def read(value: Any, kind: str, field: str) -> Stored:
    """Return what a field holds of a secret: of a `kind` of KINDS. Raises ObstacleError."""
    return _plain(value, field) if kind == PLAIN else _digest(value, kind, field)


def as_text(value: Any) -> str:
    """Return the text of a field that may be a secret, without blanks around it; empty if it has none."""
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            return ""
    return str(value).strip() if isinstance(value, str | UUID) else ""


def kept_prefix(text: str, stored: Stored) -> str:
    """Return the beginning that the other system showed, cut; ours where that is empty or says too much."""
    bare = "".join(character for character in text if character.isascii() and character.isprintable()).strip()
    shown = bare[: tokens.LONGEST_VISIBLE].strip()
    if not shown or (stored.is_plain and stored.text in bare):
        return stored.prefix
    if not stored.is_plain:
        return "" if stored.is_in(bare) or stored.is_in(shown) else shown
    rest = stored.text
    for part in _PART.findall(shown):
        rest = rest.replace(part, "")
    return shown if rest == stored.text or tokens.looks_random(rest) else stored.prefix


def _plain(value: Any, field: str) -> Stored:
    text = as_text(value)
    if not text:
        raise ObstacleError(f"{field} is empty" if _is_blank(value) else f"{field} holds no text")
    if name := _algorithm(text):
        raise ObstacleError(f"{field} is {name}, and no key: as one, whoever reads the table could use it")
    if _NAMED_AS_DIGEST.search(field) and len(text) in {64, 128} and not {*text} - {*hexdigits}:
        raise ObstacleError(f"{field} is called a digest and is as long as one: say which by --digest")
    if len(text) > tokens.MAX_PRESENTED_LENGTH:
        raise ObstacleError(f"{field} is longer than {tokens.MAX_PRESENTED_LENGTH} characters")
    if not tokens.is_presentable(text):
        raise ObstacleError(f"{field} holds characters that no header can carry")
    told = fields.told_by(text)
    digests = tuple(map(Digest, fields.digests(text)))
    return Stored(digests, told["prefix"], told["typed_by_hand"], text, is_plain=True)


def _digest(value: Any, kind: str, field: str) -> Stored:
    octets = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
    if len(octets) != SIZES[kind]:
        octets = _octets("".join(as_text(value).split()), value, kind, field)
    digest = Digest(f"{kind}${octets.hex()}")
    return Stored((digest,), "", typed_by_hand=False, text=as_text(value), is_plain=False)


def _octets(text: str, value: Any, kind: str, field: str) -> bytes:
    """Return the octets of a digest that is a text. Raises ObstacleError."""
    if not text:
        raise ObstacleError(f"{field} is empty" if _is_blank(value) else f"{field} holds no {NAMES[kind]} digest")
    if found := _CRYPT.match(text):
        raise ObstacleError(f"hashed with {CRYPTS.get(found[1], found[1])}{LOOKED_UP}")
    if found := _TAGGED.match(text):
        name, text = _name(found), text[found.end() :]
        if name != kind:
            raise ObstacleError(f"hashed with {name}" + (f", and not with {kind}" if name in SIZES else LOOKED_UP))
        if "$" in text:
            raise ObstacleError(f"hashed with {name} and a salt{LOOKED_UP}")
    text = text.removeprefix("\\x").removeprefix("0x")
    if text and not {*text} - {*hexdigits} and len(text) % 2 == 0 and len(text) // 2 in _AS_LONG_AS:
        return _of_size(bytes.fromhex(text), kind, field)
    text = text.translate(_URL_SAFE)
    if _BASE64.match(text):
        bare = text.rstrip("=")
        try:
            return _of_size(base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4)), kind, field)
        except ValueError:
            pass
    raise ObstacleError(f"{field} holds no {NAMES[kind]} digest")


def _of_size(octets: bytes, kind: str, field: str) -> bytes:
    if len(octets) == SIZES[kind]:
        return octets
    other = _AS_LONG_AS.get(len(octets))
    raise ObstacleError(
        f"{field} holds no {NAMES[kind]} digest" + (f": it is as long as one of {other}" if other else "")
    )


def _algorithm(text: str) -> str:
    """Return what a text is that some hasher made; empty if it may be a key."""
    if found := _CRYPT.match(text):
        return f"a hash of {CRYPTS.get(found[1], found[1])}"
    if found := _TAGGED.match(text):
        return f"a hash of {_name(found)}"
    return ""


def _name(found: re.Match[str]) -> str:
    """Return the name of the algorithm as it is commonly written, and that of the two kinds as KINDS has it."""
    name = (found[1] or found[2]).lower()
    return re.sub(r"^sha-?(?:2-)?(\d)", r"sha\1", name)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == b""
