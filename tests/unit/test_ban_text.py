from __future__ import annotations

import json
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logguardd.limiter.ban_text import MAX_BAN, decode, encode, key_of, name_of
from logguardd.records import SECOND, Ban

NOW = 1_790_000_000 * SECOND
BAN = Ban(
    ip_network("203.0.113.5"),
    22,
    "auth",
    NOW,
    NOW + 600 * SECOND,
    "6 hits",
    2,
    {"senders": ["web1"], "hits": 6, "w": 0.5},
)
NAME = "203.0.113.5|22"


@pytest.mark.parametrize(
    ("network", "port", "name"),
    [
        ("203.0.113.5", 22, "203.0.113.5|22"),
        ("203.0.113.0/24", 0, "203.0.113.0/24|0"),
        ("2001:db8::/64", 65535, "2001:db8::/64|65535"),
    ],
)
def test_names(network, port, name):
    assert name_of(ip_network(network), port) == name
    assert key_of(name) == (ip_network(network), port)


@pytest.mark.parametrize(
    "name",
    [
        "", "x", "|", "203.0.113.5", "203.0.113.5|", "203.0.113.5|65536", "203.0.113.5|-1", "203.0.113.5|022",
        "203.0.113.5/24|0", "203.0.113.5/32|0", "203.0.113|0", "2001:DB8::1|0", "2001:db8:0::1|0", "::ffff:1.2.3.4|0",
        "fe80::1%eth0|0", "203.0.113.5|22 ", "203.0.113.5|22\n", " 203.0.113.5|22", "203.0.113.5|٢", "a" * 1000 + "|0",
    ],
)  # fmt: skip
def test_what_is_no_name(name):
    with pytest.raises(ValueError):
        key_of(name)


@pytest.mark.parametrize("until", [NOW + SECOND, None])
def test_there_and_back(until):
    ban = Ban(BAN.network, BAN.port, BAN.jail, BAN.since, until, BAN.reason, BAN.count, BAN.evidence)
    assert decode(NAME, encode(ban).encode(), NOW) == ban


def test_what_is_written_is_bounded_and_readable():
    long = Ban(BAN.network, 22, "j" * 100, NOW, NOW + 1, "r\x1b\n" * 1000, 1, {"message": "m" * 100_000})
    text = encode(long).encode()
    assert len(text) <= MAX_BAN
    back = decode(NAME, text, NOW)
    assert (back.jail, back.reason[:4], len(back.reason), back.evidence) == ("j" * 64, "r??r", 512, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "203.0.113.6"},
        {"network": None},
        {"port": 23},
        {"port": True},
        {"port": 22.0},
        {"jail": 5},
        {"jail": "a\x1b[2J"},
        {"jail": "j" * 65},
        {"since": -1},
        {"since": "now"},
        {"since": NOW + 3600 * SECOND},
        {"since": float(NOW)},
        {"until": NOW},
        {"until": NOW + 10**17},
        {"until": True},
        {"reason": "line\nline"},
        {"reason": "\u202egnp"},
        {"reason": None},
        {"count": 0},
        {"count": 10**12},
        {"count": True},
        {"evidence": []},
        {"evidence": {"message": "\x00"}},
        {"evidence": {"\x00": 1}},
        {"evidence": {"message": "\ud800"}},
    ],
    ids=str,
)
def test_what_is_not_sound_is_refused(changes):
    value = json.loads(encode(BAN)) | changes
    with pytest.raises(ValueError):
        decode(NAME, json.dumps(value).encode(), NOW)


@pytest.mark.parametrize("key", ["network", "port", "jail", "since", "until", "reason", "count", "evidence"])
def test_nothing_may_be_missing(key):
    value = json.loads(encode(BAN))
    del value[key]
    with pytest.raises(ValueError):
        decode(NAME, json.dumps(value).encode(), NOW)


def test_more_may_be_there():
    value = json.loads(encode(BAN)) | {"added_later": 1}
    assert decode(NAME, json.dumps(value).encode(), NOW) == BAN


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b"\xff", b'{"since": NaN}', b"[" * 8000, b'{"evidence":' * 600, b"9" * 8000,
        b" " * 10_000, encode(BAN).replace("0.5", "1e999").encode(), encode(BAN).replace("0.5", "NaN").encode(),
        encode(BAN).replace('"senders":["web1"]', '"senders":' + "[" * 1500 + "]" * 1500).encode(),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_ban_at_all(text):
    with pytest.raises(ValueError):
        decode(NAME, text, NOW)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_is_a_ban_or_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(NAME, text, NOW)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(("network", "port", "jail", "since", "until", "reason", "count", "evidence")),
)
def test_any_value_anywhere_is_sound_or_refused(value: object, key: str) -> None:
    text = json.dumps(json.loads(encode(BAN)) | {key: value}).encode()
    try:
        ban = decode(NAME, text, NOW)
    except ValueError:
        return
    assert decode(NAME, encode(ban).encode(), NOW) == ban
