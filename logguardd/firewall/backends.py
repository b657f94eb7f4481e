"""Choose a backend by name, or by what the machine has."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd.errors import FirewallError
from logguardd.firewall import chains
from logguardd.firewall.commands import Command, Executor, installed
from logguardd.firewall.ipset import Ipset
from logguardd.firewall.iptables import Iptables
from logguardd.firewall.nftables import Nftables

if TYPE_CHECKING:
    from logguardd.firewall.commands import Runner

_log = logging.getLogger(__name__)

Backend = Nftables | Ipset | Iptables

_CAP_NET_ADMIN = 12
_PROBE = "logguardd_probe"
_PROBE_CHAIN = "LOGGUARDD-PROBE"


def require_privilege() -> None:
    """Raise errors.FirewallError unless this process may change the firewall (capabilities(7))."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and not int(value, 16) >> _CAP_NET_ADMIN & 1:
            raise FirewallError(
                "changing the firewall needs CAP_NET_ADMIN: run this as root, or by systemd with"
                f" AmbientCapabilities=CAP_NET_ADMIN (this is user {os.geteuid()}); --backend print needs no privilege"
            )


async def choose(name: str) -> Backend:
    """Return the backend "nftables", "iptables" (with ipset if possible) or "auto" (nftables if it works).

    Raises errors.FirewallError when it does not work on this machine, saying why.
    """
    runner = Executor()
    if name == "nftables" or (name == "auto" and await _works(runner, "nft", "list", "tables")):
        await _need(runner, "nft", "list", "tables")
        return Nftables(runner)
    if name == "auto" and not installed("iptables"):
        raise FirewallError("neither nft nor iptables works here; install the package nftables")
    versions = ip_versions()
    for version in versions:
        await _need(runner, *chains.ask(version, "-S", "INPUT").argv)
    if await _has_ipset(runner):
        return Ipset(runner, versions)
    _log.warning("no ipset here: bans become plain iptables rules, which slow down every packet; install ipset")
    return Iptables(runner, versions)


async def remove_all(keep: Backend | None = None) -> list[str]:
    """Remove every backend's tables, chains and sets but those of ``keep``; return what went wrong.

    What another backend left behind would stay in force for its time, and nobody would unban it.
    """
    problems = []
    for backend in _all():
        shared = isinstance(keep, Ipset) and isinstance(backend, Iptables)
        if shared or isinstance(backend, type(keep)):
            continue
        try:
            if await backend.show():
                await backend.flush()
        except FirewallError as error:
            problems.append(str(error))
    return problems


async def show_all() -> str:
    """Return what every backend has in the kernel, as its program prints it."""
    return "".join([await backend.show() for backend in _all()])


def _all() -> list[Backend]:
    runner, versions = Executor(), ip_versions()
    backends: tuple[tuple[str, Backend], ...] = (
        ("nft", Nftables(runner)),
        ("ipset", Ipset(runner, versions)),
        ("iptables", Iptables(runner, versions)),
    )
    return [backend for program, backend in backends if installed(program)]


def ip_versions() -> tuple[int, ...]:
    """Return the IP versions that this kernel speaks."""
    return (4, 6) if Path("/proc/net/if_inet6").exists() else (4,)


async def _works(runner: Runner, *argv: str) -> bool:
    try:
        return await runner.ask(Command(argv)) is not None
    except FirewallError:
        return False


async def _need(runner: Runner, *argv: str) -> None:
    await runner.run(Command(argv))


async def _has_ipset(runner: Runner) -> bool:
    """Whether sets can be made and rules can look them up: the kernel may lack either."""
    if not await _works(runner, "ipset", "list", "-n"):
        return False
    lines = [f":{_PROBE_CHAIN} - [0:0]", f"-A {_PROBE_CHAIN} -m set --match-set {_PROBE} src -j DROP"]
    try:
        await runner.run(Command(("ipset", "restore", "-exist"), f"create {_PROBE} hash:ip timeout 1\n"))
        await runner.run(chains.restore(4, lines))
    except FirewallError as error:
        _log.debug("%s", error)
        return False
    finally:
        await runner.ask(chains.restore(4, [f"-F {_PROBE_CHAIN}", f"-X {_PROBE_CHAIN}"]))
        await runner.ask(Command(("ipset", "destroy", _PROBE)))
    return True
