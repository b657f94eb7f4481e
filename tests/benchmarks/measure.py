"""What the benchmarks share: servers in a temporary folder, and clocks."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.postgres import PostgreSQL
from tests.servers.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers, a folder, and how many messages a run sends."""

    folder: Path
    postgres: PostgreSQL
    redis: Redis
    messages: int


@contextlib.contextmanager
def servers(messages: int) -> Iterator[Bench]:
    """Run a PostgreSQL (durable, as installed) and a Redis for the benchmarks."""
    with tempfile.TemporaryDirectory(prefix="logguardd-bench-") as name:
        folder = Path(name)
        postgres, redis = PostgreSQL(fsync="on"), Redis(folder)
        try:
            postgres.start()
            redis.start()
            yield Bench(folder, postgres, redis, messages)
        finally:
            postgres.close()
            redis.stop()


def until(done: Callable[[], bool], *, timeout: float, what: str) -> float:
    """Poll until done; return the time.monotonic() at which it was; raise TimeoutError."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(0.02)
    return time.monotonic()


def peak_memory(pid: int) -> float:
    """Return the peak resident size of a process in MiB (VmHWM, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
