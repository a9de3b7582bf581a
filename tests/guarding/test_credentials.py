"""What a request presents: its key, and the address it comes from."""

from base64 import b64encode

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django import Settings

from keys import credentials
from keys.credentials import Credential, Wanted
from keys.tokens import bare, is_presentable

KEY, OTHER = "0123456789" * 4, "abcdefabcd" * 4
SEVERAL = Wanted(("X-API-Key", "X-API-Token"), ("Api-Key", "Token", "Basic"))


def read(x_api_key: str | None = None, authorization: str | None = None) -> Credential | None:
    headers = {"HTTP_X_API_KEY": x_api_key, "HTTP_AUTHORIZATION": authorization}
    meta = {name: value for name, value in headers.items() if value is not None}
    return credentials.Wanted(("X-API-Key",), ("Api-Key",)).read(meta)


@pytest.mark.parametrize(
    ("x_api_key", "authorization"),
    [
        (KEY, None),
        (f" {KEY}\t", None),
        (None, f"Api-Key {KEY}"),
        (None, f"api-key {KEY}"),
        (None, f"  API-KEY   {KEY} "),
        (KEY, f"Api-Key {KEY}"),
        (KEY, "Bearer something.of.others"),
        (KEY, "Api-Keys another-scheme"),
        (KEY, ""),
    ],
)
def test_reads_one_key(x_api_key: str | None, authorization: str | None) -> None:
    credential = read(x_api_key, authorization)
    assert credential is not None
    assert (credential.token, credential.in_conflict, credential.may_be_a_key) == (KEY, False, True)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer " + KEY,
        "Basic YTpi",
        "Api-Keys " + KEY,
        "Api-Key" + KEY,
        KEY,
        'Digest a="b", realm="Api-Key", c="d"',
    ],
)
def test_leaves_what_is_not_ours_to_others(authorization: str | None) -> None:
    assert read(None, authorization) is None


def test_reads_no_authorization_without_a_keyword() -> None:
    assert credentials.Wanted(("X-API-Key",)).read({"HTTP_AUTHORIZATION": f"Api-Key {KEY}"}) is None


def test_reads_the_header_it_is_told() -> None:
    meta = {"HTTP_X_INTERNAL_API_KEY": KEY, "HTTP_X_API_KEY": OTHER}
    credential = credentials.Wanted(("X-Internal-Api-Key",)).read(meta)
    assert credential is not None
    assert (credential.token, credential.in_conflict) == (KEY, False)


@pytest.mark.parametrize("other", [OTHER, "", KEY.upper() + "A", KEY[:-1], f"{KEY} {KEY}"])
def test_two_different_keys_are_in_conflict(other: str) -> None:
    for x_api_key, authorization in ((KEY, other), (other, KEY)):
        credential = read(x_api_key, f"Api-Key {authorization}")
        assert credential is not None
        assert credential.in_conflict
        assert not credential.may_be_a_key


def test_a_key_with_and_without_the_prefix_is_one(settings: Settings) -> None:
    settings.KEYS = {"PREFIX": "auth_live_"}
    credential = read(KEY, f"Api-Key auth_live_{KEY}")
    assert credential is not None
    assert not credential.in_conflict
    settings.KEYS = {}
    credential = read(KEY, f"Api-Key auth_live_{KEY}")
    assert credential is not None
    assert credential.in_conflict


@pytest.mark.parametrize(
    "value",
    ["", " ", "\t", "a" * 129, "a" * 1_000_000, "\x00", f"{KEY}\x00", f"{KEY}\n", f"{KEY}\r\n", f"\x0b{KEY}",
     f"\x1c{KEY}",
     f"{KEY}\x85", f"\xa0{KEY}", "é", "\xff\xfe", "\ud800", "😀", f"{KEY}\x7f", f"{KEY}\u3000"],
    ids=lambda value: ascii(value[:20]),
)  # fmt: skip
def test_what_cannot_be_a_key(value: str) -> None:
    credential = read(value)
    assert credential is not None
    assert not credential.may_be_a_key


def test_the_longest_key() -> None:
    credential = read("a" * 128)
    assert credential is not None
    assert credential.may_be_a_key


def test_a_header_sent_twice_is_seen() -> None:
    # Servers join repeated headers with a comma, with or without white space after it.
    for value in (f"{KEY},{OTHER}", f"{KEY}, {KEY}", f"{KEY},", f",{KEY}"):
        credential = read(value)
        assert credential is not None
        assert credential.looks_repeated


@pytest.mark.parametrize(
    "value", ["Bearer abc,Api-Key k", "Api-Key,Api-Key k", "Bearer abc, API-KEY k", "Api-Key k,Bearer abc"]
)
def test_two_schemes_in_one_authorization_are_in_conflict(value: str) -> None:
    credential = read(None, value)
    assert credential is not None
    assert credential.looks_repeated


def test_what_is_presented_stays_out_of_error_reports() -> None:
    assert KEY not in repr(read(KEY, f"Api-Key {KEY}"))


def basic(text: str | bytes) -> str:
    return "Basic " + b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def places(token: str) -> list[dict[str, str]]:
    """Return each way to present the token where SEVERAL are read."""
    return [
        {"HTTP_X_API_KEY": token},
        {"HTTP_X_API_TOKEN": token},
        {"HTTP_AUTHORIZATION": f"API-key {token}"},
        {"HTTP_AUTHORIZATION": f"token {token}"},
        {"HTTP_AUTHORIZATION": basic(f"somebody:{token}").replace("Basic", "bASIC")},
    ]


@pytest.mark.parametrize("meta", places(KEY), ids=str)
def test_each_of_several_places_is_read(meta: dict[str, str]) -> None:
    credential = SEVERAL.read(meta)
    assert credential is not None
    assert (credential.token, credential.in_conflict, credential.may_be_a_key) == (KEY, False, True)
    assert SEVERAL.read({"HTTP_X_OTHER": KEY, "HTTP_AUTHORIZATION": f"Bearer {KEY}"}) is None


@pytest.mark.parametrize("token", [KEY, OTHER])
def test_the_same_key_in_two_places_is_one_and_another_is_in_conflict(token: str) -> None:
    for first in places(KEY):
        for second in places(token):
            credential = SEVERAL.read({**first, **second})
            assert credential is not None
            assert credential.in_conflict == (token != KEY and {*first} != {*second})


def test_a_place_that_is_named_twice_is_one() -> None:
    twice = Wanted(("X-API-Token", "X-API-Key", "x-api-key", "X_API_KEY", "X-API-TOKEN"), ("Token", "basic", "TOKEN"))
    assert (twice.headers, twice.keywords) == (("X-API-Token", "X-API-Key"), ("Token", "basic"))
    assert twice == Wanted(("x_api_key", "x-api-token"), ("BASIC", "token"))
    assert twice != Wanted(("X-API-Key",), ("Token", "Basic"))
    assert twice != Wanted(("X-API-Key", "X-API-Token"), ("Token",))


@pytest.mark.parametrize(
    ("text", "password"),
    [(f":{KEY}", KEY), (f"us er:{KEY}", KEY), ("a:b:c:", "b:c:"), ("ü:k", "k"), ("a: k,l ", " k,l ")],
)
def test_the_password_of_basic_is_the_key(text: str, password: str) -> None:
    credential = SEVERAL.read({"HTTP_AUTHORIZATION": basic(text)})
    assert credential is not None
    assert (credential.token, credential.may_be_a_key, credential.looks_repeated) == (password, True, False)


@pytest.mark.parametrize(
    "authorization",
    [
        *("Basic", "basic ", "Basic !", f"Basic {KEY}:", "Basic YTp", "Basic YT pi", "Basic Y\xe9", "Basic \ud800"),
        *(basic(text) for text in (KEY, "a:", ":", "", "a:é", "a:\0k", "a:k\n", b"a:\xff\xfe")),
        *(basic("a:" + "k" * length) for length in (129, 1_000_000)),
    ],
    ids=lambda value: ascii(value[:20]),
)
def test_what_is_no_password_cannot_be_a_key(authorization: str) -> None:
    credential = SEVERAL.read({"HTTP_AUTHORIZATION": authorization})
    assert credential is not None
    assert (credential.may_be_a_key, credential.in_conflict, credential.looks_repeated) == (False, False, False)


def test_all_that_basic_encodes_is_secret() -> None:
    def secrets(authorization: str) -> set[str]:
        credential = SEVERAL.read({"HTTP_AUTHORIZATION": authorization})
        assert credential is not None
        assert KEY not in repr(credential)
        return {*credential.secrets}

    sent = basic(f"billing:{KEY}")
    assert secrets(sent) == {sent[6:], f"billing:{KEY}", KEY}
    # Whoever takes the user for the key, with or without something after it.
    token = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
    assert {token, f"{token}:"} <= secrets(basic(f"{token}:"))
    assert {token, "x"} <= secrets(basic(f"{token}:x"))
    assert {"short"} <= secrets(basic("short:"))
    assert {KEY, OTHER, f"a:{OTHER}"} <= secrets(f"{basic(f'a:{KEY}')},{basic(f'a:{OTHER}')}")
    assert {KEY, f"a:{KEY}"} <= secrets(f"Token {OTHER}, {basic(f'a:{KEY}')}")
    assert {KEY, f"a:{KEY}"} <= secrets(f"Bearer {OTHER}, {basic(f'a:{KEY}')}")


@pytest.mark.parametrize("second", [f"Token {KEY}", f"Api-Key {KEY}", basic(f"a:{KEY}"), "Bearer abc"])
@pytest.mark.parametrize("first", [f"Token {KEY}", f"Api-Key {KEY}", basic(f"a:{KEY}")])
def test_two_of_several_keywords_are_a_header_sent_twice(first: str, second: str) -> None:
    for value in (f"{first},{second}", f"{second}, {first}"):
        credential = SEVERAL.read({"HTTP_AUTHORIZATION": value})
        assert credential is not None
        assert credential.looks_repeated


def test_the_header_of_another_scheme_is_not_ours_however_long_its_list() -> None:
    credential = SEVERAL.read({"HTTP_X_API_KEY": KEY, "HTTP_AUTHORIZATION": 'Digest a="b", c="d"'})
    assert credential is not None
    assert not credential.looks_repeated


def test_the_same_key_is_the_same_wherever_and_by_whomever_it_is_presented() -> None:
    presented = [SEVERAL.presented(meta) for meta in (*places(KEY), {"HTTP_AUTHORIZATION": basic(f"another:{KEY}")})]
    others = [*map(SEVERAL.presented, places(OTHER)), SEVERAL.presented({"HTTP_AUTHORIZATION": "Basic !"})]
    for one in presented:
        assert all(SEVERAL.is_same_key(one, other) for other in presented)
        assert not any(SEVERAL.is_same_key(one, other) for other in others)
    assert not SEVERAL.is_same_key(others[-1], SEVERAL.presented({"HTTP_AUTHORIZATION": "Basic ?"}))


TEXTS = st.text(st.characters()) | st.sampled_from([KEY, f"live_{KEY}", OTHER, "", ",", ":", f"{KEY},{KEY}"])
WAYS = ["HTTP_X_API_KEY", "HTTP_X_API_TOKEN", "Api-Key ", "tOKEN  ", "Basic "]


@examples(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(WAYS), TEXTS, max_size=3), st.booleans())
@example({"HTTP_X_API_KEY": f"live_{KEY}", "Basic ": KEY}, True)
def test_a_conflict_is_two_different_keys(presented: dict[str, str], is_encoded: bool) -> None:
    """With at most one keyword, as there is one header for all of them."""
    meta, expected = {"REMOTE_ADDR": "::1"}, set[str | None]()
    for way, text in presented.items():
        if way.startswith("HTTP_"):
            meta[way] = text
            expected.add(text.strip(" \t"))
        elif "HTTP_AUTHORIZATION" not in meta:
            is_password = way == "Basic " and is_encoded
            user = f"u:{text}".encode(errors="replace")
            meta["HTTP_AUTHORIZATION"] = basic(user) if is_password else way + text
            if way != "Basic ":
                expected.add(text.strip(" \t"))
            else:
                expected.add(user[2:].decode() if is_password else None)
    with override_settings(KEYS={"PREFIX": "live_"}):
        credential = SEVERAL.read(meta)
        assert (credential is None) == (not expected)
        if credential is not None:
            keys = {text if text is None else bare(text, "live_") for text in expected}
            assert credential.in_conflict == (len(keys) > 1)
            assert credential.may_be_a_key == (len(keys) == 1 and is_presentable(next(iter(expected)) or ""))


@examples(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["HTTP_X_API_KEY", "HTTP_AUTHORIZATION"]), TEXTS), st.sampled_from(WAYS), TEXTS)
def test_nothing_that_is_sent_raises(meta: dict[str, str], way: str, text: str) -> None:
    for sent in (meta, {**meta, "HTTP_AUTHORIZATION": f"{way}{text}"}, {**meta, "HTTP_AUTHORIZATION": f"{text},{way}"}):
        credential = SEVERAL.read(sent)
        assert credential is None or not credential.may_be_a_key or is_presentable(credential.token)
        assert SEVERAL.is_same_key(SEVERAL.presented(sent), SEVERAL.presented({**sent}))


PEER = "198.51.100.7"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, PEER),
        (0, "10.0.0.1", PEER),
        (0, "nonsense", PEER),
        # No proxy wrote the header, so the request came past them: the peer itself is who is there.
        (1, None, PEER),
        (1, "10.0.0.1", "10.0.0.1"),
        (1, "6.6.6.6, 10.0.0.1", "10.0.0.1"),
        (1, "6.6.6.6,10.0.0.1:4711", "10.0.0.1"),
        (1, "6.6.6.6,[2001:db8::1]:80", "2001:db8::1"),
        (1, "::ffff:10.0.0.1", "10.0.0.1"),
        (1, "10.0.0.1,", None),
        (1, "", None),
        (1, "nonsense", None),
        (1, "10.0.0.1, unknown", None),
        (1, "10.0.0.1, 10.0.0.2\x00", None),
        (1, "1" * 10_000, None),
        (1, "9.9.9.9," * 1_250 + "10.0.0.1", "10.0.0.1"),
        (1, "," * 10_000, None),
        (2, None, PEER),
        (2, "10.0.0.1", None),
        (2, "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (2, "6.6.6.6, 10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (2, "6.6.6.6, nonsense, 10.0.0.2", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_clients_address(settings: Settings, proxies: int, forwarded: str | None, address: str | None) -> None:
    settings.KEYS = {"TRUSTED_PROXIES": proxies}
    meta = {"REMOTE_ADDR": PEER} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    found = credentials.client_address(meta)
    assert (found and str(found)) == address


@pytest.mark.parametrize("meta", [{}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "/run/gunicorn.sock"}])
def test_a_peer_without_an_address(meta: dict[str, str]) -> None:
    assert credentials.client_address(meta) is None
