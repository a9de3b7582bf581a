"""What of a client's text may be written down: escaped, and without the secret. Pure functions, no Django."""

import re
from collections.abc import Iterable, Mapping

from . import tokens

MASK = "********"
# Nobody sends a header more often by mistake. Each part costs a search, and a client may send thousands.
MOST_PARTS = 8


def printable(text: str) -> str:
    """Return the text with control and format characters escaped (OWASP ASVS 5.0, 16.4.1)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def redacted(texts: Mapping[str, str], presented: Iterable[str], prefix: str) -> dict[str, str]:
    """Return the texts, printable, with a mask wherever a client has put one of the tokens that it presented.

    A header that was sent twice is masked in its parts, too. `prefix` is what the project puts before its keys: it is
    no secret, so a token is masked with and without it.
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
