"""Listen specifications to bound sockets."""

from __future__ import annotations

import errno
import logging
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.listeners.activation import Inherited

_log = logging.getLogger(__name__)

ALLOWED = '"[::]:514", "0.0.0.0:514", "HOST:514", ":514" or "systemd:NAME"'

#: Connections that wait to be accepted.
BACKLOG = 1024
#: socket(7); Python's socket module does not have it.
SO_RCVBUFFORCE = 33

_PRIVILEGED = 1024
_LAST_PORT = 65535
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\]:(?P<port>[^:]*)", re.ASCII)
_PLAIN = re.compile(r"(?P<host>[^\[\]:]*):(?P<port>[^:]*)", re.ASCII)
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
# systemd.socket(5), FileDescriptorName=: no control characters, no colon, at most 255.
_UNIT_NAME = re.compile(r"[!-9;-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A host (an address without brackets, or a name) and a port, 0 for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Activated:
    """A socket that systemd opened."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


def parse(key: str, spec: str) -> Address | Activated:
    """Parse one listen specification; ``key`` is its configuration key, for ConfigError's message."""
    kind, _, name = spec.partition(":")
    if kind == "systemd":
        if not _UNIT_NAME.fullmatch(name):
            raise ConfigError(
                f"{key}: {_shown(spec)}: not a name of a socket; write systemd:NAME as in the socket unit"
            )
        return Activated(name)
    if spec.count(":") > 1 and "[" not in spec:
        raise ConfigError(f"{key}: {_shown(spec)}: an IPv6 address stands in brackets, as in [2001:db8::1]:514")
    match = _BRACKETED.fullmatch(spec) or _PLAIN.fullmatch(spec)
    if match is None:
        raise ConfigError(f"{key}: {_shown(spec)}: no port; write {ALLOWED}")
    host, port = match["host"], match["port"]
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= _LAST_PORT):  # noqa: PLR2004 - digits
        raise ConfigError(f"{key}: {_shown(spec)}: {_shown(port)} is not a port; write a number from 1 to {_LAST_PORT}")
    if match.re is _BRACKETED:
        if not _is_ipv6(host):
            raise ConfigError(f"{key}: {_shown(spec)}: {_shown(host)} is not an IPv6 address")
    elif not host:
        host = "::"
    elif not _is_ipv4(host) and (not _HOST_NAME.fullmatch(host) or host.replace(".", "").isdecimal()):
        raise ConfigError(f"{key}: {_shown(spec)}: {_shown(host)} is neither an address nor a host name")
    return Address(host, int(port))


def bind(key: str, specs: Sequence[str], kind: socket.SocketKind, inherited: Inherited) -> list[socket.socket]:
    """Open a non-blocking, bound socket of this kind for every specification, or take systemd's.

    systemd's is taken by its name, or because it is bound to that very address. ``key`` is the configuration key. Raise ConfigError naming key, address and cause; then none is left open.
    """
    made: list[socket.socket] = []
    try:
        for spec in specs:
            parsed = parse(key, spec)
            if isinstance(parsed, Activated):
                made += inherited.take(key, parsed.name, kind)
            else:
                for address in _resolve(key, parsed, kind):
                    # One by one: what is open must be closed when the next fails.
                    held = inherited.take_bound(key, address.host, address.port, kind)
                    made.append(held or _bind(key, address, kind))
    except ConfigError:
        for opened in made:
            opened.close()
        raise
    return made


def receive_buffer(bound: socket.socket, wanted: int) -> int:
    """Ask for a receive buffer of ``wanted`` bytes and return the bytes that the kernel granted (socket(7)).

    SO_RCVBUFFORCE passes the limit net.core.rmem_max and needs CAP_NET_ADMIN; SO_RCVBUF is cut to it silently. The
    kernel doubles the value for its own bookkeeping; the figure returned is without that.
    """
    have = bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if have < wanted:
        try:
            bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted)
        except OSError:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def shown_address(bound: socket.socket) -> str:
    """Return the bound address as it is written in a specification."""
    host, port = bound.getsockname()[:2]
    return str(Address(host, port))


def _resolve(key: str, address: Address, kind: socket.SocketKind) -> list[Address]:
    if _is_ipv4(address.host) or _is_ipv6(address.host):
        return [address]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{key}: cannot resolve {address.host}: {cause}") from None
    return [Address(host, address.port) for host in dict.fromkeys(str(info[4][0]) for info in found)]


def _bind(key: str, address: Address, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return _open(family, address, kind)
    except OSError as error:
        if address.host == "::" and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            instead = Address("0.0.0.0", address.port)  # noqa: S104 - what the operator asked for, less IPv6
            _log.warning("%s: this kernel has no IPv6: listening on %s instead of %s", key, instead, address)
            return _bind(key, instead, kind)
        raise ConfigError(f"{key}: cannot bind {address}: {_cause(error, address, kind)}") from None


def _open(family: socket.AddressFamily, address: Address, kind: socket.SocketKind) -> socket.socket:
    # Numeric hosts only, so this asks no name server; it turns a zone (fe80::1%eth0) into its index.
    try:
        where = socket.getaddrinfo(address.host, address.port, family, kind, flags=socket.AI_NUMERICHOST)[0][4]
    except socket.gaierror as error:
        raise OSError(errno.ENODEV, error.strerror) from None
    opened = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            # Only for streams, where it is about TIME_WAIT: two UDP sockets with it may share a port, and the second
            # one silently takes all datagrams (socket(7)).
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "::")
        opened.bind(where)
        if kind == socket.SOCK_STREAM:
            opened.listen(BACKLOG)  # only this finds out an address that is taken already
        opened.settimeout(0)
    except BaseException:
        opened.close()
        raise
    return opened


def _cause(error: OSError, address: Address, kind: socket.SocketKind) -> str:
    cause = error.strerror or str(error)
    if error.errno in {errno.EACCES, errno.EPERM} and 0 < address.port < _PRIVILEGED:
        return f"{cause}; ports below {_PRIVILEGED} need CAP_NET_BIND_SERVICE or a systemd socket"
    if error.errno == errno.EADDRINUSE:
        table = "-lunp" if kind == socket.SOCK_DGRAM else "-ltnp"
        return f"{cause}; see by whom with: ss {table} 'sport = :{address.port}'"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{cause}; no interface of this machine has the address"
    return cause


def _is_ipv4(host: str) -> bool:
    return isinstance(_address(host), IPv4Address)


def _is_ipv6(host: str) -> bool:
    return isinstance(_address(host), IPv6Address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")  # noqa: PLR2004 - a line of a log
