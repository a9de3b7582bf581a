"""What of a client's text may be written down."""

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import tokens
from keys.redaction import MASK, MOST_PARTS, MOST_SOUGHT, possible_tokens, printable, redacted, without_token

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("curl/8 ünicode 😀", "curl/8 ünicode 😀"),
        ("a\nb\r\t\x00", r"a\nb\r\t\x00"),
        ("\x1b[31mred", r"\x1b[31mred"),
        # What turns the direction of the text that follows, and what nobody sees.
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb", r"a\u200bb"),
        ("\u00ad\ufeff\u2066", r"\xad\ufeff\u2066"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("\ufffe\U0010ffff", r"\ufffe\U0010ffff"),
    ],
)
def test_control_and_format_characters_are_escaped(text: str, written: str) -> None:
    assert printable(text) == written


@pytest.mark.parametrize(
    "text", ["👩\u200d👩\u200d👧", "क्\u200dष", "❤\ufe0f", "葛\U000e0100", "山田\u3000太郎", "a\u0301"]
)
def test_words_and_emoji_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters()))
def test_what_is_escaped_does_not_depend_on_what_is_around_it(text: str) -> None:
    assert printable(text) == "".join(map(printable, text)) == masked(text)
    assert printable(printable(text)) == printable(text)


def test_of_all_characters_those_are_escaped_that_are_not_seen() -> None:
    escaped = {chr(code) for code in range(0x110000) if printable(chr(code)) != chr(code)}
    by_category = {
        kind: {char for char in escaped if unicodedata.category(char) == kind} for kind in ("Cc", "Cs", "Zl", "Zp")
    }
    assert {kind: len(found) for kind, found in by_category.items()} == {"Cc": 65, "Cs": 2048, "Zl": 1, "Zp": 1}
    # Whatever the release of Python knows of Unicode: a row may be read by another than wrote it.
    assert len(escaped) == 6096


def masked(text: str, *presented: str, prefix: str = "") -> str:
    """The text as the path of a request that presents these tokens."""
    return redacted({"path": text}, presented, prefix)["path"]


def test_every_text_is_masked() -> None:
    texts = {"path": f"/{TOKEN}/", "user_agent": "curl", "request_id": TOKEN}
    assert redacted(texts, [TOKEN], "") == {"path": f"/{MASK}/", "user_agent": "curl", "request_id": MASK}


@pytest.mark.parametrize("presented", [TOKEN, f"auth_live_{TOKEN}"])
def test_every_token_is_a_secret_with_and_without_the_prefix(presented: str) -> None:
    assert masked(f"/x/auth_live_{TOKEN}/{TOKEN}/", presented, prefix="auth_live_") == f"/x/auth_live_{MASK}/{MASK}/"


def test_the_parts_of_a_header_that_was_sent_twice_are_secrets_and_the_longest_comes_first() -> None:
    other = "f" * 41
    assert masked(f"{TOKEN}, {other} and {other} and {TOKEN}", f"{TOKEN}, {other}") == f"{MASK} and {MASK} and {MASK}"
    assert masked(f"{TOKEN}x {TOKEN}", TOKEN, f"{TOKEN}x") == f"{MASK} {MASK}"


def test_a_short_part_is_none_for_it_would_mask_everything() -> None:
    assert masked("a bcdefgh a, bcdefgh", "a, bcdefgh") == f"a bcdefgh {MASK}"
    assert masked("a bcdefghi a, bcdefghi", "a, bcdefghi") == f"a {MASK} {MASK}"
    assert masked("text with a", "", "a") == f"text with {MASK}"


def test_a_header_of_thousands_of_parts_costs_a_bounded_number_of_searches() -> None:
    parts = [TOKEN[:20] + f"{number:020}" for number in range(5000)]
    text = masked(" ".join(parts), ",".join(parts))
    assert text.count(MASK) == MOST_PARTS


def test_a_token_that_is_percent_encoded_is_masked_however_often() -> None:
    token = "0123456789abcdef"
    encoded = "".join(f"%{ord(letter):02X}" for letter in token)
    for _ in range(8):
        assert redacted({"path": f"/a%20b/{encoded}/"}, [token], "") == {"path": f"/a b/{MASK}/"}
        encoded = quote(encoded)
    # What holds none stays as it was sent.
    assert redacted({"path": "/a%20b/%2541"}, [token], "") == {"path": "/a%20b/%2541"}


def test_percent_signs_cost_a_bounded_number_of_searches() -> None:
    text = "%25" * 100_000
    assert redacted({"path": text}, ["0123456789abcdef"], "") == {"path": text}


def test_what_is_masked_is_escaped_as_well() -> None:
    assert masked(f"{TOKEN}\n", TOKEN) == rf"{MASK}\n"


FOREIGN = [
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "x=y&z.a", "it's-\"quoted\",-isn't-it", "=cmd|'/c calc'!A0", "~" * 128,
    "--dashes--", "(in brackets)", "hunter2", TOKEN,
]  # fmt: skip


@pytest.mark.parametrize("token", FOREIGN)
@pytest.mark.parametrize("number", [0, 1], ids=["SHA-256", "SHA-512"])
@pytest.mark.parametrize(
    "around",
    ["{}", "“{}”", '"{}", said Anna', "Bearer {}", "X-API-Key: {}\nand more", "key={};", "({})", "é{}é", "<{}>", "{}."],
)
def test_a_token_of_any_form_is_masked_by_its_digest_alone(token: str, number: int, around: str) -> None:
    digests = {tokens.digests(token)[number]}
    assert without_token(around.format(token), digests, with_blanks=True) == around.format(MASK)
    twice = f"{around} {around}"
    assert without_token(twice.format(token, token), digests, with_blanks=True) == twice.format(MASK, MASK)
    assert without_token(around.format("something else"), digests, with_blanks=True) == around.format("something else")


def test_a_token_of_ours_is_masked_behind_the_projects_prefix_and_letters_too() -> None:
    for before in ("auth_live_", "cafe", "zz"):
        assert without_token(before + TOKEN, {tokens.digest(TOKEN)}) == before + MASK


@pytest.mark.parametrize("text", ["!?" * 50_000, "a b " * 25_000, "f" * 100_000])
@pytest.mark.parametrize("with_blanks", [False, True])
def test_no_text_costs_more_than_its_bound(text: str, with_blanks: bool) -> None:
    assert sum(len(ends) for _, ends in possible_tokens(text, with_blanks=with_blanks)) <= MOST_SOUGHT


def test_in_a_hundred_thousand_characters_of_a_letter_a_token_is_found() -> None:
    token = FOREIGN[0]
    text = "Dear Anna, this is the key of the shop, so be careful. " * 1800
    assert without_token(f"{text}{token}, and so on", {tokens.digest(token)}) == f"{text}{MASK}, and so on"
