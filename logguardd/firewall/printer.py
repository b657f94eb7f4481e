"""Bans as text: exactly the commands that a backend would run, written to a file and not run.

What is written is a shell script: a later ``sh FILE`` on a machine does what the backend would have done there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd.errors import FirewallError
from logguardd.firewall.ipset import Ipset
from logguardd.firewall.iptables import Iptables
from logguardd.firewall.nftables import Nftables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.firewall.commands import Command
    from logguardd.records import Ban

#: What a printer can print, by name.
DIALECTS = {"nftables": Nftables, "iptables": Ipset, "iptables-plain": Iptables}


class Writer:
    """A runner that writes commands to ``output``: a file, appended to, or "-" for standard output."""

    blind = True

    def __init__(self, output: str) -> None:
        self._output = output

    async def run(self, command: Command) -> None:
        """Write the command; raise errors.FirewallError if that fails."""
        try:
            self._write(str(command))
        except OSError as error:
            raise FirewallError(f"{self._output}: cannot be written: {error.strerror}") from None

    def _write(self, text: str) -> None:
        if self._output == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        # Opened each time, so that the file may be rotated or removed.
        with Path(self._output).open("a", encoding="ascii") as file:
            file.write(text)

    async def ask(self, command: Command) -> None:  # noqa: ARG002 - a Runner's
        """Know nothing of the kernel: a printer writes what a machine without any of our sets needs."""
        return


class Printer:
    """The print backend: the commands of ``dialect`` (one of DIALECTS) to ``output``; see firewall.Firewall."""

    def __init__(self, output: str, dialect: str = "nftables") -> None:
        self._backend = DIALECTS[dialect](Writer(output))

    async def sync(self, bans: Sequence[Ban], now: int) -> None:
        """Write what makes everything anew with the active ``bans``."""
        await self._backend.sync(bans, now)

    async def apply(self, add: Sequence[Ban], remove: Sequence[Ban], now: int) -> None:
        """Write what adds, extends and removes the bans."""
        await self._backend.apply(add, remove, now)

    async def tick(self, now: int) -> None:
        """Write what the kernel would not do by itself."""
        await self._backend.tick(now)

    async def intact(self, now: int) -> bool:  # noqa: ARG002 - the backends'
        """Return True: nothing is known of the kernel."""
        return True

    async def flush(self) -> None:
        """Write what removes everything."""
        await self._backend.flush()

    async def show(self) -> str:
        """Return "": nothing is known of the kernel."""
        return ""

    async def close(self) -> None:
        """Release nothing."""
