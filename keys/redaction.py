"""What of a client's text may be written down: escaped, and without the secret. Pure functions, no Django."""

import re
from collections.abc import Iterable

from . import tokens

MASK = "********"
# Nobody sends a header more often by mistake. Each part costs a search, and a client may send thousands.
MOST_PARTS = 8


def printable(text: str) -> str:
    """Return the text with control and format characters escaped (OWASP ASVS 5.0, 16.4.1)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def secrets_of(presented: Iterable[str], prefix: str) -> list[str]:
    """Return what must not show, the longest first: every token, and the parts of a header that was sent twice.

    `prefix` is what the project puts before its keys. It is no secret, so a token is masked with and without it.
    """
    parts = {part for token in presented for part in re.split(r"[,\s]+", token, maxsplit=MOST_PARTS)}
    whole = {*presented, *(part for part in parts if len(part) >= tokens.PREFIX_LENGTH)}
    return sorted({tokens.bare(token, prefix) for token in whole if token}, key=len, reverse=True)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text, printable, with a mask in the place of each secret."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return printable(text)
