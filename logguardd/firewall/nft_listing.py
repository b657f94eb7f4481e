"""What ``nft -j list table`` says of the table: its layout and the elements that the kernel holds; pure.

The JSON is that of libnftables-json(5); anything that does not read as a table of ours is reported as not sound, and
is then made anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from logguardd.firewall.nft_script import CHAIN, HOOKS, PRIORITY, TABLE, SetKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logguardd.firewall.nft_script import Element

_NAME = re.compile(r"(?:banned|nets)(4|6)(?:_(\d+))?(_ports)?")
_REFERENCE = re.compile(r'"@(\w+)"')


@dataclass(frozen=True, slots=True)
class Listing:
    """The kernel's table: its sets, and the seconds that each element has left (None: it stays).

    While the kernel grows or shrinks a hash, listing it gives some elements twice and others not at all; ``settled`` is
    False then, and listing it again a moment later is right.
    """

    kinds: frozenset[SetKind]
    elements: Mapping[Element, int | None]
    settled: bool


def read_table(text: str) -> Listing | None:
    """Return what ``nft -j list table`` printed, None if that is not the table that nft_script makes."""
    try:
        return _table([item for item in json.loads(text)["nftables"] if "metainfo" not in item])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def has_chains(text: str) -> bool:
    """Whether ``nft -j list chains`` printed our chains."""
    try:
        chains = [item["chain"] for item in json.loads(text)["nftables"] if "chain" in item]
        ours = {chain["name"] for chain in chains if f"{chain['family']} {chain['table']}" == TABLE}
    except (ValueError, KeyError, TypeError):
        return False
    return ours >= {CHAIN, *HOOKS}


def _table(items: list[Any]) -> Listing | None:
    sets = [item["set"] for item in items if "set" in item]
    chains = {item["chain"]["name"]: item["chain"] for item in items if "chain" in item}
    rules = [item["rule"] for item in items if "rule" in item]
    if set(chains) != {CHAIN, *HOOKS}:
        return None
    for hook in HOOKS:
        chain = chains[hook]
        jumps = [rule["expr"] for rule in rules if rule["chain"] == hook]
        if (chain["hook"], chain["prio"], chain["policy"]) != (hook, PRIORITY, "accept"):
            return None
        if jumps != [[{"jump": {"target": CHAIN}}]]:
            return None
    kinds: set[SetKind] = set()
    elements: dict[Element, int | None] = {}
    listed = 0
    for item in sets:
        kind = _kind(item)
        if kind is None:
            return None
        kinds.add(kind)
        for element in item.get("elem", ()):
            text, left = _element(kind, element)
            elements[kind, text] = left
            listed += 1
    dropping = [_REFERENCE.findall(json.dumps(rule["expr"])) for rule in rules if rule["chain"] == CHAIN]
    if sorted(dropping) != sorted([kind.name] for kind in kinds):
        return None
    return Listing(frozenset(kinds), elements, settled=listed == len(elements))


def _kind(item: Mapping[str, Any]) -> SetKind | None:
    name = _NAME.fullmatch(item["name"])
    if name is None:
        return None
    version = int(name[1])
    kind = SetKind(version, int(name[2] or (32 if version == 4 else 128)), name[3] is not None)  # noqa: PLR2004
    types = (item["type"],) if isinstance(item["type"], str) else tuple(item["type"])
    same = kind.name == item["name"] and types == kind.type and item.get("flags") == ["timeout"]
    return kind if same else None


def _element(kind: SetKind, element: Any) -> tuple[str, int | None]:
    left = None
    if isinstance(element, dict) and "elem" in element:
        left = element["elem"].get("expires")
        element = element["elem"]["val"]
    address, port = element["concat"] if kind.ports else (element, 0)
    if ":" in address and "." in address:
        # inet_ntop(3) writes ::192.0.2.1 where ipaddress writes ::c000:201.
        address = str(ip_address(address))
    return f"{address} . {port}" if port else address, left
