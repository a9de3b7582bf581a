"""What a token is."""

import base64
import hashlib
import random
import re
import string
from collections.abc import Callable
from uuid import UUID

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


LETTERS_AND_DIGITS = string.ascii_letters + string.digits
DRAWN = random.Random(20261128)


def drawn(length: int, characters: str) -> str:
    return "".join(DRAWN.choice(characters) for _ in range(length))


# How machines make keys of 32 characters and more, and how much of them is a tag of the system.
MACHINES: dict[str, tuple[Callable[[], str], int]] = {
    "token_hex(16)": (lambda: DRAWN.randbytes(16).hex(), 0),
    "token_hex(32)": (lambda: DRAWN.randbytes(32).hex(), 0),
    "token_hex(64)": (lambda: DRAWN.randbytes(64).hex(), 0),
    "token_urlsafe(32)": (lambda: base64.urlsafe_b64encode(DRAWN.randbytes(32)).decode().rstrip("="), 0),
    "base64": (lambda: base64.b64encode(DRAWN.randbytes(32)).decode(), 0),
    "uuid4": (lambda: str(UUID(bytes=DRAWN.randbytes(16), version=4)), 0),
    "uuid4 without dashes": (lambda: UUID(bytes=DRAWN.randbytes(16), version=4).hex, 0),
    "get_random_string(32)": (lambda: drawn(32, LETTERS_AND_DIGITS), 0),
    "get_random_string(64)": (lambda: drawn(64, LETTERS_AND_DIGITS), 0),
    "Stripe": (lambda: "sk_live_" + drawn(24, LETTERS_AND_DIGITS), 8),
    "GitHub": (lambda: "ghp_" + drawn(36, LETTERS_AND_DIGITS), 4),
    "Slack": (lambda: f"xoxb-{drawn(12, string.digits)}-{drawn(13, string.digits)}-{drawn(24, LETTERS_AND_DIGITS)}", 5),
    "PostHog": (lambda: "phx_" + drawn(43, LETTERS_AND_DIGITS), 4),
    "prefix.secret": (lambda: f"{drawn(8, LETTERS_AND_DIGITS)}.{drawn(32, LETTERS_AND_DIGITS)}", 0),
    "base32": (lambda: drawn(32, string.ascii_uppercase + "234567"), 0),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_of_most_keys_that_a_machine_made_the_beginning_is_shown(machine: str) -> None:
    make, tag = MACHINES[machine]
    made = [make() for _ in range(100)]
    shown = [tokens.visible_prefix(token) for token in made]
    assert sum(len(beginning) >= tag + tokens.PREFIX_LENGTH for beginning in shown) >= 90
    assert sum(map(tokens.may_be_guessed, made)) <= 7
    for token, beginning in zip(made, shown, strict=True):
        assert token.startswith(beginning)
        assert len(beginning) <= tokens.LONGEST_VISIBLE
        bits = 4 if {*token.lower()} <= {*"0123456789abcdef-"} else 5
        assert not beginning or bits * sum(map(str.isalnum, token[len(beginning) :])) >= tokens.SPARED_BITS


PEOPLE = [
    "hunter2", "correct horse battery staple", "password1234password1234password1234",
    "customer-000000000000000000001234567890", "c0rr3ct-h0rs3-b4tt3ry-st4pl3-w1th-m0r3",
    "c0rr3ct h0rs3 b4tt3ry st4pl3 w1th m0r3 w0rds", "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8",
    "1q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7j8k9l", "john.smith1984@example2020company3com.internal",
    "abc123abc123abc123abc123abc123abc123", "k3J9xQ2mZ7k3J9xQ2mZ7k3J9xQ2mZ7k3J9xQ2mZ7",
    "ThisIsMyVerySecretApiKey2023ForTheProductionServer01", "2024-01-15T10:30:00Z-backup-job-2023-12-31-server-01",
    "MeinPasswortIstSehrGeheim1234UndLang5678Genug", "minulla2on3Koiraa4ja5Kissaa6kotona7Helsingissa8",
    "lacontrasena9demi7Servidor5esmuy3larga1", "deadbeefcafe0123deadbeefcafe0123deadbeefcafe0123",
    "deadc0debadc0ffee0ddf00dfeedfacecafebabe8badf00d", "0123456789abcdef0123456789abcdef0123456789abcdef",
    "00112233445566778899aabbccddeeff00112233445566", "order-2021-0001-item-2021-0002-order-2021-0003",
    "user42server17rack9room3floor2building1zone8", "Sommer2019Winter2020Fruehling2021Herbst2022",
    "P@ssw0rd!2023P@ssw0rd!2024P@ssw0rd!2025", "qwertyuiop1234567890asdfghjklzxcvbnmQWERTYUIOP",
    "my1cat2has3four4legs5and6one7tail8and9two0ears", "abcd1234efgh5678ijkl9012mnop3456qrst7890",
    "aB3" * 40, "1234567890" * 12,
]  # fmt: skip


@pytest.mark.parametrize("token", PEOPLE)
def test_of_what_people_think_up_nothing_is_shown(token: str) -> None:
    assert tokens.visible_prefix(token) == ""
    assert tokens.may_be_guessed(token)


@pytest.mark.parametrize(
    "token",
    ["123e4567-e89b-12d3-a456-426614174000", "018f4d3a-7c1b-7a2b-9c3d-4e5f6a7b8c9d",
     "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"],
)  # fmt: skip
def test_nor_of_what_tells_the_time_or_begins_like_all_others(token: str) -> None:
    assert tokens.visible_prefix(token) == ""


@given(st.lists(st.sampled_from(["summer", "Winter", "2024", "k3y", "s3cr3t", "-", "_", "!", "1"]), max_size=15))
def test_nor_of_words_years_and_numbers_in_any_order(parts: list[str]) -> None:
    assert tokens.visible_prefix("".join(parts)) == ""


def test_a_key_that_can_spare_nothing_need_not_be_typed_by_hand() -> None:
    short = "Zk4vTq9Xw2LmR7pBc3Yd"  # 117 bits
    assert tokens.visible_prefix(short) == ""
    assert not tokens.may_be_guessed(short)


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


@pytest.mark.parametrize("name", ["customer-000000000012", "billing", "hunter2.prod", "0000000000000000"])
def test_a_name_before_a_secret_makes_it_no_easier_to_guess(name: str) -> None:
    assert not tokens.may_be_guessed(f"{name}.6p5x5wNBzlARsHk1eNMP5M1NoIAVggwpP071P1F1KX8")
