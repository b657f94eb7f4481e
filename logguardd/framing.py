"""Bytes to frames: syslog over streams (RFC 6587) and datagrams (RFC 5426).

Whatever a sender does, a frame comes out as one line: an LF inside it is written ``#012`` and a NUL ``#000``. The usual
read, some hundred LF frames, costs a handful of C calls; only octet-counted and odd frames are looked at one by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.records import Framed

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTHING = Framed(b"", 0)

# What a chunk of LF frames must not hold to be taken as it is: a frame starting with a count, an empty frame.
_SPECIAL = re.compile(rb"\n[1-9\n]").search
_COUNTED = re.compile(rb"\n[1-9]").search

# RFC 6587 section 3.4.1: MSG-LEN = NONZERO-DIGIT *DIGIT, then SP. Ten digits are enough for any honest message.
_COUNT = re.compile(rb"([1-9][0-9]{0,9})(?: |\Z)").match
_DIGITS = frozenset(b"123456789")

_CR, _NUL = 13, 0
_LONGEST_TRAILER = len(b"\r\n")
_TO_LINE_END = -1


class Framer:
    """The frames of one stream connection (RFC 6587), however its bytes are cut.

    Framing is detected per frame: a count of at most ten digits that does not begin with 0, then a space, is octet
    counting (section 3.4.1); anything else ends at LF, CRLF or NUL (section 3.4.2). One such trailer inside an
    octet-counted frame is removed. A frame of more than ``max_message`` bytes without it is kept truncated, its rest
    skipped and never buffered. Holds at most about ``max_message`` bytes between calls.
    """

    __slots__ = ("_max", "_need", "_pending", "_skip")

    def __init__(self, max_message: int) -> None:
        self._max = max_message
        self._pending = bytearray()  # the beginning of a frame that is not complete
        self._need = 0  # bytes that the pending frame must have to go on; 0: its trailer
        self._skip = 0  # bytes of a truncated frame still to come, or _TO_LINE_END

    def feed(self, data: bytes) -> Framed:
        """Take the next bytes of the stream; return the frames that they complete."""
        if self._skip:
            data = self._skipped(data)
        if self._pending:
            if self._incomplete(data):
                self._pending += data
                return _NOTHING
            data = b"".join((self._pending, data))
            self._pending = bytearray()
        return self._split(data) if data else _NOTHING

    def eof(self) -> Framed:
        """Take the end of the stream: a partial LF frame is a frame, a partial octet-counted one is dropped."""
        frame = bytes(self._pending)
        partial = self._need and not frame.isdigit()
        self._pending = bytearray()
        self._need = self._skip = 0
        if not frame:
            return _NOTHING
        if partial:
            return Framed(b"", 0, 0, {"partial": 1})
        frame = frame.removesuffix(b"\r")
        return _framed([frame[: self._max]], int(len(frame) > self._max))

    def _skipped(self, data: bytes) -> bytes:
        """Return what follows the frame that is being skipped."""
        if self._skip != _TO_LINE_END:
            rest = data[self._skip :]
            self._skip = max(0, self._skip - len(data))
            return rest
        ends = [end for end in (data.find(b"\n"), data.find(b"\0")) if end >= 0]
        if not ends:
            return b""
        self._skip = 0
        return data[min(ends) + 1 :]

    def _incomplete(self, data: bytes) -> bool:
        """Whether the pending frame stays incomplete with ``data``, told without copying what is pending."""
        size = len(self._pending) + len(data)
        if self._need:
            return size < self._need
        return size <= self._max and b"\n" not in data and b"\0" not in data

    def _split(self, data: bytes) -> Framed:
        """Return the frames in ``data``, which starts at a frame's start; keep the incomplete one."""
        if b"\0" in data and data[0] not in _DIGITS:
            plain = data.replace(b"\0", b"\n")
            if not _COUNTED(plain):  # in a counted frame a NUL ends nothing
                data = plain
        lines = self._lines(data)
        frames: list[bytes] = []
        if lines is None:
            return _framed(frames, self._scan(data, 0, frames))
        start = data.rfind(b"\n") + 1
        if start == len(data):
            return lines
        truncated = self._scan(data, start, frames)
        return _joined(lines, _framed(frames, truncated)) if frames else lines

    def _lines(self, data: bytes) -> Framed | None:
        """Return the frames up to the last LF at once where all are plain lines, or None where that is not so."""
        end = data.rfind(b"\n")
        if end < 0 or data[0] in _DIGITS or b"\0" in data:
            return None
        if b"\r" in data:
            data = data[: end + 1].replace(b"\r\n", b"\n")
            end = len(data) - 1
        dropped = {}
        if data[0] == ord("\n") or _SPECIAL(data, 0, end + 1):
            if _COUNTED(data, 0, end + 1):
                return None
            every = data[:end].split(b"\n")
            kept = [line for line in every if line]
            data, number = b"\n".join(kept), len(kept)
            dropped = {"empty": len(every) - number} if number < len(every) else {}
        else:
            data = data[:end]
            number = data.count(b"\n") + 1
        return None if self._too_long(data) else Framed(data, number, 0, dropped)

    def _too_long(self, lines: bytes) -> bool:
        """Whether a line is longer than max_message: hop from LF to LF, each time as far as one message may reach."""
        start, size = 0, len(lines)
        while size - start > self._max:
            start = lines.rfind(b"\n", start, start + self._max + 1) + 1
            if not start:
                return True
        return False

    def _scan(self, data: bytes, start: int, frames: list[bytes]) -> int:
        """Append the frames from ``start`` on, one by one; keep the incomplete one. Return how many were truncated."""
        limit, size, truncated = self._max, len(data), 0
        longest = limit + _LONGEST_TRAILER
        find = data.find
        lf = nul = -1  # the next LF and NUL that are not before start, size for none
        while start < size:
            if data[start] in _DIGITS and (counted := _COUNT(data, start)):
                first = counted.end()
                if first == counted.end(1):  # more digits or the space may follow
                    return self._keep(data[start:], first - start + 1, truncated)
                count = int(counted[1])
                kept = count if count <= longest else limit
                if first + kept > size:
                    return self._keep(data[start:], first - start + kept, truncated)
                frame = data[first : first + kept]
                start = first + count
                if count > limit and (kept < count or _too_long(frame, limit)):
                    frame = frame[:limit]
                    truncated += 1
                    self._skip = max(0, start - size)
                frames.append(frame)
                continue
            if lf < start:
                lf = find(b"\n", start) % (size + 1)  # modulo: -1 becomes size
            if nul < start:
                nul = find(b"\0", start) % (size + 1)
            end = min(lf, nul)
            stop = end - 1 if end > start and data[end - 1] == _CR else end
            if stop - start > limit:
                truncated += 1
                self._skip = _TO_LINE_END if end == size else 0
            elif end == size:
                return self._keep(data[start:], 0, truncated)
            frames.append(data[start : min(stop, start + limit)])
            start = end + 1
        return truncated

    def _keep(self, rest: bytes, need: int, truncated: int) -> int:
        self._pending = bytearray(rest)
        self._need = need
        return truncated


def datagrams(payloads: Sequence[bytes], max_message: int) -> Framed:
    """Return the frames in the datagrams of one peer: one each (RFC 5426 section 3.1), without one LF, CRLF or NUL.

    An LF and a NUL, as Perl's Sys::Syslog ends them, are one trailer.
    An octet count before the message, which RFC 5426 does not know but some senders write, is removed only where it
    equals the length of the rest. Longer messages than ``max_message`` bytes are truncated.
    """
    return messages(
        [_bare(each) if each and (each[0] in _DIGITS or each[-1] == _NUL) else each for each in payloads], max_message
    )


def messages(payloads: Sequence[bytes], max_message: int) -> Framed:
    """Return the frames of messages that came one by one (RELP): one each, without one LF, CRLF or NUL at the end.

    Longer messages than ``max_message`` bytes are truncated.
    """
    frames = []
    truncated = 0
    for payload in payloads:
        if _too_long(payload, max_message):
            frames.append(payload[:max_message])
            truncated += 1
        else:
            frames.append(payload)
    return _framed(frames, truncated)


def _bare(payload: bytes) -> bytes:
    count = _COUNT(payload)
    if count and int(count[1]) == len(payload) - count.end():
        payload = payload[count.end() :]
    return payload[:-1] if payload.endswith(b"\n\0") else payload


def _framed(frames: list[bytes], truncated: int) -> Framed:
    """Join frames: trailers off, one line each, empty ones dropped."""
    if not frames:
        return Framed(b"", 0, truncated) if truncated else _NOTHING
    joined = b"\n".join(frames)
    number = len(frames)
    if b"\0" in joined or joined.count(b"\n") != number - 1:
        frames = [_one_line(frame) for frame in frames]
        joined = b"\n".join(frames)
    if all(frames):
        return Framed(joined, number, truncated)
    kept = [frame for frame in frames if frame]
    return Framed(b"\n".join(kept), len(kept), truncated, {"empty": number - len(kept)})


def _joined(first: Framed, second: Framed) -> Framed:
    """Join what two parts of one read gave."""
    dropped = {
        reason: first.dropped.get(reason, 0) + second.dropped.get(reason, 0)
        for reason in (*first.dropped, *second.dropped)
    }
    frames = b"\n".join(part.frames for part in (first, second) if part.number)
    return Framed(frames, first.number + second.number, first.truncated + second.truncated, dropped)


def _too_long(frame: bytes, limit: int) -> bool:
    """Whether a frame is longer than ``limit`` bytes, be it without its trailer."""
    return len(frame) > limit and len(_without_trailer(frame)) > limit


def _without_trailer(frame: bytes) -> bytes:
    if frame.endswith(b"\r\n"):
        return frame[:-2]
    return frame[:-1] if frame.endswith((b"\n", b"\0")) else frame


def _one_line(frame: bytes) -> bytes:
    return _without_trailer(frame).replace(b"\n", b"#012").replace(b"\0", b"#000")
