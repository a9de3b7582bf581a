"""What a token is."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import tokens

TOKEN = "0123456789abcdef0123456789abcdef01234567"


def test_a_new_token_is_40_lower_case_hexadecimal_characters_and_another_each_time() -> None:
    made = {tokens.generate() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[0-9a-f]{40}", token) for token in made)


@pytest.mark.parametrize("token", [TOKEN, TOKEN.upper(), "0" * 40])
def test_40_hexadecimal_characters_are_standard(token: str) -> None:
    assert tokens.is_standard(token)


@pytest.mark.parametrize(
    "token", ["", TOKEN[:-1], TOKEN + "0", TOKEN + "\n", TOKEN[:-1] + "g", TOKEN[:-1] + "٣", f"live_{TOKEN}"], ids=ascii
)
def test_anything_else_is_not(token: str) -> None:
    assert not tokens.is_standard(token)


@pytest.mark.parametrize("text", ["x", "two words", "a,b", "~" * 128])
def test_1_to_128_printable_ascii_characters_may_be_a_key(text: str) -> None:
    assert tokens.is_presentable(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "é", "\x00", "a\nb", "a\x7f", "\u2028", "😀", "\ud800"], ids=ascii)
def test_anything_else_cannot(text: str) -> None:
    assert not tokens.is_presentable(text)


class TestPrefix:
    @pytest.mark.parametrize("token", [TOKEN, TOKEN.upper()])
    def test_is_taken_off_a_token_of_ours(self, token: str) -> None:
        assert tokens.bare("auth_live_" + token, "auth_live_") == token
        assert tokens.bare(token, "auth_live_") == token

    @pytest.mark.parametrize("token", ["auth_live_secret", "auth_test_" + TOKEN, "auth_live_auth_live_" + TOKEN, ""])
    def test_stays_on_what_only_begins_like_it(self, token: str) -> None:
        assert tokens.bare(token, "auth_live_") == token

    def test_may_look_like_the_token_itself(self) -> None:
        assert tokens.bare("dead" + TOKEN, "dead") == TOKEN
        assert tokens.bare("dead" + TOKEN[4:], "dead") == "dead" + TOKEN[4:]


def test_eight_characters_are_shown_of_a_token_of_ours_and_none_of_a_typed_one() -> None:
    assert tokens.visible_prefix(TOKEN) == "01234567"
    assert tokens.visible_prefix("hunter2") == ""


def test_the_digest_is_tagged_sha256() -> None:
    assert tokens.digest(TOKEN) == "sha256$" + hashlib.sha256(TOKEN.encode()).hexdigest()


@given(st.text(st.characters(codec=None)))
def test_any_text_has_a_digest_that_is_no_token_of_ours(text: str) -> None:
    digest = tokens.digest(text)
    assert tokens.is_digest(digest)
    assert not tokens.is_standard(digest)
    assert not tokens.is_digest(text)


@pytest.mark.parametrize(
    "text", [TOKEN, "sha256$", "sha256$" + "0" * 63, "sha256$" + "0" * 64 + "\n", "SHA256$" + "0" * 64]
)
def test_what_only_begins_like_a_digest_is_none(text: str) -> None:
    assert not tokens.is_digest(text)
