"""Addresses and networks."""

import ipaddress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keys.networks import HostBitsError, contains, neighbourhood, parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1\t", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:80", "192.0.2.1"),
    ],
)
def test_an_address_is_read_as_peers_and_proxies_write_it(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "unknown", "localhost", "_hidden", "unix:", "192.0.2", "192.0.2.256", "192.0.2.01", "1.2.3.4/8", "12345"),
        *("[", "[]", ":", ":::", "2001:db8::g", "192.0.2.1, 192.0.2.2", "192.0.2.1\x00", "١٢٧.0.0.1", "1" * 10_000),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_nonsense_is_no_address(text: str) -> None:
    assert parse_address(text) is None


@given(st.text("019afx:.[]%/, \x00é"))
@example("[::1")
@example("%")
def test_no_text_is_an_error(text: str) -> None:
    address = parse_address(text)
    assert address is None or neighbourhood(address)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_read(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize("text", ["", "office", "10.0.0.0/33", "10.0.0.0/-1", "10/8", "2001:db8::/129", "10.0.0.0/8/8"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6 network"):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("10.0.0.1/8", "10.0.0.0/8"), ("10.0.0.1/255.0.0.0", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")],
)
def test_an_address_with_a_mask_is_refused_with_the_network_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(HostBitsError) as caught:
        parse_network(text)
    assert str(caught.value.meant) == meant


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        (["10.0.0.0/8"], "10.255.255.255"),
        (["192.0.2.0/24", "10.0.0.0/8"], "10.0.0.1"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1"),
        (["::ffff:10.0.0.0/104"], "10.0.0.1"),
        (["2001:db8::/32"], "2001:db8:ffff::1"),
        (["0.0.0.0/0"], "203.0.113.9"),
        (["not a network", "10.0.0.0/8"], "10.0.0.1"),
    ],
)
def test_an_address_is_in_a_network(networks: list[str], address: str) -> None:
    assert contains(networks, parse_address(address))


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        (["10.0.0.0/8"], "11.0.0.0"),
        (["10.0.0.0/8"], "unknown"),
        (["2001:db8::/32"], "2001:db9::1"),
        # Two families that happen to share bits have nothing to do with each other.
        (["::/0"], "10.0.0.1"),
        (["0.0.0.0/0"], "::1"),
        (["::a00:0/104"], "10.0.0.1"),
        ([], "10.0.0.1"),
        # What raw SQL wrote past the validators refuses, and does not break the request.
        (["not a network"], "10.0.0.1"),
        (["10.0.0.1/8"], "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1"),
        ({"10.0.0.0/8": 1}, "10.0.0.1"),
        ([7, None, []], "0.0.0.7"),
    ],
)
def test_or_it_is_not(networks: Any, address: str) -> None:
    assert not contains(networks, parse_address(address))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("unknown", ""),
    ],
)
def test_neighbours_are_a_24_and_a_64(address: str, network: str) -> None:
    assert neighbourhood(parse_address(address)) == network


@given(st.ip_addresses())
def test_everybody_is_in_their_own_neighbourhood(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    read = parse_address(str(address))
    assert contains([neighbourhood(read)], read)
