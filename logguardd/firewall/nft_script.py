"""What nft is told: the table, chains and sets of bans, and changes of elements, as text (nft(8)); pure."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from logguardd.firewall.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from logguardd.records import Network

TABLE = "inet logguardd"
#: Where the rules are; the hooked chains jump here.
CHAIN = "blocked"
HOOKS = ("input", "forward")
#: Before filter (0), where other programs accept established connections.
PRIORITY = -10
# 3,000 elements make about 170 KB for the kernel: below net.core.wmem_max, which bounds a batch inside a container.
_CHUNK = 3000
#: From so many seconds on a timeout is in whole days, rounded up: nft refuses numbers of more than eight digits.
LONG, DAY = 10**8, 86400
_SEPARATOR = ",\n\t"


class SetKind(NamedTuple):
    """Which set an element belongs to: IP version, prefix length, and whether ports are in it."""

    version: int
    length: int
    ports: bool

    @property
    def whole(self) -> bool:
        """Whether its elements are single addresses."""
        return self.length == (32 if self.version == 4 else 128)  # noqa: PLR2004 - the lengths of addresses

    @property
    def name(self) -> str:
        """The set's name: ``banned4``, ``banned6_ports``, ``nets6_64``, ..."""
        name = f"banned{self.version}" if self.whole else f"nets{self.version}_{self.length}"
        return f"{name}_ports" if self.ports else name

    @property
    def type(self) -> tuple[str, ...]:
        """The set's type, as one or two of nft's."""
        return (f"ipv{self.version}_addr", "inet_service") if self.ports else (f"ipv{self.version}_addr",)

    @property
    def rule(self) -> str:
        """The rule that drops what the set holds."""
        source = "ip saddr" if self.version == 4 else "ip6 saddr"  # noqa: PLR2004 - the version
        if not self.whole:
            source = f"{source} & {_mask(self.version, self.length)}"
        if self.ports:
            return f"meta l4proto {{ tcp, udp }} {source} . th dport @{self.name} counter drop"
        return f"{source} @{self.name} counter drop"


#: The sets that are there from the start; others are made when a ban first needs them.
BASE = (SetKind(4, 32, ports=False), SetKind(6, 128, ports=False), SetKind(4, 32, ports=True), SetKind(6, 128, ports=True))  # fmt: skip


#: An element: the set that it is in, and its text as nft reads and prints it.
Element = tuple[SetKind, str]


class Edit(NamedTuple):
    """What is to happen to one element, in this order.

    ``ensure`` adds it, so that deleting cannot fail if the kernel has expired it meanwhile (nft 1.0.6 has no destroy,
    and one delete of what is not there undoes the whole transaction); ``delete`` deletes it; ``add`` adds it with
    ``seconds`` of timeout, None for none.
    """

    element: Element
    ensure: bool = False
    delete: bool = False
    add: bool = False
    seconds: int | None = None


def element_of(network: Network, port: int) -> Element:
    """Return the element of a ban."""
    address = str(network.network_address)
    return _kind(network.version, network.prefixlen, port != 0), f"{address} . {port}" if port else address


def remove_table() -> Command:
    """Return the command that removes everything, and succeeds where there is nothing."""
    return Command(("nft", "-f", "-"), f"add table {TABLE}\ndelete table {TABLE}\n")


def create(edits: Iterable[Edit]) -> Iterator[Command]:
    """Yield commands that put a new table in place of what may be there, with the elements that ``edits`` add."""
    chunks = list(_chunks(edits))
    kinds = sorted({edit.element[0] for chunk in chunks for edit in chunk}.difference(BASE))
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"add table {TABLE}"]
    lines += [_set(kind) for kind in (*BASE, *kinds)]
    lines.append(f"add chain {TABLE} {CHAIN}")
    lines += [_rule(kind) for kind in (*BASE, *kinds)]
    for hook in HOOKS:
        lines.append(
            f"add chain {TABLE} {hook} {{ type filter hook {hook} priority filter - {-PRIORITY}; policy accept; }}"
        )
        lines.append(f"add rule {TABLE} {hook} jump {CHAIN}")
    head = "".join(f"{line}\n" for line in lines)
    yield Command(("nft", "-f", "-"), head + _elements(chunks[0] if chunks else ()))
    for chunk in chunks[1:]:
        yield Command(("nft", "-f", "-"), _elements(chunk))


def change(edits: Iterable[Edit], kinds: Iterable[SetKind]) -> Iterator[Command]:
    """Yield commands that make the edits in a table that has the sets of ``kinds``; up to 3,000 steps, one transaction."""
    known = set(kinds)
    for chunk in _chunks(edits):
        new = sorted({edit.element[0] for edit in chunk if edit.add}.difference(known))
        known.update(new)
        head = "".join(f"{_set(kind)}\n{_rule(kind)}\n" for kind in new)
        yield Command(("nft", "-f", "-"), head + _elements(chunk))


@cache
def _kind(version: int, length: int, ports: bool) -> SetKind:  # noqa: FBT001 - the fields of SetKind
    return SetKind(version, length, ports)


def _mask(version: int, length: int) -> str:
    address, bits = (IPv4Address, 32) if version == 4 else (IPv6Address, 128)  # noqa: PLR2004 - the version
    return str(address((1 << bits) - (1 << (bits - length))))


def _set(kind: SetKind) -> str:
    return f"add set {TABLE} {kind.name} {{ type {' . '.join(kind.type)}; flags timeout; }}"


def _rule(kind: SetKind) -> str:
    return f"add rule {TABLE} {CHAIN} {kind.rule}"


def _chunks(edits: Iterable[Edit]) -> Iterator[list[Edit]]:
    chunk: list[Edit] = []
    steps = 0
    for edit in edits:
        chunk.append(edit)
        steps += edit.ensure + edit.delete + edit.add
        if steps >= _CHUNK:
            yield chunk
            chunk, steps = [], 0
    if chunk:
        yield chunk


def _elements(edits: Sequence[Edit]) -> str:
    by_kind: defaultdict[SetKind, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_kind[edit.element[0]].append(edit)
    parts = []
    for kind, of_kind in sorted(by_kind.items()):
        parts.append(_statement("add", kind, [edit.element[1] for edit in of_kind if edit.ensure]))
        parts.append(_statement("delete", kind, [edit.element[1] for edit in of_kind if edit.delete]))
        parts.append(_statement("add", kind, [_timed(edit) for edit in of_kind if edit.add]))
    return "".join(parts)


def _statement(verb: str, kind: SetKind, elements: Sequence[str]) -> str:
    return f"{verb} element {TABLE} {kind.name} {{ {_SEPARATOR.join(elements)} }}\n" if elements else ""


def _timed(edit: Edit) -> str:
    text = edit.element[1]
    return text if edit.seconds is None else f"{text} timeout {_duration(edit.seconds)}"


def _duration(seconds: int) -> str:
    return f"{seconds}s" if seconds < LONG else f"{-(-seconds // DAY)}d"
