"""Reads cut where a test wants them: a transport in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def pieces(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut data into pieces of these sizes, the last one taking the rest."""
    cut, position = [], 0
    for size in sizes:
        if position >= len(data):
            break
        cut.append(data[position : position + size])
        position += size
    return [*cut, data[position:]] if position < len(data) else cut


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it: with it a test decides where the reads are cut."""

    def __init__(self) -> None:
        super().__init__({"peername": ("::ffff:192.0.2.1", 5000, 0, 0)})
        self.written = bytearray()
        self.closed = False

    def write(self, data) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self.closed

    resume_reading = pause_reading

    def can_write_eof(self) -> bool:
        return True
