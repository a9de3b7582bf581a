"""Makes a client's text safe to log: escaped, and without the secret. Pure functions, no Django."""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote

from . import tokens

MASK = "********"
MOST_PARTS = 8  # a client may send thousands, and each costs a search
MOST_SOUGHT = 100_000  # parts of one text that are compared with a key, in about a tenth of a second
LONGEST_KEPT = 100  # characters of a text whose parts are remembered, for the next key
_MOST_LAYERS = 8  # of percent-encoding around a key
SHORTEST_SOUGHT = 6  # characters; a shorter part is a key by chance


# What a reader of the log does not see, or is misled by. The list is our own, because what `str.isprintable()` says
# depends on the release of Python, and SQL knows no such function: a name must stand in every row in one form.
ESCAPED: Sequence[tuple[int, int]] = (
    (0x00, 0x1F), (0x7F, 0x9F),  # control characters
    (0x2028, 0x2029),  # separators of lines and paragraphs
    (0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E),  # what turns the direction of writing; 2066 to 2069 below
    # What shows nothing: Unicode's default ignorable code points. The joiners (200C and 200D) and the variation
    # selectors are left out, which ordinary words and emoji are written with.
    (0xAD, 0xAD), (0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180E, 0x180E), (0x200B, 0x200B),
    (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A), (0xE0000, 0xE00FF), (0xE01F0, 0xE0FFF),
    (0xFFF9, 0xFFFB),  # annotations between the lines
    (0xD800, 0xDFFF),  # halves of characters
    (0xFDD0, 0xFDEF), *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),  # no characters
)  # fmt: skip

_ESCAPED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ESCAPED) + "]")
_WORD = re.compile("[!-~]+")
_LINE = re.compile("[ -~]+")
# Where no token begins or ends: between letters and digits, and within a line such as `-----`.
_NO_EDGE = re.compile(r"(?<=[0-9A-Za-z])(?=[0-9A-Za-z])|(?<=([^0-9A-Za-z]))(?=\1\1)")
_HEXADECIMAL = re.compile(f"[0-9a-fA-F]{{{tokens.LENGTH},}}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Return the text with the characters in `ESCAPED` escaped (OWASP ASVS 5.0, 16.4.1)."""
    if text.isascii() and text.isprintable():
        return text
    return _ESCAPED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def has_control_characters(text: str) -> bool:
    """Tell whether the text holds a control character, or half of a character, which no database takes."""
    return _CONTROL.search(text) is not None


def redacted(texts: Mapping[str, str], presented: Collection[str], prefix: str) -> dict[str, str]:
    """Return the texts, printable, with each of the presented tokens masked.

    For a header that was sent twice, its parts are masked too. `prefix` is the project's prefix of keys: it is no
    secret, so a token is masked with and without it.
    """
    repeated = [token for token in presented if not token.isalnum()]
    parts = {part for token in repeated for part in re.split(r"[,\s]+", token, maxsplit=MOST_PARTS)}
    whole = {*presented, *(part for part in parts if len(part) >= tokens.PREFIX_LENGTH)}
    secrets = sorted({tokens.bare(token, prefix) for token in whole if token}, key=len, reverse=True)
    return {name: printable(_without(secrets, text)) for name, text in texts.items()}


def _without(secrets: Sequence[str], text: str) -> str:
    """Return the text with the secrets masked; decoded, as far as one is percent-encoded in it."""
    if "%" in text:
        further = text
        for _ in range(_MOST_LAYERS):
            further, before = unquote(further), further
            if further == before:
                break
            if any(secret in further for secret in secrets):
                text = further
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def possible_tokens(text: str, *, with_blanks: bool = False) -> Iterator[tuple[int, list[int]]]:
    """Yield where a token may begin that somebody has pasted into the text, and each place where it may end.

    Quotes, commas or `Bearer` may stand around it, but no letter or digit; except where it is one of ours. Of a token
    `with_blanks` no blank is an end of its own. At most `MOST_SOUGHT` parts are named.
    """
    left = MOST_SOUGHT
    for start, ends in _possible(text, with_blanks):
        ends = [end for end in ends if start + SHORTEST_SOUGHT <= end <= start + tokens.MAX_PRESENTED_LENGTH][:left]
        left -= len(ends)
        if ends:
            yield start, ends
        if not left:
            return


def _possible(text: str, with_blanks: bool) -> Iterator[tuple[int, list[int]]]:
    for run in (_LINE if with_blanks else _WORD).finditer(text):
        inside = {found.start() for found in _NO_EDGE.finditer(text, run.start() + 1, run.end() - 1)}
        edges = [at for at in range(run.start(), run.end() + 1) if at not in inside]
        starts = [at for at in edges if at < run.end() and text[at] != " "]
        yield from _from_each(starts, [at for at in edges if at > run.start() and text[at - 1] != " "])
    for run in _HEXADECIMAL.finditer(text):
        yield run.end() - tokens.LENGTH, [run.end()]


def _from_each(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield each start with the ends that are near enough."""
    first = 0
    for start in starts:
        while first < len(ends) and ends[first] <= start:
            first += 1
        yield start, [*ends[first : first + tokens.MAX_PRESENTED_LENGTH]]


def without_token(text: str, digests: Collection[str], *, with_blanks: bool = False) -> str:
    """Return the text with each token masked that has one of these digests, as `tokens.digests` gives them."""
    named = frozenset(one.partition("$")[0] for one in digests) & {"sha256", "sha512"}
    if len(text) <= LONGEST_KEPT:
        parts = _parts_of(text, named, with_blanks)
        found = [place for one in digests for place in parts.get(one, ())]
        if found:
            _parts_of.cache_clear()  # no text is kept that holds a key
    else:
        found = [place for one, place in _parts(text, named, with_blanks) if one in digests]
    kept, at = [], 0
    for start, end in sorted(found):
        if start >= at:
            kept += [text[at:start], MASK]
            at = end
    return "".join([*kept, text[at:]])


# An import asks for the same few texts, such as its scopes and who runs it, with each of a hundred thousand keys.
@lru_cache(maxsize=32)
def _parts_of(text: str, algorithms: frozenset[str], with_blanks: bool) -> Mapping[str, Sequence[tuple[int, int]]]:
    parts: dict[str, list[tuple[int, int]]] = {}
    for digest, place in _parts(text, algorithms, with_blanks):
        parts.setdefault(digest, []).append(place)
    return parts


def _parts(text: str, algorithms: Collection[str], with_blanks: bool) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the digests of each part of the text that may be a token, with its place."""
    for start, ends in possible_tokens(text, with_blanks=with_blanks) if algorithms else ():
        hashes = [hashlib.new(name) for name in algorithms]
        at = start
        for end in ends:
            for one in hashes:
                one.update(text[at:end].encode())
                yield f"{one.name}${one.hexdigest()}", (start, end)
            at = end
