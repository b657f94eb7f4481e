"""What this machine is like: who administers it from where, its names, who holds a port, which firewall works."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd import network
from logguardd.errors import FirewallError
from logguardd.firewall import nft_script
from logguardd.firewall.backends import choose, require_privilege
from logguardd.firewall.commands import Executor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Address = IPv4Address | IPv6Address

# Parents are asked up to here: a loop in /proc cannot be, but it costs nothing to be sure.
_GENERATIONS = 64
_TIMEOUT = 5.0
# The state of a TCP socket that listens, of a UDP socket that is bound (linux/tcp_states.h).
_LISTENS = {"tcp": "0A", "udp": "07"}
_INODE = re.compile(r"socket:\[(\d+)\]")


def booted_by_systemd() -> bool:
    """Whether systemd runs this machine, sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def ssh_clients(environ: Mapping[str, str] = os.environ) -> list[Address]:
    """Return where the administrator has logged in from by SSH, as far as can be told; nothing at the console.

    sshd(8) says so in SSH_CONNECTION and SSH_CLIENT. sudo and su may take these away: then parents' environments have
    them, and what a multiplexer as tmux took away, who(1) may know.
    """
    for each in (environ, *_parents()):
        if found := _address((each.get("SSH_CONNECTION") or each.get("SSH_CLIENT") or "").partition(" ")[0]):
            return [found]
    return logged_in()


def logged_in() -> list[Address]:
    """Return the remote addresses of everybody who is logged in, as who(1) says."""
    try:
        done = subprocess.run(
            ["who", "--ips"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    # The last word of a line, in brackets where it could not be resolved.
    words = (line.split()[-1].strip("()") for line in done.stdout.splitlines() if line.split())
    return list(dict.fromkeys(found for word in words if (found := _address(word))))


def _parents() -> Iterator[dict[str, str]]:
    """Yield the environments of this process's parents that we may read, the nearest first."""
    process = os.getppid()
    for _ in range(_GENERATIONS):
        if process <= 1:
            return
        folder = Path("/proc", str(process))
        with contextlib.suppress(OSError):
            pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            yield dict(pair.partition("=")[::2] for pair in pairs)
        try:
            # proc(5): pid (comm) state ppid; comm may hold anything.
            process = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return


def _address(text: str) -> Address | None:
    """Return a client's address; None for text that is none, and for this machine itself."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    return None if found.is_loopback or found.is_unspecified else found


def names() -> list[str]:
    """Return what this machine is called and its addresses, the best name first: what a certificate should bear."""
    short = socket.gethostname().lower()
    full = short
    with contextlib.suppress(OSError):
        for *_, canonical, _ in socket.getaddrinfo(short, None, flags=socket.AI_CANONNAME):
            if "." in canonical and canonical.lower().split(".")[0] == short.split(".")[0]:
                full = canonical.lower().rstrip(".")
                break
    found = [name for name in (full, short) if name and name != "localhost"]
    with contextlib.suppress(OSError):
        found += [str(each) for each in network.own_addresses() if not (each.is_loopback or each.is_link_local)]
    return list(dict.fromkeys(found))


def port_holders(port: int, kind: str) -> list[str]:
    """Return who holds a port of ``kind`` "udp" or "tcp", so that we cannot open it; empty if it is free.

    Names of programs, "another program" for those that we may not look at.
    """
    if not _taken(port, kind):
        return []
    wanted = _inodes(port, kind)
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if any(_is_one(link, wanted) for link in (folder / "fd").iterdir()):
                    found.add((folder / "comm").read_text(errors="replace").strip())
    return sorted(found) or ["another program"]


def _taken(port: int, kind: str) -> bool:
    six = socket.has_dualstack_ipv6()
    with socket.socket(
        socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    ) as probe:
        if six:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("::" if six else "0.0.0.0", port))  # noqa: S104 - as the daemon will
            if kind == "tcp":
                probe.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _inodes(port: int, kind: str) -> set[str]:
    """Return the inodes of sockets that hold a port (proc(5), /proc/net/tcp)."""
    found = set()
    for file in (kind, f"{kind}6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", file).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and words[3] == _LISTENS[kind]:
                    found.add(words[9])
    return found


def _is_one(link: Path, inodes: set[str]) -> bool:
    try:
        match = _INODE.fullmatch(str(link.readlink()))
    except OSError:
        return False
    return match is not None and match[1] in inodes


async def working_firewall() -> tuple[str, list[str]]:
    """Return which backend works on this kernel, nftables before iptables, else "print"; and why others do not."""
    try:
        require_privilege()
    except FirewallError:
        return "print", ["only root can find out whether nftables or iptables works here"]
    reasons = []
    for name, attempt in (("nftables", _try_nftables), ("iptables", _try_iptables)):
        try:
            await attempt()
        except FirewallError as error:
            reasons.append(f"{name} does not work here: {error}")
        else:
            return name, reasons
    return "print", reasons


async def _try_nftables() -> None:
    """Let the kernel check our whole table, without making it (nft -c)."""
    runner = Executor()
    for command in nft_script.create([]):
        program, *options = command.argv
        await runner.run(replace(command, argv=(program, "-c", *options)))


async def _try_iptables() -> None:
    await choose("iptables")
