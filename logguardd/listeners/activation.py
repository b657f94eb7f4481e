"""Sockets that systemd opened for us: socket activation, sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

#: SD_LISTEN_FDS_START
FIRST_FD = 3
#: How the names of sockets begin that we opened ourselves before we dropped privileges (daemonize.py).
OWN = "own-"
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_KINDS = {socket.SOCK_DGRAM: "UDP", socket.SOCK_STREAM: "TCP"}


class Inherited:
    """Named sockets handed over at start; each is taken once, by the listener that names it."""

    def __init__(self, sockets: Iterable[tuple[str, socket.socket]] = ()) -> None:
        self._free = list(sockets)
        self._taken: list[tuple[str, socket.socket, str]] = []

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ, first_fd: int = FIRST_FD) -> Inherited:
        """Take over what LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES describe, and unset them.

        Without them, or when they are meant for another process, there are no sockets. Raise ConfigError when they
        describe descriptors that do not exist.
        """
        pid, count, names, _ = (environ.pop(variable, "") for variable in _VARIABLES)
        if not count or pid != str(os.getpid()):
            return cls()
        if not (count.isascii() and count.isdecimal() and len(count) <= 5):  # noqa: PLR2004 - more digits than any limit on descriptors
            raise ConfigError(f"LISTEN_FDS: {count[:40]!r} is not a number of file descriptors")
        named = names.split(":") if names else []
        found = []
        for index in range(int(count)):
            name = named[index] if index < len(named) else "unknown"  # the name that sd_listen_fds_with_names(3) gives
            descriptor = first_fd + index
            try:
                os.set_inheritable(descriptor, False)  # noqa: FBT003 - the name is not a keyword
                taken = socket.socket(fileno=descriptor)
            except OSError as error:
                raise ConfigError(
                    f"LISTEN_FDS: descriptor {descriptor} ({name}) is not a socket: {error.strerror}"
                ) from None
            found.append((name, taken))
        return cls(found)

    def take(self, key: str, name: str, kind: socket.SocketKind) -> list[socket.socket]:
        """Return the sockets called ``name`` that a listener of this kind can use; raise ConfigError if none is there.

        ``key`` is the configuration key that asks, for the message.
        """
        usable = [entry for entry in self._free if entry[0] == name and _usable(entry[1], kind)]
        if not usable:
            raise ConfigError(f"{key}: systemd:{name}: {self._why_not(name, kind)}")
        for _, taken in usable:
            taken.settimeout(0)
        self._free = [entry for entry in self._free if entry not in usable]
        self._taken += [(name, taken, key) for _, taken in usable]
        return [taken for _, taken in usable]

    def take_bound(self, key: str, host: str, port: int, kind: socket.SocketKind) -> socket.socket | None:
        """Return the socket of this kind that systemd holds at exactly this address, if there is one.

        So the same configuration works with and without a socket unit. ``host`` is an address; "::" is both families,
        and 0.0.0.0 where the kernel has IPv4 only, as systemd.socket(5) has it.
        """
        for name, held in self._free:
            if _usable(held, kind) and _is_at(held, host, port):
                held.settimeout(0)
                self._free.remove((name, held))
                self._taken.append((name, held, key))
                return held
        return None

    def gave(self, held: socket.socket) -> bool:
        """Return whether the socket is one of systemd's, which stays open there when we close it."""
        return any(held is taken and not name.startswith(OWN) for name, taken, _ in self._taken)

    def unused(self) -> list[str]:
        """Return the names of sockets that no listener took: a mistake in the configuration worth a warning."""
        return sorted({name for name, _ in self._free})

    def _why_not(self, name: str, kind: socket.SocketKind) -> str:
        wanted = _KINDS[kind]
        others = [_describe(held) for held_name, held in self._free if held_name == name]
        takers = [
            key
            for held_name, held, key in self._taken
            if held_name == name and held.fileno() >= 0 and held.type == kind
        ]
        if others:
            return f"no {wanted} socket among those of this name: {', '.join(others)}"
        if takers:
            return f"already used by {takers[0]}"
        known = self.unused()
        if known:
            return f"systemd passed no {wanted} socket of this name; it passed: {', '.join(known)}"
        return (
            "systemd passed no socket (a socket unit with "
            f"FileDescriptorName={name} must start the service, see systemd.socket(5))"
        )


def _usable(held: socket.socket, kind: socket.SocketKind) -> bool:
    if held.family not in (socket.AF_INET, socket.AF_INET6) or held.type != kind:
        return False
    return kind != socket.SOCK_STREAM or bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_at(held: socket.socket, host: str, port: int) -> bool:
    own_host, own_port = held.getsockname()[:2]
    if not port or own_port != port:
        return False
    if host != "::":
        return ip_address(own_host) == ip_address(host)
    if held.family == socket.AF_INET:
        return bool(own_host == "0.0.0.0") and not socket.has_dualstack_ipv6()  # noqa: S104 - compared only
    return bool(own_host == "::") and not held.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _describe(held: socket.socket) -> str:
    if held.family not in (socket.AF_INET, socket.AF_INET6):
        return f"a {held.family.name} socket"
    if held.type == socket.SOCK_STREAM and not held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "a TCP connection (Accept=yes is not supported)"
    return f"a {_KINDS.get(held.type, held.type.name)} socket"
