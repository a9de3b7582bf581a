"""What a request presents: its key, and the address it comes from."""

import pytest
from pytest_django import Settings

from keys import credentials
from keys.credentials import Credential

KEY, OTHER = "0123456789" * 4, "abcdefabcd" * 4


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
