"""Addresses and networks, IPv4 and IPv6. Pure functions, no Django."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Return the address that a peer or a proxy sent, or None if the text is not one.

    A port (`192.0.2.1:80`, `[2001:db8::1]:80`) and a zone (`fe80::1%eth0`) are dropped. An IPv4 address that is
    mapped into IPv6 (RFC 4291, 2.5.5.2) becomes the IPv4 address.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class HostBitsError(ValueError):
    """An address with host bits set beyond its mask. `meant` is the network that contains it."""

    def __init__(self, meant: Network) -> None:
        super().__init__(f"Bits are set to the right of the mask of {meant}.")
        self.meant = meant


def parse_network(text: str) -> Network:
    """Return the network; for a plain address, the network of that host.

    Raises HostBitsError if host bits are set, and ValueError for anything else.
    """
    network = ipaddress.ip_network(text, strict=False)
    address = ipaddress.ip_interface(text).ip
    if "/" in text and address != network.network_address:
        raise HostBitsError(network)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def is_nobodys(network: Network) -> bool:
    """Tell whether it is `0.0.0.0` or `::` alone, from which no request comes: who writes that means all addresses."""
    return network.num_addresses == 1 and network.network_address.is_unspecified


def contains(networks: Sequence[str], address: Address | None) -> bool:
    """Tell whether one of the networks contains the address. An unknown address is in none.

    Raw SQL bypasses the validators, so a value that is not a list of networks contains no address.
    """
    if address is None or not isinstance(networks, list | tuple):
        return False
    return any(_holds(network, address) for network in networks)


def _holds(network: str, address: Address) -> bool:
    try:
        return address in parse_network(str(network))
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def neighbourhood(address: Address | None) -> str:
    """Return the network whose refusals are counted together: /24 for IPv4, /64 for IPv6."""
    if address is None:
        return ""
    bits = 24 if address.version == 4 else 64
    return str(
        ipaddress.ip_network((int(address) >> (address.max_prefixlen - bits) << (address.max_prefixlen - bits), bits))
    )
