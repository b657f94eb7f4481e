"""Network namespaces of the test's own, joined by veth pairs."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING

from tests.servers.process import need, need_root, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = itertools.count(1)


class Netns:
    """One network namespace with loopback up."""

    def __init__(self) -> None:
        need_root()
        (self.ip,) = need("ip")
        self.name = f"lg{os.getpid()}n{next(_NUMBERS)}"
        made = subprocess.run([self.ip, "netns", "add", self.name], capture_output=True, text=True, check=False)
        if made.returncode:
            unavailable(f"no network namespaces here: {made.stderr.strip()}")
        self.run("ip", "link", "set", "lo", "up")

    def argv(self, *argv: str) -> list[str]:
        """Return the command line that runs ``argv`` inside."""
        return [self.ip, "netns", "exec", self.name, *argv]

    def run(
        self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; return what it printed."""
        done = subprocess.run(
            self.argv(*argv),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{argv} in {self.name}: {done.stdout}{done.stderr}")
        return done

    def connect(self, other: Netns, mine: Sequence[str], theirs: Sequence[str]) -> None:
        """Join two namespaces; ``mine`` and ``theirs`` are addresses with prefix length, e.g. 192.0.2.1/24."""
        number = next(_NUMBERS)
        here, there = f"v{number}a", f"v{number}b"
        subprocess.run(
            [self.ip, "link", "add", here, "netns", self.name, "type", "veth", "peer", "name", there, "netns", other.name],
            check=True, capture_output=True,
        )  # fmt: skip
        for space, device, addresses in ((self, here, mine), (other, there, theirs)):
            for address in addresses:
                space.run("ip", "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
            space.run("ip", "link", "set", device, "up")

    def delete(self) -> None:
        subprocess.run([self.ip, "netns", "del", self.name], capture_output=True, check=False)
