"""However a stream is cut, the same frames come out, and nothing is lost without being counted."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from logguardd.framing import Framer, datagrams
from logguardd.records import Framed

LIMIT = 24

text = st.binary(max_size=40)
line = text.map(lambda b: b.replace(b"\n", b"").replace(b"\0", b""))
piece = st.one_of(
    line.map(lambda b: b + b"\n"),
    line.map(lambda b: b + b"\r\n"),
    line.map(lambda b: b + b"\0"),
    line.map(lambda b: b"<13>" + b + b"\n"),
    text.map(lambda b: b"%d %s" % (len(b), b)),
    text.map(lambda b: b"%d %s\n" % (len(b) + 1, b)),
    st.integers(min_value=0, max_value=10**14).map(lambda n: b"%d " % n),
    st.integers(min_value=0, max_value=10**14).map(lambda n: b"%d" % n),
    text,
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\0", b"1", b" ", b"9999999999 ", b"12345678901 x\n", b"007 x\n"]),
)
streams = st.lists(piece, max_size=12).map(b"".join)


def model(stream: bytes) -> Framed:
    """Say in the plainest way what frames a whole stream holds."""
    frames: list[bytes] = []
    truncated = partial = 0
    while stream:
        if counted := re.match(rb"([1-9][0-9]{0,9}) ", stream):
            count, rest = int(counted[1]), stream[counted.end() :]
            if len(rest) < (count if count <= LIMIT + 2 else LIMIT):
                partial = 1
                break
            frame, stream = rest[:count], rest[count:]
            if count > LIMIT + 2 or len(re.sub(rb"(\r\n|\n|\0)\Z", b"", frame, count=1)) > LIMIT:
                frame = frame[:LIMIT]
                truncated += 1
        else:
            frame, _, stream = re.fullmatch(rb"([^\n\0]*)([\n\0]?)(.*)", stream, re.DOTALL).groups()
            frame = frame.removesuffix(b"\r")
            truncated += len(frame) > LIMIT
            frame = frame[:LIMIT]
            frames.append(frame)
            continue
        frame = re.sub(rb"(\r\n|\n|\0)\Z", b"", frame, count=1)
        frames.append(frame.replace(b"\n", b"#012").replace(b"\0", b"#000"))
    kept = [frame for frame in frames if frame]
    dropped = {"empty": len(frames) - len(kept), "partial": partial}
    return Framed(b"\n".join(kept), len(kept), truncated, {k: v for k, v in dropped.items() if v})


def feed(chunks: list[bytes]) -> Framed:
    """Sum up what a framer gives for the chunks and the end of the stream."""
    framer = Framer(LIMIT)
    parts = [framer.feed(chunk) for chunk in chunks] + [framer.eof()]
    for part in parts:
        assert part.number == (part.frames.count(b"\n") + 1 if part.frames else 0)
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, number in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
    frames = b"\n".join(part.frames for part in parts if part.number)
    return Framed(frames, sum(p.number for p in parts), sum(p.truncated for p in parts), dropped)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@given(streams, st.lists(st.integers(min_value=0, max_value=10**6), max_size=8))
@example(b"x" * LIMIT + b"\r\n", [LIMIT + 1])
@example(b"x" * LIMIT + b"\ry\n", [LIMIT + 1])
@example(b"<1>a\n<1>b\r\n\r\n<1>c\n5 a\nb\0\n5", [])
@example(b"26 " + b"x" * LIMIT + b"\r\n" + b"25 " + b"x" * LIMIT + b"\n" + b"25 " + b"x" * 25 + b"<1>after\n", [])
@example(b"30 " + b"\n" * 30 + b"<1>after\n", [])
def test_same_frames_however_cut(stream: bytes, places: list[int]) -> None:
    expected = model(stream)
    assert feed([stream]) == expected
    assert feed([bytes([byte]) for byte in stream]) == expected
    assert feed(cut(stream, places)) == expected


@given(st.lists(st.one_of(text, piece), max_size=8))
def test_a_datagram_is_a_frame_or_counted(payloads: list[bytes]) -> None:
    framed = datagrams(payloads, LIMIT)
    assert framed.number + sum(framed.dropped.values()) == len(payloads)
    assert framed.number == (framed.frames.count(b"\n") + 1 if framed.frames else 0)
    assert b"\0" not in framed.frames
    assert framed.truncated <= len(payloads)


@given(st.binary(max_size=200))
def test_holds_no_more_than_a_message(stream: bytes) -> None:
    framer = Framer(LIMIT)
    for byte in stream:
        framer.feed(bytes([byte]))
        assert len(framer._pending) <= LIMIT + len("9999999999 \r\n")
