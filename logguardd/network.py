"""What must never be banned, asked of the kernel and the resolver: own addresses, default gateways, named hosts.

The kernel is asked over rtnetlink(7), so every interface, routing table and next hop is seen.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Address = IPv4Address | IPv6Address

# linux/rtnetlink.h, linux/netlink.h, linux/if_addr.h
_NETLINK_ROUTE = 0
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 5, 9, 18
_RTN_UNICAST = 1
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=LHHLL")
_ATTRIBUTE = struct.Struct("=HH")
_ADDRESS_MESSAGE = 8
_ROUTE_MESSAGE = 12
_NEXT_HOP = 8
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 16}
_TIMEOUT = 5.0


def own_addresses() -> list[Address]:
    """Return the addresses of all interfaces that are up or down; raise OSError if the kernel does not answer."""
    found: dict[Address, None] = {}
    for message in _dump(_RTM_GETADDR, _RTM_NEWADDR):
        attributes = dict(_attributes(message, _ADDRESS_MESSAGE))
        # On a point-to-point link IFA_ADDRESS is the other end.
        address = _address(attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b""))
        if address is not None:
            found[address] = None
    return list(found)


def default_gateways() -> list[Address]:
    """Return the gateways of all default routes, in every table; raise OSError if the kernel does not answer."""
    found: dict[Address, None] = {}
    for message in _dump(_RTM_GETROUTE, _RTM_NEWROUTE):
        destination_length, kind = message[1], message[7]
        if destination_length == 0 and kind == _RTN_UNICAST:
            for gateway in _gateways(_attributes(message, _ROUTE_MESSAGE)):
                found[gateway] = None
    return list(found)


def outward_address() -> Address | None:
    """Return the own address that this machine's packets to the world carry; None without a default route."""
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))  # chooses the address; nothing is sent
            return ip_address(probe.getsockname()[0])
    return None


def resolve(hosts: Iterable[str]) -> tuple[list[Address], list[str]]:
    """Return all addresses of the hosts, and the names that could not be resolved now. May block on the resolver."""
    found: dict[Address, None] = {}
    unknown: list[str] = []
    for host in hosts:
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            unknown.append(host)
            continue
        for *_, where in answers:
            found[_plain(ip_address(str(where[0]).partition("%")[0]))] = None
    return list(found), unknown


def _gateways(attributes: Iterable[tuple[int, bytes]]) -> Iterator[Address]:
    for kind, value in attributes:
        address = None
        if kind == _RTA_GATEWAY:
            address = _address(value)
        elif kind == _RTA_VIA:  # an IPv4 route by an IPv6 neighbour: struct rtvia, a family and an address
            address = _address(value[2:])
        elif kind == _RTA_MULTIPATH:
            for hop in _next_hops(value):
                yield from _gateways(_attributes(hop, _NEXT_HOP))
        if address is not None:
            yield address


def _next_hops(value: bytes) -> Iterator[bytes]:
    """Cut struct rtnexthop after struct rtnexthop: length, flags, hops, interface; then attributes."""
    position = 0
    while position + _NEXT_HOP <= len(value):
        length = max(struct.unpack_from("=H", value, position)[0], _NEXT_HOP)
        yield value[position : position + length]
        position += length + 3 & ~3


def _dump(request: int, answer: int) -> Iterator[bytes]:
    """Yield the payload of every message of a dump, IPv4 and IPv6."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as link:
        link.settimeout(_TIMEOUT)
        link.bind((0, 0))
        # struct rtmsg is as long as the longer of the two requests; zeros ask for everything.
        link.send(
            _HEADER.pack(_HEADER.size + _ROUTE_MESSAGE, request, _NLM_F_REQUEST_DUMP, 1, 0) + bytes(_ROUTE_MESSAGE)
        )
        while True:
            data = link.recv(1 << 18)
            position = 0
            while position + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, position)
                payload = data[position + _HEADER.size : position + length]
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    raise OSError(number, os.strerror(number))
                if kind == answer:
                    yield payload
                position += max(length, _HEADER.size) + 3 & ~3


def _attributes(message: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, position)
        length = max(length, _ATTRIBUTE.size)
        yield kind & _TYPE_MASK, message[position + _ATTRIBUTE.size : position + length]
        position += length + 3 & ~3


def _address(value: bytes) -> Address | None:
    if len(value) not in _FAMILIES.values():
        return None
    address = _plain(ip_address(value))
    return None if address.is_unspecified else address


def _plain(address: Address) -> Address:
    """Return an IPv4-mapped address as IPv4."""
    return getattr(address, "ipv4_mapped", None) or address
