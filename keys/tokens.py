"""Tokens: how they are made, recognised and digested. Pure functions, no Django.

A token is 160 random bits. A slow hash protects secrets that people choose and others can guess; 2**160 cannot be
searched at any speed. So one round of SHA-256 is enough, and a look-up costs one index probe (OWASP ASVS 5.0, 11.4.1;
NIST SP 800-63B, 5.1.2.2).
"""

import hashlib
import re
import secrets
from math import log2, sqrt

LENGTH = 40
PREFIX_LENGTH = 8
LONGEST_TAG = 12  # such as `sk_live_`, which all keys of another system begin with
LONGEST_VISIBLE = LONGEST_TAG + PREFIX_LENGTH
MAX_PRESENTED_LENGTH = 128
SPARED_BITS = 80  # how much of a foreign key stays secret when its beginning is shown

_STANDARD = re.compile(r"[0-9a-fA-F]{40}\Z")
# Words, each with a number of its version at most: the beginning of a UUID is no tag.
_TAG = re.compile(r"(?:[A-Za-z]+[0-9]{0,2}[_-])+")
# By their version they are made of the time, or of a name; of a random one (4) enough is drawn.
_DATED_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1235678][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.I)
_DATE = re.compile(r"(?<![0-9])(?:19|20)[0-9]{2}(?:(?:0[1-9]|1[0-2])[0-3][0-9])?(?![0-9])")
_LETTER_BESIDE_DIGIT = re.compile(r"(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z])(?=[0-9])")
# An upper-case letter where no word begins.
_ODD_CASE = re.compile(r"(?<=[a-z])[A-Z](?![a-z])|(?<=[A-Z])[A-Z](?=[a-z])")
_HEX = frozenset("0123456789abcdef")
# What people type: letters and digits in their order, and keys beside each other.
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm",
    "azertyuiop", "qsdfghjklm", "wxcvbn", *(3 * one for one in "abcdefghijklmnopqrstuvwxyz0123456789"),
)  # fmt: skip
_STEPS = frozenset(row[at : at + 3] for one in _ROWS for row in (one, one[::-1]) for at in range(len(row) - 2))
_AS_LETTERS = str.maketrans("0134578@$!", "oieastbasi")
# Which letters often follow which in words of English and its neighbours.
_FOLLOWERS = {
    "a": "bcdgiklmnprstuvy", "b": "aeilory", "c": "aehikloruz", "d": "aeioruy", "e": "acdeilmnprstvxy", "f": "aefioru",
    "g": "aehilorun", "h": "aeiort", "i": "acdefglmnorstvz", "j": "aoue", "k": "aeio", "l": "adeiloustyk",
    "m": "abeiopum", "n": "acdegiknostuz", "o": "bcdfgklmnoprstuvw", "p": "aehiloprt", "q": "u", "r": "adeiklmnorstuyz",
    "s": "acehiklmopstuwz", "t": "aehiorstuwyz", "u": "bcdegilmnprst", "v": "aeio", "w": "aehiorns", "x": "pt",
    "y": "oes", "z": "aeioy",
}  # fmt: skip
_PAIRS = frozenset(first + second for first, seconds in _FOLLOWERS.items() for second in seconds)
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
    for length in (_length_of_tag(token), 0):
        shown = token[: length + PREFIX_LENGTH]
        if looks_random(token, len(shown)):
            return shown
    return ""


def _length_of_tag(token: str) -> int:
    tag = _TAG.match(token, 0, LONGEST_TAG)
    return 0 if tag is None else tag.end()


def may_be_guessed(token: str) -> bool:
    """Tell whether somebody may have thought the token up, or it is too short to be a secret.

    What stands before a point may be no secret, such as the name of a client.
    """
    return not is_standard(token) and not looks_random(token) and not looks_random(token.rpartition(".")[2])


def looks_random(token: str, shown: int = 0) -> bool:
    """Tell whether a machine seems to have drawn the token, and enough of it after the first `shown` characters.

    Letters and digits are mixed as in no words, and what can be foretold counts nothing.
    """
    text = token.lower()
    kinds = {*filter(str.isalnum, text)}
    is_hex = kinds <= _HEX
    if (
        len(kinds) < 10
        or len(_LETTER_BESIDE_DIGIT.findall(token)) + len(_ODD_CASE.findall(token)) < 3
        or " " in token
        or token.startswith("eyJ")  # JSON, of which most is known
        or _DATED_UUID.match(token)
        or (not is_hex and _reads_like_words(text[_length_of_tag(token) :]))
        or len({text[at : at + 8] for at in range(len(text) - 7)}) < len(text) - 7  # repeats itself
    ):
        return False
    size = 16 if is_hex else 32 if token in (text, token.upper()) else 58
    return _unforeseen(text, shown) * log2(size) >= SPARED_BITS


def _reads_like_words(text: str) -> bool:
    """Tell whether more letters follow each other as in words than in most random texts."""
    letters = text.translate(_AS_LETTERS)
    pairs = [
        pair
        for at in range(len(text) - 1)
        if (pair := letters[at : at + 2]).isalpha() and not text[at : at + 2].isdigit()
    ]
    return sum(pair in _PAIRS for pair in pairs) > 0.42 * len(pairs) + 1.2 * sqrt(len(pairs))


def _unforeseen(text: str, start: int) -> int:
    """Return how many letters and digits after `start` nobody can foretell who knows those before them.

    Foretold are words, what is in a row on the keyboard, dates, and repetitions.
    """
    size = len(text)
    threes = [text[at : at + 3] for at in range(size)]
    every_other = [text[at : at + 5 : 2] for at in range(size)]
    foretold: set[int] = set()
    word = 0
    for at in range(size):
        word = word + 1 if text[at : at + 2] in _PAIRS else 0
        if word >= 5:
            foretold.update(range(at - word + 2, at + 2))
    # Most texts that a machine drew have neither: then there is no need to look for where they are.
    if len({*threes}) < size or not _STEPS.isdisjoint(threes):
        before: set[str] = set()
        for at, three in enumerate(threes):
            if three in _STEPS or three in before:
                foretold.update((at + 1, at + 2))
            before.add(three)
    if not _STEPS.isdisjoint(every_other):
        for at in range(size - 1):
            if every_other[at] in _STEPS and every_other[at + 1] in _STEPS:  # such as `a1b2c3`
                foretold.update(range(at + 2, at + 6))
    for date in _DATE.finditer(text):
        foretold.update(range(date.start() + 1, date.end()))
    return sum(map(str.isalnum, text[start:])) - sum(text[at].isalnum() for at in foretold if start <= at < size)


def digest(token: str) -> str:
    """Return what is stored instead of the token: its SHA-256, tagged with the algorithm."""
    return "sha256$" + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def digests(token: str) -> tuple[str, str]:
    """Return each digest by which a token may be stored: ours, and the SHA-512 that other systems keep."""
    octets = token.encode("utf-8", "surrogatepass")
    return "sha256$" + hashlib.sha256(octets).hexdigest(), "sha512$" + hashlib.sha512(octets).hexdigest()
