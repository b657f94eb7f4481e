"""Jails: which hits count together, how many are allowed in which time, and the ban that follows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_network
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from logguardd.errors import ConfigError
from logguardd.networks import network_text
from logguardd.records import SECOND, Ban, Hit, Network, Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logguardd.evidence import Seen

DAY = 86_400 * SECOND
MAX_THRESHOLD = 100_000
MAX_SENDERS = 10
MAX_MESSAGE = 512

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_GROUPS = (("address",), ("address", "port"))
_LEAST_PREFIX, _SINGLE = 16, 128
_MAX_ESCALATION = 100
_MAX_TIME = 36_500 * DAY
# What a reason names of rules and senders before it says "and 3 others", and how much of each.
_NAMED, _NAME_LENGTH = 3, 64


@dataclass(frozen=True, slots=True)
class Jail:
    """More than ``threshold`` ``hits`` of one group within ``window`` ban the group for ``ban``; times in microseconds.

    ``hits`` names rules and tags, "*" is every hit but those of severity info. ``group_by`` is ("address",), which bans
    all ports, or ("address", "port") for every destination port by itself. Each further ban of a group lasts
    ``escalation`` times as long, up to ``max_ban``. IPv6 addresses are taken together by ``ipv6_prefix``.

    Raises errors.ConfigError, ``jail.NAME.KEY: what is wrong; allowed: what is``.
    """

    name: str
    hits: tuple[str, ...]
    group_by: tuple[str, ...]
    window: int
    threshold: int
    ban: int
    escalation: float = 1
    max_ban: int = 7 * DAY
    ipv6_prefix: int = 128

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"jail.{self.name!r}: not a name for a jail; allowed: up to 32 of A-Z, a-z, 0-9, - and _")
        self._require(
            "hits", ok=bool(self.hits) and all(self.hits), allowed='tags, names of rules, or "*", at least one'
        )
        self._require("group_by", ok=self.group_by in _GROUPS, allowed='["address"], ["address", "port"]')
        self._require("window", ok=SECOND <= self.window <= _MAX_TIME, allowed='"1s" or longer')
        self._require("threshold", ok=0 <= self.threshold <= MAX_THRESHOLD, allowed=f"0 to {MAX_THRESHOLD}")
        self._require("ban", ok=SECOND <= self.ban <= _MAX_TIME, allowed='"1s" or longer')
        self._require("escalation", ok=1 <= self.escalation <= _MAX_ESCALATION, allowed=f"1 to {_MAX_ESCALATION}")
        self._require("max_ban", ok=self.ban <= self.max_ban <= _MAX_TIME, allowed="as long as ban, or longer")
        self._require("ipv6_prefix", ok=_LEAST_PREFIX <= self.ipv6_prefix <= _SINGLE, allowed="16 to 128")
        if "port" in self.group_by and self.ipv6_prefix != _SINGLE:
            raise ConfigError(
                f"jail.{self.name}.ipv6_prefix: {self.ipv6_prefix} does not go with group_by port, as the firewall "
                f'bans a port for single addresses only; allowed: 128, or group_by = ["address"]'
            )

    def _require(self, key: str, *, ok: bool, allowed: str) -> None:
        if not ok:
            raise ConfigError(f"jail.{self.name}.{key}: {getattr(self, key)!r} is not allowed; allowed: {allowed}")

    def counts(self, rule: str, tags: frozenset[str], severity: str) -> bool:
        """Return whether hits of that rule count: by name or tag whatever its severity, by "*" unless that is info."""
        return (severity != "info" and "*" in self.hits) or rule in self.hits or not tags.isdisjoint(self.hits)

    def ban_time(self, count: int) -> int:
        """Return how long the ``count``-th ban lasts, in microseconds."""
        try:
            return int(min(self.ban * float(self.escalation) ** (count - 1), self.max_ban))
        except OverflowError:
            return self.max_ban


class Group(NamedTuple):
    """Hits of one jail that count together: those of one ``target`` (network as text) and ``port`` (0: all)."""

    jail: Jail
    target: str
    port: int
    tally: Tally
    hits: list[Hit]

    @property
    def network(self) -> Network:
        """The target as a network."""
        return ip_network(self.target)


def counts(jails: Iterable[Jail]) -> Callable[[str, frozenset[str], str], bool]:
    """Return the function that says whether some jail counts hits of a rule, by its name, tags and severity."""
    every = tuple(jails)
    return lambda rule, tags, severity: any(jail.counts(rule, tags, severity) for jail in every)


def hits_key(jail: str, target: str, port: int) -> str:
    """Return the key that the limiter counts a group under."""
    return f"logguardd:hits:{jail}:{target}:{port}"


def keys_of(ban: Ban, jails: Iterable[Jail]) -> list[str]:
    """Return the keys of the hits that the ban answers: what the limiter is to forget when an operator lifts it.

    These are the jail's that made it, and those of every other jail that counts the same network, and port where it
    counts ports.
    """
    target = network_text(ban.network)
    ports = {ban.jail: ban.port} | {jail.name: ban.port if "port" in jail.group_by else 0 for jail in jails}
    return [hits_key(jail, target, port) for jail, port in ports.items()]


def groups_of(jails: Iterable[Jail], address: str, ports: Iterable[int]) -> list[Group]:
    """Return the groups, without hits, that each jail counts hits of an address under: for all ports or for each."""
    every = tuple(ports)
    prefixes: dict[tuple[str, int], str] = {}
    found = []
    for jail in jails:
        six = jail.ipv6_prefix != _SINGLE and ":" in address
        target = _prefix(prefixes, address, jail.ipv6_prefix) if six else address
        found += [
            Group(jail, target, port, Tally(hits_key(jail.name, target, port), jail.window, jail.threshold, ()), [])
            for port in (every if "port" in jail.group_by else (0,))
        ]
    return found


def tally(jails: Sequence[Jail], hits: Iterable[Hit], journal_id: str) -> list[Group]:
    """Group hits (of one or more batches, in journal order) by jail, network and port, ready for the limiter.

    A mark's member is ``JOURNAL:POSITION``, and ``JOURNAL:POSITION:K`` for the second and further times of a repeated
    message. Of marks at one time no more are made than it takes to exceed.
    """
    interested: dict[tuple[str, frozenset[str], str], list[tuple[dict[tuple[str, int], list[Hit]], bool, int]]] = {}
    by_jail: list[dict[tuple[str, int], list[Hit]]] = [{} for _ in jails]
    prefixes: dict[tuple[str, int], str] = {}
    for hit in hits:
        kind = (hit.rule, hit.tags, hit.severity)
        takers = interested.get(kind)
        if takers is None:
            takers = interested[kind] = [
                (groups, "port" in jail.group_by, jail.ipv6_prefix)
                for jail, groups in zip(jails, by_jail, strict=True)
                if jail.counts(*kind)
            ]
        for groups, by_port, prefix in takers:
            target = hit.address
            if prefix != _SINGLE and ":" in target:
                target = prefixes.get((target, prefix)) or _prefix(prefixes, target, prefix)
            key = (target, hit.port if by_port else 0)
            found = groups.get(key)
            if found is None:
                groups[key] = [hit]
            else:
                found.append(hit)
    return [
        Group(jail, target, port, _tally(jail, target, port, members, journal_id), members)
        for jail, groups in zip(jails, by_jail, strict=True)
        for (target, port), members in groups.items()
    ]


def _prefix(known: dict[tuple[str, int], str], address: str, length: int) -> str:
    target = known[address, length] = str(IPv6Network((address, length), strict=False))
    return target


def _tally(jail: Jail, target: str, port: int, hits: list[Hit], journal_id: str) -> Tally:
    key = hits_key(jail.name, target, port)
    if len(hits) == 1 and hits[0].times == 1:
        return Tally(key, jail.window, jail.threshold, ((hits[0].time, f"{journal_id}:{hits[0].position}"),))
    most = jail.threshold + 1
    marks: list[tuple[int, str]] = []
    at: dict[int, int] = {}
    for hit in hits:
        time = hit.time
        number = at.get(time, 0)
        if number >= most:
            continue
        member = f"{journal_id}:{hit.position}"
        marks.append((time, member))
        times = min(hit.times, most - number)
        marks += [(time, f"{member}:{again}") for again in range(1, times)]
        at[time] = number + max(times, 1)
    marks.sort(key=itemgetter(0))
    return Tally(key, jail.window, jail.threshold, marks)


def ban(group: Group, verdict: Verdict, previous: int, seen: Sequence[Seen] = ()) -> Ban:
    """Build the ban of a group that exceeded (``verdict.exceeded_at`` is not -1).

    ``previous`` is how often the group was banned before, ``seen`` what is known of its hits in the window
    (evidence.Evidence.of) beyond the group's own hits.
    """
    jail = group.jail
    count = previous + 1
    since = group.tally.marks[verdict.exceeded_at][0]
    rules: Counter[str] = Counter()
    senders: dict[str, None] = {}
    for what in seen if len(seen) > len(group.hits) else group.hits:
        rules[what.rule] += what.times
        senders[_clean(what.sender)] = None
    number = max(verdict.hits, rules.total())
    reason = (
        f"{number} {'hit' if number == 1 else 'hits'} of {_names(name for name, _ in rules.most_common())} "
        f"within {jail.window / SECOND:g} s (threshold {jail.threshold}), reported by {_names(senders)}"
    )
    return Ban(
        group.network,
        group.port,
        jail.name,
        since,
        since + jail.ban_time(count),
        reason,
        count,
        {
            "rules": dict(rules.most_common()),
            "senders": list(senders)[:MAX_SENDERS],
            "message": group.hits[-1].message[:MAX_MESSAGE],
            "hits": number,
            "window_seconds": jail.window / SECOND,
            "threshold": jail.threshold,
        },
    )


def _names(names: Iterable[str]) -> str:
    every = list(names)
    named = ", ".join(every[:_NAMED])
    others = len(every) - _NAMED
    return named if others <= 0 else f"{named} and {others} {'other' if others == 1 else 'others'}"


def _clean(name: str) -> str:
    name = name[:_NAME_LENGTH]
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)
