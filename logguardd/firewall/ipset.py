"""Bans in ipset's sets, dropped by one chain of iptables and one of ip6tables (ipset(8), iptables-extensions(8)).

Sets, for 4 and 6: ``logguardd_banned4`` (hash:ip), ``logguardd_banned4_ports`` (hash:ip,port, tcp and udp),
``logguardd_nets4`` (hash:net), ``logguardd_nets4_ports`` (hash:net,port). Elements carry timeouts, so the kernel ends
a ban by itself; ipset takes at most 2,147,483 seconds, so longer ones are renewed by ``tick``. ``ipset restore
-exist`` is no transaction, but running it again after a failure is right.
"""

from __future__ import annotations

import heapq
from ipaddress import ip_network
from itertools import count
from typing import TYPE_CHECKING

from logguardd.firewall import chains
from logguardd.firewall.commands import Command
from logguardd.firewall.timeouts import IPSET_LONGEST, seconds_left
from logguardd.networks import network_text
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from logguardd.firewall.commands import Runner
    from logguardd.records import Ban, Network

    # Set and element, as ipset prints them.
    _Entry = tuple[str, str]

# Far above what a follower takes; two entries for a port ban.
_MAX_ELEMENTS = 4194304
_TYPES = {"banned": "hash:ip", "nets": "hash:net"}
_PROTOCOLS = ("tcp", "udp")
_NAMES = ("ipset", "list", "-n")
_TOLERANCE = 5
# With less left, the kernel may have expired it already.
_SURE = 10 * SECOND
# So many entries are listed in some 20 ms.
_FEW = 5000


class Ipset:
    """The backend of iptables with ipset, for the IP versions given; see firewall.Firewall."""

    def __init__(self, runner: Runner, versions: Sequence[int] = (4, 6)) -> None:
        self._runner = runner
        self._versions = tuple(versions)
        # What was put into the kernel, until when; expired ones are swept now and then.
        self._held: dict[_Entry, int | None] = {}
        self._sweep_at = 1024
        # Bans whose timeout is cut short in the kernel, and when to renew them.
        self._capped: dict[tuple[Network, int], Ban] = {}
        self._renewals: list[tuple[int, int, Ban]] = []
        self._ties = count()

    async def sync(self, bans: Sequence[Ban], now: int) -> None:
        """Make sets and chains where missing and the sets hold exactly the active ``bans``."""
        active = [ban for ban in self._served(bans) if ban.active(now)]
        wanted = {entry: _timeout(ban, now) for ban in active for entry in _entries(ban)}
        lines = [_create(version, kind, ports) for version in self._versions for kind, ports in _KINDS]
        listed = await self._listed()
        if listed is None:
            lines += [f"flush {_name(version, kind, ports)}" for version in self._versions for kind, ports in _KINDS]
            lines += _additions(wanted)
        else:
            wrong = {entry: left for entry, left in wanted.items() if not _near(listed.get(entry), left)}
            lines += _additions(wrong)
            lines += [f"del {name} {element}" for name, element in listed.keys() - wanted.keys()]
        await self._restore(lines)
        for version in self._versions:
            if not await chains.filled(self._runner, version, _rules(version)):
                await chains.fill(self._runner, version, _rules(version))
        self._capped, self._renewals = {}, []
        self._held = {}
        self._note(active, now)

    async def apply(self, add: Sequence[Ban], remove: Sequence[Ban], now: int) -> None:
        """Add, extend and delete entries with one ``ipset restore``."""
        lines = []
        for ban in self._served(remove):
            lines += [f"del {name} {element}" for name, element in _entries(ban)]
        for ban in self._served(add):
            if ban.active(now):
                lines += _additions(dict.fromkeys(_entries(ban), _timeout(ban, now)))
            else:
                lines += [f"del {name} {element}" for name, element in _entries(ban)]
        if lines:
            await self._restore(lines)
        for ban in (*remove, *add):
            self._capped.pop(ban.key, None)
            for entry in _entries(ban):
                self._held.pop(entry, None)
        self._note(add, now)

    async def tick(self, now: int) -> None:
        """Renew the timeouts that were cut short."""
        due = []
        while self._renewals and self._renewals[0][0] <= now:
            _, _, ban = heapq.heappop(self._renewals)
            if self._capped.get(ban.key) is ban:
                due.append(ban)
        if due:
            await self.apply(due, [], now)

    async def intact(self, now: int) -> bool:
        """Whether the chains are still jumped to first and hold our rules, and with few bans whether the sets are as we left them."""
        if not all([await chains.intact(self._runner, version, len(_rules(version))) for version in self._versions]):
            return False
        if len(self._held) > _FEW:
            return True
        listed = await self._listed()
        return listed is not None and _as_left(listed, self._held, now)

    async def flush(self) -> None:
        """Remove chains and sets and with them every ban."""
        for version in self._versions:
            await chains.remove(self._runner, version)
        names = await self._runner.ask(Command(_NAMES))
        ours = [_name(version, kind, ports) for version in self._versions for kind, ports in _KINDS]
        gone = [name for name in ours if names is None or name in names.split()]
        if gone:
            await self._restore([f"destroy {name}" for name in gone])
        self._capped, self._renewals = {}, []

    async def show(self) -> str:
        """Return the sets' elements as ipset prints them."""
        names = (await self._runner.ask(Command(_NAMES)) or "").split()
        ours = [_name(version, kind, ports) for version in self._versions for kind, ports in _KINDS]
        texts = [await self._runner.ask(Command(("ipset", "save", name))) for name in ours if name in names]
        return "".join(text or "" for text in texts)

    async def close(self) -> None:
        """Release nothing: bans stay in the kernel until they expire."""

    def _served(self, bans: Iterable[Ban]) -> Iterator[Ban]:
        return (ban for ban in bans if ban.network.version in self._versions)

    async def _restore(self, lines: Iterable[str]) -> None:
        script = "".join(f"{line}\n" for line in lines)
        await self._runner.run(Command(("ipset", "restore", "-exist"), script))

    async def _listed(self) -> dict[_Entry, int] | None:
        """Return the entries in the kernel with the seconds they have left (0: they stay), None where there are none."""
        names = (await self._runner.ask(Command(_NAMES)) or "").split()
        ours = [_name(version, kind, ports) for version in self._versions for kind, ports in _KINDS]
        present = [name for name in ours if name in names]
        if not present:
            return None
        entries: dict[_Entry, int] = {}
        for name in present:
            text = await self._runner.ask(Command(("ipset", "save", name)))
            entries.update(_read(line) for line in (text or "").splitlines() if line.startswith("add "))
        return entries

    def _note(self, bans: Iterable[Ban], now: int) -> None:
        for ban in self._served(bans):
            if not ban.active(now):
                continue
            self._held.update(dict.fromkeys(_entries(ban), ban.until))
            left = seconds_left(ban.until, now)
            if left is not None and left > IPSET_LONGEST:
                self._capped[ban.key] = ban
                due = now + IPSET_LONGEST * SECOND // 2
                heapq.heappush(self._renewals, (due, next(self._ties), ban))
        if len(self._held) > self._sweep_at:
            self._held = {entry: until for entry, until in self._held.items() if until is None or until > now - _SURE}
            self._sweep_at = 1024 + 2 * len(self._held)


_KINDS = tuple((kind, ports) for ports in (False, True) for kind in _TYPES)


def _name(version: int, kind: str, ports: bool) -> str:  # noqa: FBT001 - one of _KINDS
    return f"logguardd_{kind}{version}{'_ports' if ports else ''}"


def _create(version: int, kind: str, ports: bool) -> str:  # noqa: FBT001 - one of _KINDS
    family = "inet" if version == 4 else "inet6"  # noqa: PLR2004 - the version
    what = f"{_TYPES[kind]}{',port' if ports else ''} family {family} maxelem {_MAX_ELEMENTS} timeout 0"
    return f"create {_name(version, kind, ports)} {what}"


def _rules(version: int) -> list[str]:
    return [
        f"-A {chains.CHAIN} -m set --match-set {_name(version, kind, ports)} {'src,dst' if ports else 'src'} -j DROP"
        for kind, ports in _KINDS
    ]


def _entries(ban: Ban) -> list[_Entry]:
    network = ban.network
    kind = "banned" if network.prefixlen == network.max_prefixlen else "nets"
    name, text = _name(network.version, kind, ban.port != 0), network_text(network)
    return [(name, f"{text},{protocol}:{ban.port}") for protocol in _PROTOCOLS] if ban.port else [(name, text)]


def _timeout(ban: Ban, now: int) -> int:
    """Return what ipset takes for the time left: seconds, 0 for ever."""
    left = seconds_left(ban.until, now)
    return 0 if left is None else min(left, IPSET_LONGEST)


def _additions(entries: dict[_Entry, int]) -> list[str]:
    return [f"add {name} {element} timeout {timeout}" for (name, element), timeout in entries.items()]


def _read(line: str) -> tuple[_Entry, int]:
    """Read a line of ``ipset save``: add NAME ELEMENT timeout SECONDS."""
    _, name, element, *options = line.split()
    address, comma, rest = element.partition(",")
    if ":" in address and "." in address:
        # inet_ntop(3) writes ::192.0.2.1 where ipaddress writes ::c000:201.
        address = network_text(ip_network(address))
    return (name, f"{address}{comma}{rest}"), int(options[options.index("timeout") + 1])


def _as_left(listed: dict[_Entry, int], held: dict[_Entry, int | None], now: int) -> bool:
    """Whether the kernel has what was put into it, with the time that it should have left, and nothing else."""
    for entry, until in held.items():
        if entry not in listed and (until is None or until > now + _SURE):
            return False
    for entry, left in listed.items():
        until = held.get(entry, now)
        wanted = 0 if until is None else min(-((now - until) // SECOND), IPSET_LONGEST)
        renewed = wanted == IPSET_LONGEST and left > IPSET_LONGEST // 3
        if not (0 < left <= _TOLERANCE or renewed or (_near(left, wanted) and (wanted or until is None))):
            return False
    return True


def _near(left: int | None, timeout: int) -> bool:
    """Whether an entry with ``left`` seconds (None: not there) is as wanted."""
    if left is None or not (left and timeout):
        return left == timeout
    return abs(left - timeout) <= _TOLERANCE
