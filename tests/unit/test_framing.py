"""Framing by example: RFC 6587 for streams, RFC 5426 for datagrams."""

from __future__ import annotations

import pytest

from logguardd.framing import Framer, datagrams
from logguardd.records import Framed

LIMIT = 100


def stream(*chunks: bytes, limit: int = LIMIT) -> tuple[list[bytes], int, dict[str, int]]:
    """Feed chunks and the end of the stream; return frames, how many were truncated, and what was dropped."""
    framer = Framer(limit)
    frames: list[bytes] = []
    truncated = 0
    dropped: dict[str, int] = {}
    for part in [framer.feed(chunk) for chunk in chunks] + [framer.eof()]:
        frames += part.frames.split(b"\n") if part.number else []
        truncated += part.truncated
        dropped.update(part.dropped)
    return frames, truncated, dropped


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"<13>one\n<13>two\n", [b"<13>one", b"<13>two"]),
        (b"<13>one\r\n<13>two\r\n", [b"<13>one", b"<13>two"]),
        (b"<13>one\0<13>two\0", [b"<13>one", b"<13>two"]),
        (b"<13>carriage\rreturn\n", [b"<13>carriage\rreturn"]),
        (b"7 <13>one7 <13>two", [b"<13>one", b"<13>two"]),
        (b"8 <13>one\n9 <13>two\r\n8 <13>six\0", [b"<13>one", b"<13>two", b"<13>six"]),
        (b"<13>lf\n9 <13>count<13>lf again\n", [b"<13>lf", b"<13>count", b"<13>lf again"]),
        (b"20 <13>two\nlines\n\0ends\n", [b"<13>two#012lines#012#000ends"]),
        (b"0 <13>no count\n", [b"0 <13>no count"]),
        (b"007 <13>one\n", [b"007 <13>one"]),
        (b"12x <13>one\n", [b"12x <13>one"]),
        (b"12345678901 eleven digits\n", [b"12345678901 eleven digits"]),
        (b"<13>partial", [b"<13>partial"]),
        (b"<13>partial\r", [b"<13>partial"]),
        (b"12", [b"12"]),
        (b"12\n", [b"12"]),
    ],
)
def test_frames_of_a_stream(data: bytes, frames: list[bytes]) -> None:
    assert stream(data) == (frames, 0, {})


def test_lf_after_an_octet_counted_frame_is_an_empty_frame() -> None:
    assert stream(b"7 <13>one\n7 <13>two\n") == ([b"<13>one", b"<13>two"], 0, {"empty": 2})


def test_empty_frames_are_counted() -> None:
    assert stream(b"\n\r\n<13>one\n\n\n<13>two\n\n") == ([b"<13>one", b"<13>two"], 0, {"empty": 5})
    assert stream(b"1 \n<13>one\n") == ([b"<13>one"], 0, {"empty": 1})


@pytest.mark.parametrize("data", [b"50 <13>cut", b"50 ", b"101 <13>cut", b"9999999999 x"])
def test_partial_octet_frame_is_dropped_at_the_end(data: bytes) -> None:
    assert stream(data) == ([], 0, {"partial": 1})


def test_empty_stream() -> None:
    assert stream(b"") == ([], 0, {})


@pytest.mark.parametrize("trailer", [b"\n", b"\r\n", b"\0"])
def test_longest_line_is_kept_whole(trailer: bytes) -> None:
    line = b"x" * LIMIT
    assert stream(line + trailer + b"next\n") == ([line, b"next"], 0, {})
    assert stream(line + b"y" + trailer + b"next\n") == ([line, b"next"], 1, {})


def test_over_long_line_comes_out_before_its_end() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"x" * (LIMIT + 1)) == Framed(b"x" * LIMIT, 1, 1)
    assert framer.feed(b"x" * 1_000_000) == Framed(b"", 0)
    assert framer.feed(b"\n<13>next\n") == Framed(b"<13>next", 1)


def test_over_long_octet_frame_is_skipped_without_buffering() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"9000000000 " + b"x" * (LIMIT - 1)) == Framed(b"", 0)
    assert framer.feed(b"xy") == Framed(b"x" * LIMIT, 1, 1)
    assert framer.feed(b"<13>inside\n" * 1000) == Framed(b"", 0)
    assert len(framer._pending) == 0
    assert framer.eof() == Framed(b"", 0)


def test_frames_after_an_over_long_octet_frame() -> None:
    assert stream(b"150 " + b"x" * 150 + b"5 <13>a") == ([b"x" * LIMIT, b"<13>a"], 1, {})


@pytest.mark.parametrize("trailer", [b"\n", b"\r\n", b"\0", b""])
def test_longest_octet_frame_is_kept_whole(trailer: bytes) -> None:
    line = b"x" * LIMIT + trailer
    assert stream(b"%d %s<13>next\n" % (len(line), line)) == ([b"x" * LIMIT, b"<13>next"], 0, {})
    line = b"x" * (LIMIT + 1) + trailer
    assert stream(b"%d %s<13>next\n" % (len(line), line)) == ([b"x" * LIMIT, b"<13>next"], 1, {})


def test_one_trailer_is_removed() -> None:
    line = b"x" * (LIMIT - 1) + b"\n\n"
    assert stream(b"%d %s" % (len(line), line)) == ([b"x" * (LIMIT - 1) + b"#012"], 0, {})
    assert datagrams([line], LIMIT) == Framed(b"x" * (LIMIT - 1) + b"#012", 1)


def test_over_long_line_among_many() -> None:
    lines = [b"<13>short"] * 50 + [b"x" * 101] + [b"<13>short"] * 50
    frames = [line[:LIMIT] for line in lines]
    assert stream(b"\n".join(lines) + b"\n") == (frames, 1, {})


def test_limit_below_the_digits_of_a_count() -> None:
    assert stream(b"1234567", limit=4) == ([b"1234"], 1, {})


@pytest.mark.parametrize(
    ("payload", "frame"),
    [
        (b"<13>one", b"<13>one"),
        (b"<13>one\n", b"<13>one"),
        (b"<13>one\r\n", b"<13>one"),
        (b"<13>one\0", b"<13>one"),
        (b"<13>one\n\0", b"<13>one"),  # Perl's Sys::Syslog
        (b"<13>one\r\n\0", b"<13>one"),
        (b"9 <13>one\n\0", b"<13>one"),
        (b"<13>one\n\n\0", b"<13>one#012"),
        (b"<13>one\0\n", b"<13>one#000"),
        (b"<13>one\n<13>forged", b"<13>one#012<13>forged"),
        (b"<13>a\0b", b"<13>a#000b"),
        (b"7 <13>one", b"<13>one"),
        (b"8 <13>one\n", b"<13>one"),
        (b"7 <13>one\n", b"7 <13>one"),
        (b"6 <13>one", b"6 <13>one"),
        (b"99999999999999999999 x", b"99999999999999999999 x"),
        (b"x" * LIMIT + b"\r\n", b"x" * LIMIT),
        (b"x" * LIMIT + b"\n\0", b"x" * LIMIT),
    ],
)
def test_a_datagram_is_a_message(payload: bytes, frame: bytes) -> None:
    assert datagrams([payload], LIMIT) == Framed(frame, 1)
    assert datagrams([b"<13>before", payload, b"<13>after"], LIMIT).frames.split(b"\n") == [
        b"<13>before",
        frame,
        b"<13>after",
    ]


def test_datagrams_truncated_and_empty() -> None:
    assert datagrams([b"x" * 101, b"", b"\n", b"<13>a"], LIMIT) == Framed(b"x" * LIMIT + b"\n<13>a", 2, 1, {"empty": 2})
    assert datagrams([], LIMIT) == Framed(b"", 0)
    assert datagrams([b""], LIMIT) == Framed(b"", 0, 0, {"empty": 1})
