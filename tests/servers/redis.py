"""A private Redis."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.servers.process import Child, free_port, need, wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Redis:
    """One redis-server without persistence; it can be stopped and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.server, self.cli = need("redis-server", "redis-cli")
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.child = Child(
            [self.server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self.folder), *self.options],
            self.folder / "redis.log",
        )  # fmt: skip
        wait_until(lambda: self.command("PING") == "PONG", what="redis-server answering")

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.alive()

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [self.cli, "-p", str(self.port), *words], capture_output=True, text=True, timeout=10, check=False
        )
        return done.stdout.strip()

    def flush(self) -> None:
        self.command("FLUSHALL")
