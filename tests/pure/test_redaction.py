"""What of a client's text may be written down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.redaction import MASK, MOST_PARTS, masked, printable, secrets_of

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
        ("\ud800", r"\ud800"),
    ],
)
def test_control_and_format_characters_are_escaped(text: str, written: str) -> None:
    assert printable(text) == written


@given(st.text(st.characters()))
def test_whatever_is_written_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert masked(text, []) == printable(text)


def test_every_token_is_a_secret_with_and_without_the_prefix() -> None:
    assert secrets_of([TOKEN], "") == [TOKEN]
    assert secrets_of([f"auth_live_{TOKEN}"], "auth_live_") == [TOKEN]
    assert masked(f"/x/auth_live_{TOKEN}/{TOKEN}/", [TOKEN]) == f"/x/auth_live_{MASK}/{MASK}/"


def test_the_parts_of_a_header_that_was_sent_twice_are_secrets_and_the_longest_comes_first() -> None:
    other = "f" * 41
    assert secrets_of([f"{TOKEN}, {other}"], "") == [f"{TOKEN}, {other}", other, TOKEN]
    assert masked(f"{TOKEN}, {other} and {other}", secrets_of([f"{TOKEN}, {other}"], "")) == f"{MASK} and {MASK}"


def test_a_short_part_is_none_for_it_would_mask_everything() -> None:
    assert secrets_of(["a, bcdefgh"], "") == ["a, bcdefgh"]
    assert secrets_of(["a, bcdefghi"], "") == ["a, bcdefghi", "bcdefghi"]
    assert secrets_of(["", "a"], "") == ["a"]


def test_a_header_of_thousands_of_parts_costs_a_bounded_number_of_searches() -> None:
    assert len(secrets_of([",".join([TOKEN[:20] + f"{number:020}" for number in range(5000)])], "")) == MOST_PARTS + 2


def test_what_is_masked_is_escaped_as_well() -> None:
    assert masked(f"{TOKEN}\n", [TOKEN]) == rf"{MASK}\n"
