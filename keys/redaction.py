"""Makes a client's text safe to log: escaped, and without the secret. Pure functions, no Django."""

import re
from collections.abc import Collection, Mapping

from . import tokens

MASK = "********"
MOST_PARTS = 8  # a client may send thousands, and each costs a search


def printable(text: str) -> str:
    """Return the text with control and format characters escaped (OWASP ASVS 5.0, 16.4.1)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def redacted(texts: Mapping[str, str], presented: Collection[str], prefix: str) -> dict[str, str]:
    """Return the texts, printable, with each of the presented tokens masked.

    For a header that was sent twice, its parts are masked too. `prefix` is the project's prefix of keys: it is no
    secret, so a token is masked with and without it.
    """
    repeated = [token for token in presented if not token.isalnum()]
    parts = {part for token in repeated for part in re.split(r"[,\s]+", token, maxsplit=MOST_PARTS)}
    whole = {*presented, *(part for part in parts if len(part) >= tokens.PREFIX_LENGTH)}
    secrets = sorted({tokens.bare(token, prefix) for token in whole if token}, key=len, reverse=True)
    found = {}
    for name, text in texts.items():
        for secret in secrets:
            text = text.replace(secret, MASK)
        found[name] = printable(text)
    return found
