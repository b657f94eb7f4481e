"""The ban feed's lines, as written down in the module."""

import json
from ipaddress import ip_network

import pytest

from logguardd import feed
from logguardd.errors import FeedError
from logguardd.feed import Change, Decoder, Heartbeat, Hello, Snapshot
from logguardd.records import Ban

NOW = 1_790_000_000_000_000


def ban(network="192.0.2.1", port=0, until=NOW + 300_000_000, jail="auth", reason=""):
    return Ban(ip_network(network), port, jail, 0, until, reason)


BANS = [
    ban(),
    ban(port=22, reason="101 hits in 60 s"),
    ban("10.0.0.0/8", until=None),
    ban("2001:db8::/64", 65535, jail="flood"),
]
HELLO = b'{"type":"hello","version":1,"software":"logguardd 0.1.0","now":1790000000000000}\n'
EMPTY = b'{"type":"snapshot","bans":[],"more":false}\n'


def test_the_lines_are_those_of_the_description():
    assert b"".join(feed.hello(NOW, "logguardd 0.1.0")) == HELLO
    assert b"".join(feed.heartbeat(NOW)) == b'{"type":"heartbeat","now":1790000000000000}\n'
    assert b"".join(feed.snapshot([])) == EMPTY
    assert b"".join(feed.snapshot(BANS[1:3])) == (
        b'{"type":"snapshot","bans":[{"network":"192.0.2.1","port":22,"until":1790000300000000,"jail":"auth",'
        b'"reason":"101 hits in 60 s"},{"network":"10.0.0.0/8","port":0,"until":null,"jail":"auth"}],"more":false}\n'
    )
    assert b"".join(feed.change([], [(ip_network("192.0.2.1"), 22)])) == (
        b'{"type":"change","add":[],"remove":[{"network":"192.0.2.1","port":22}]}\n'
    )
    assert list(feed.change([], [])) == []


def test_what_is_encoded_is_decoded():
    keys = [(ip_network("192.0.2.9"), 0), (ip_network("2001:db8::/48"), 443)]
    lines = [*feed.hello(NOW, "x"), *feed.snapshot(BANS), *feed.change(BANS, keys), *feed.heartbeat(NOW + 1)]
    assert Decoder().feed(b"".join(lines)) == [
        Hello(1, "x", NOW),
        Snapshot(tuple(BANS), more=False),
        Change((), tuple(keys)),
        Change(tuple(BANS), ()),
        Heartbeat(NOW + 1),
    ]


def test_a_long_snapshot_comes_in_lines_of_bounded_length():
    bans = [ban(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", reason="\x00é" * 400) for n in range(5000)]
    lines = list(feed.snapshot(bans))
    assert len(lines) > 5
    assert max(map(len, lines)) < feed.MAX_LINE / 4
    events = Decoder().feed(HELLO + b"".join(lines))[1:]
    assert [event.more for event in events] == [True] * (len(lines) - 1) + [False]
    assert [found.key for event in events for found in event.bans] == [one.key for one in bans]
    assert events[0].bans[0].reason == "?é" * (feed.MAX_REASON // 2)


def test_a_line_may_come_in_any_pieces():
    data = HELLO + b"".join(feed.snapshot(BANS))
    decoder = Decoder()
    events = [event for n in range(len(data)) for event in decoder.feed(data[n : n + 1])]
    assert events == Decoder().feed(data)


def test_unknown_keys_are_left_alone():
    line = b'{"type":"snapshot","bans":[{"network":"192.0.2.1","port":0,"until":1,"jail":"a","since":5}],"more":false,"x":[1]}'
    assert feed.decode(line) == Snapshot((ban(until=1, jail="a"),), more=False)


BAN = {"network": "192.0.2.1", "port": 0, "until": 1, "jail": "a"}


def _snapshot(**changes):
    item = BAN | changes
    return json.dumps({"type": "snapshot", "more": False, "bans": [BAN, {k: v for k, v in item.items() if v != ...}]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 10_000, "not JSON"),
        ('{"type":"heartbeat","now":NaN}', "not JSON: NaN is not JSON"),
        ("{}", "type: None is not hello"),
        ('{"type":"ban"}', "type: 'ban' is not hello"),
        ('{"type":["x"]}', "type: list is not hello"),
        ('{"type":"hello","version":2,"software":"x","now":0}', "version: 2 is not spoken here; only 1 is"),
        ('{"type":"hello","version":true,"software":"x","now":0}', "version: must be a whole number"),
        ('{"type":"hello","version":1,"now":0}', "software: must be text"),
        ('{"type":"heartbeat","now":1.0}', "now: must be a whole number"),
        ('{"type":"heartbeat","now":-1}', "now: must be a whole number"),
        ('{"type":"heartbeat","now":9223372036854775808}', "now: must be a whole number"),
        ('{"type":"snapshot","bans":[]}', "more: must be true or false"),
        ('{"type":"snapshot","bans":{},"more":false}', "bans: must be a list"),
        ('{"type":"snapshot","bans":[1],"more":false}', r"bans\[0\]: must be an object"),
        ('{"type":"change","add":[]}', "remove: must be a list"),
        (
            '{"type":"change","add":[],"remove":[{"network":"x","port":0}]}',
            r"remove\[0\]: network: 'x' is not an address",
        ),
        (_snapshot(network=...), r"bans\[1\]: network: must be text"),
        (_snapshot(network=17), r"bans\[1\]: network: must be text"),
        (
            _snapshot(network="192.0.2.1/32"),
            r"bans\[1\]: network: '192.0.2.1/32' is not an address or prefix in canonical",
        ),
        (_snapshot(network="9" * 1000), r"network: '9{59}\.\.\. is not"),
        (_snapshot(port=65536), "port: must be a whole number from 0 to 65535"),
        (_snapshot(port=-1), "port: must be"),
        (_snapshot(port=True), "port: must be"),
        (_snapshot(port="22"), "port: must be"),
        (_snapshot(until=...), "until: must be"),
        (_snapshot(until=1.5), "until: must be"),
        (_snapshot(until=1 << 63), "until: must be"),
        (_snapshot(jail=...), "jail: must be text"),
        (_snapshot(jail="a" * 65), "jail: must be at most 64 printable characters"),
        (_snapshot(jail="a\n"), "jail: must be at most 64 printable characters"),
        (_snapshot(reason=None), "reason: must be text"),
        (_snapshot(reason="\ud800"), "reason: must be at most 512 printable"),
        (" " * feed.MAX_LINE + "{}", "longer than 1048576 bytes"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line, message):
    with pytest.raises(FeedError, match=rf"^line 7: .*{message}"):
        feed.decode(line.encode(), 7)


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(FeedError, match=r"line 1: not JSON: .*utf-8"):
        feed.decode(b'{"type":"heartbeat\xff"}')


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([EMPTY], "line 1: the feed must begin with a hello"),
        ([HELLO, HELLO], "line 2: a second hello"),
        ([HELLO, *feed.change(BANS)], "line 2: a change before the snapshot's end"),
        ([HELLO, EMPTY.replace(b"false", b"true"), *feed.change(BANS)], "line 3: a change before the snapshot's end"),
        ([HELLO, EMPTY, EMPTY.replace(b"false", b"true"), *feed.change(BANS)], "line 4: a change before"),
        ([HELLO, EMPTY, b"x" * feed.MAX_LINE], "line 3: longer than 1048576 bytes"),
        ([HELLO, b"\n"], "line 2: not JSON"),
    ],
)
def test_lines_out_of_order_are_refused(lines, message):
    with pytest.raises(FeedError, match=message):
        Decoder().feed(b"".join(lines))


def test_heartbeats_may_come_between_and_snapshots_again():
    beat = b"".join(feed.heartbeat(NOW))
    more = EMPTY.replace(b"false", b"true")
    events = Decoder().feed(HELLO + beat + more + beat + EMPTY + b"".join(feed.change(BANS)) + EMPTY + beat)
    assert len(events) == 8
