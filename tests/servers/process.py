"""What every private server needs: a free port, polling, and a child process that ends with its test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody uses now, from below those that the kernel gives to clients (ip(7)): it stays free."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("", port))
            return port


def need(*programs: str, folders: Sequence[str] = ("/usr/sbin", "/sbin", "/usr/lib/postgresql/15/bin")) -> list[str]:
    """Return the paths of programs; where one is missing skip with the reason, or fail on CI."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders, *_postgres_folders()])
    found = [shutil.which(program, path=path) for program in programs]
    missing = [program for program, where in zip(programs, found, strict=True) if where is None]
    if missing:
        unavailable(f"not installed: {', '.join(missing)} (`scripts/setup.sh test` installs it)")
    return [str(where) for where in found]


def unavailable(reason: str) -> None:
    """Skip the test for this reason on a laptop; fail it on CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need_root() -> None:
    """Skip (or fail on CI) unless root: namespaces and other users' servers need it."""
    if os.geteuid() != 0:
        unavailable("needs root (sudo make test)")


def _postgres_folders() -> list[str]:
    return [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def wait_until(condition: Callable[[], object], *, timeout: float = 20.0, what: str = "the condition") -> object:
    """Poll until ``condition()`` is true and return what it gave; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout} s; last: {result!r}")
        time.sleep(0.02)


class Child:
    """A child process with its output in a file; ended by its own process id only."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with log.open("ab") as output:
            self._before = output.tell()  # of a child that wrote there earlier
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=cwd
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_bytes()[self._before :].decode(errors="replace")

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Send a signal, wait, kill if it does not end; return the exit status."""
        if self.alive():
            self.process.send_signal(sig)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            pytest.fail(f"{self.argv[0]} did not end within {timeout} s after signal {sig}:\n{self.output()[-2000:]}")

    def kill(self) -> None:
        """kill -9."""
        if self.alive():
            self.process.kill()
        self.process.wait(10)
