"""Networks in canonical text, as feeds, commands and people exchange them: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logguardd.records import Network

#: The shortest prefix length that is banned, by IP version.
WIDEST = {4: 8, 6: 16}

# ::ffff:0:0/96: its length, and its upper bits.
_MAPPED_LENGTH, _MAPPED = 96, 0xFFFF


def network_text(network: Network) -> str:
    """Return a network in canonical text: an address, or a prefix with its length."""
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def unmapped(network: Network) -> Network:
    """Return the IPv4 network that one within ::ffff:0:0/96 stands for (RFC 4291 section 2.5.5.2), any other as it is."""
    if network.version == 6 and network.prefixlen >= _MAPPED_LENGTH:  # noqa: PLR2004 - the version
        number = int(network.network_address)
        if number >> 32 == _MAPPED:
            return IPv4Network((number & 0xFFFFFFFF, network.prefixlen - _MAPPED_LENGTH))
    return network


def parse_network(text: str) -> Network:
    """Read a network in canonical text; raise ValueError for anything else (host bits, zones, mapped IPv4, spaces)."""
    address, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(text)
    result: Network
    if ":" in address:
        six = int(IPv6Address(address))
        if "%" in address or six >> 32 == _MAPPED:
            raise ValueError(text)
        result = IPv6Network((six, int(length) if slash else 128))
    else:
        result = IPv4Network((int(IPv4Address(address)), int(length) if slash else 32))
    if network_text(result) != text:
        raise ValueError(text)
    return result
