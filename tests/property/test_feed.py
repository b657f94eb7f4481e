"""Whatever bytes come, a feed's decoder gives events or raises FeedError; what was encoded comes back."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from logguardd import feed
from logguardd.errors import FeedError
from logguardd.records import Ban

HELLO = b"".join(feed.hello(0, "x"))

networks = st.one_of(
    st.integers(0, 32).flatmap(lambda n: st.integers(0, 2**n - 1).map(lambda x: IPv4Network((x << 32 - n, n)))),
    st.integers(0, 128)
    .flatmap(lambda n: st.integers(0, 2**n - 1).map(lambda x: IPv6Network((x << 128 - n, n))))
    .filter(lambda network: int(network.network_address) >> 32 != 0xFFFF),
)
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64)
bans = st.builds(
    Ban,
    network=networks,
    port=st.integers(0, 65535),
    jail=words,
    since=st.just(0),
    until=st.none() | st.integers(0, 2**63 - 1),
    reason=words,
)
keys = st.tuples(networks, st.integers(0, 65535))
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3))
fields = st.sampled_from(
    [
        "type",
        "version",
        "software",
        "now",
        "bans",
        "more",
        "add",
        "remove",
        "network",
        "port",
        "until",
        "jail",
        "reason",
    ]
)
types = st.sampled_from(["hello", "snapshot", "change", "heartbeat"])
items = st.lists(st.dictionaries(fields, values | st.sampled_from(["192.0.2.1", "::/0"])), max_size=2)
objects = st.dictionaries(fields, values | items).flatmap(lambda d: types.map(lambda t: d | {"type": t}))


@st.composite
def feeds(draw):
    lines = [*feed.hello(draw(st.integers(0, 2**62)), draw(words)), *feed.snapshot(draw(st.lists(bans, max_size=4)))]
    for _ in range(draw(st.integers(0, 3))):
        lines += feed.change(draw(st.lists(bans, max_size=3)), draw(st.lists(keys, max_size=3)))
        lines += feed.heartbeat(draw(st.integers(0, 2**62)))
    return b"".join(lines)


def outcome(chunks):
    """Return the events, and what is wrong with the first line that is not valid."""
    decoder = feed.Decoder()
    events = []
    try:
        for chunk in chunks:
            events += decoder.feed(chunk)
    except FeedError as error:
        return str(error)
    return events


@given(st.binary(max_size=200) | objects.map(lambda o: json.dumps(o).encode()))
def test_a_line_is_an_event_or_a_feed_error(line):
    result = outcome([HELLO + line + b"\n"])
    if isinstance(result, str):
        assert result.startswith("line ")
        assert len(result) < 300
        assert result.isprintable()


@given(feeds(), st.data())
def test_a_mutated_feed_is_events_or_a_feed_error(data, draw):
    at = draw.draw(st.integers(0, len(data)))
    until = draw.draw(st.integers(at, min(len(data), at + 20)))
    outcome([data[:at] + draw.draw(st.binary(max_size=10)) + data[until:]])


@given(feeds(), st.lists(st.integers(0, 2000)))
def test_however_a_feed_is_cut_the_same_events_come_out(data, cuts):
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert outcome(chunks) == outcome([data])
    assert isinstance(outcome([data]), list)


@given(st.lists(bans, max_size=5), st.lists(keys, max_size=5))
def test_what_is_encoded_is_decoded(some, gone):
    begin = [*feed.hello(0, "x"), *feed.snapshot(some)]
    events = outcome([b"".join([*begin, *feed.change(some, gone)])])
    assert list(events[1].bans) == some
    assert [key for event in events[2:] for key in event.remove] == gone
    assert [ban for event in events[2:] for ban in event.add] == some
