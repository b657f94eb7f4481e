"""What nft -j prints, read; the lines are nft 1.0.6's."""

import json

import pytest

from logguardd.firewall.nft_listing import has_chains, read_table
from logguardd.firewall.nft_script import BASE, SetKind

META = {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}


def _set(name, kind, *elements, flags=("timeout",)):
    item = {"family": "inet", "name": name, "table": "logguardd", "type": kind, "handle": 1, "flags": list(flags)}
    return {"set": item | ({"elem": list(elements)} if elements else {})}


def _chain(name, **hook):
    return {"chain": {"family": "inet", "table": "logguardd", "name": name, "handle": 5, **hook}}


def _hook(name, **changes):
    return _chain(name, **{"type": "filter", "hook": name, "prio": -10, "policy": "accept"} | changes)


def _rule(chain, *expressions):
    return {"rule": {"family": "inet", "table": "logguardd", "chain": chain, "handle": 8, "expr": list(expressions)}}


def _drop(name):
    left = {"payload": {"protocol": "ip", "field": "saddr"}}
    return _rule("blocked", {"match": {"op": "==", "left": left, "right": f"@{name}"}}, {"drop": None})


JUMP = {"jump": {"target": "blocked"}}
NAMES = {"banned4": "ipv4_addr", "banned6": "ipv6_addr", "banned4_ports": ["ipv4_addr", "inet_service"]}


def table():
    return [
        META,
        {"table": {"family": "inet", "name": "logguardd", "handle": 1}},
        _set(
            "banned4",
            "ipv4_addr",
            "192.0.2.9",
            {"elem": {"val": "192.0.2.1", "timeout": 300, "expires": 299}},
        ),
        _set("banned6", "ipv6_addr", {"elem": {"val": "::1.2.3.4", "timeout": 5, "expires": 0}}),
        _set(
            "banned4_ports",
            ["ipv4_addr", "inet_service"],
            {"elem": {"val": {"concat": ["192.0.2.1", 22]}, "timeout": 300, "expires": 299}},
        ),
        _set("banned6_ports", ["ipv6_addr", "inet_service"]),
        _set("nets6_64", "ipv6_addr", {"elem": {"val": "2001:db8::", "timeout": 60, "expires": 59}}),
        _chain("blocked"),
        _hook("input"),
        _hook("forward"),
        *map(_drop, ["banned4", "banned6", "banned4_ports", "banned6_ports", "nets6_64"]),
        _rule("input", JUMP),
        _rule("forward", JUMP),
    ]


def read(items):
    return read_table(json.dumps({"nftables": items}))


def test_sets_and_what_is_left_of_their_elements():
    listing = read(table())
    nets = SetKind(6, 64, ports=False)
    assert listing.kinds == {*BASE, nets}
    four, six, ports, _ = BASE
    assert listing.elements == {
        (four, "192.0.2.9"): None,
        (four, "192.0.2.1"): 299,
        (six, "::102:304"): 0,
        (ports, "192.0.2.1 . 22"): 299,
        (nets, "2001:db8::"): 59,
    }


def test_a_listing_with_an_element_twice_is_not_settled():
    items = table()
    assert read(items).settled
    items[2]["set"]["elem"].append("192.0.2.9")
    assert not read(items).settled


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.append(_set("mine", "ipv4_addr")),
        lambda t: t.append(_chain("mine")),
        lambda t: t.append(_rule("input", {"accept": None})),
        lambda t: t.append(_rule("blocked", {"accept": None})),
        lambda t: t.append(_set("nets4_24", "ipv4_addr")),
        lambda t: t.__setitem__(2, _set("banned4", "ipv6_addr")),
        lambda t: t.__setitem__(2, _set("banned4", "ipv4_addr", flags=["interval", "timeout"])),
        lambda t: t.__setitem__(2, _set("banned4", "ipv4_addr", {"prefix": {"addr": "10.0.0.0", "len": 8}})),
        lambda t: t.__setitem__(2, _set("banned4_32", "ipv4_addr")),
        lambda t: t.__setitem__(8, _hook("input", prio=10)),
        lambda t: t.__setitem__(8, _hook("input", policy="drop")),
        lambda t: t.__setitem__(8, _chain("input")),
        lambda t: t.__delitem__(9),
        lambda t: t.__delitem__(-1),
        lambda t: t.__delitem__(10),
        lambda t: t.clear(),
        lambda t: t.append(7),
    ],
)
def test_a_table_that_is_not_as_ours_is_not_sound(change):
    items = table()
    change(items)
    assert read(items) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nftables": 1}', '{"nftables": [{"set": {}}]}'])
def test_text_that_is_not_a_listing_is_not_sound(text):
    assert read_table(text) is None
    assert not has_chains(text)


def test_chains_are_looked_for_in_our_table():
    chains = [_chain("blocked"), _hook("input"), _hook("forward")]
    assert has_chains(json.dumps({"nftables": [META, *chains]}))
    assert not has_chains(json.dumps({"nftables": [META, *chains[1:]]}))
    chains[0]["chain"]["table"] = "mine"
    assert not has_chains(json.dumps({"nftables": [META, *chains]}))
