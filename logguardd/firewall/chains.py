"""The chain LOGGUARDD of iptables(8) and ip6tables(8), jumped to first from INPUT and FORWARD."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from logguardd.firewall.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logguardd.firewall.commands import Runner

CHAIN = "LOGGUARDD"
HOOKS = ("INPUT", "FORWARD")
#: The programs, by IP version.
PROGRAMS = {4: "iptables", 6: "ip6tables"}
# Another program may hold the lock of xtables; wait for it, but not for ever.
_WAIT = ("-w", "10")


def ask(version: int, *arguments: str) -> Command:
    """Return an iptables command that only looks."""
    return Command((PROGRAMS[version], *_WAIT, *arguments))


def restore(version: int, lines: Iterable[str], *, expand: bool = False) -> Command:
    """Return the command that makes the changes of ``lines`` to the filter table, all or none; ``expand`` as Command."""
    script = "".join(f"{line}\n" for line in ("*filter", *lines, "COMMIT"))
    return Command((f"{PROGRAMS[version]}-restore", *_WAIT, "--noflush"), script, expand)


async def fill(runner: Runner, version: int, rules: Iterable[str]) -> None:
    """Make the chain hold exactly ``rules`` and be jumped to first, in one transaction."""
    lines = [f":{CHAIN} - [0:0]", *rules]
    for hook in HOOKS:
        lines += await _jumps(runner, version, hook)
    await runner.run(restore(version, lines, expand=runner.blind))


async def filled(runner: Runner, version: int, rules: Sequence[str]) -> bool:
    """Whether the chain holds exactly ``rules`` and is jumped to first."""
    text = await runner.ask(ask(version, "-S", CHAIN))
    if text is None or text.splitlines() != [f"-N {CHAIN}", *rules]:
        return False
    return not [line for hook in HOOKS for line in await _jumps(runner, version, hook)]


async def intact(runner: Runner, version: int, rules: int) -> bool:
    """Whether the chain is still jumped to first and holds so many rules; True where that cannot be known."""
    text = await runner.ask(ask(version, "-S", CHAIN))
    if text is not None and text.count("\n-A ") != rules:
        return False
    for hook in HOOKS:
        text = await runner.ask(ask(version, "-S", hook, "1"))
        if text is not None and text.strip() != _jump("-A", hook):
            return False
    return True


async def remove(runner: Runner, version: int) -> None:
    """Remove the chain and the jumps to it, if they are there (or it cannot be known)."""
    text = await runner.ask(ask(version, "-S"))
    if text is None:
        lines = [_jump("-D", hook) for hook in HOOKS]
    else:
        found = text.splitlines()
        if f"-N {CHAIN}" not in found:
            return
        lines = [_jump("-D", hook) for hook in HOOKS for _ in range(found.count(_jump("-A", hook)))]
    await runner.run(restore(version, [*lines, f"-F {CHAIN}", f"-X {CHAIN}"]))


async def _jumps(runner: Runner, version: int, hook: str) -> list[str]:
    if runner.blind:
        listed = shlex.join(ask(version, "-S", hook).argv)
        return [f"$({listed} | sed -n 's/^-A \\({hook} -j {CHAIN}\\)$/-D \\1/p')", _jump("-I", hook)]
    text = await runner.ask(ask(version, "-S", hook))
    rules = [line for line in (text or "").splitlines() if line.startswith("-A ")]
    jump = _jump("-A", hook)
    if rules[:1] == [jump] and rules.count(jump) == 1:
        return []
    return [_jump("-D", hook)] * rules.count(jump) + [_jump("-I", hook)]


def _jump(verb: str, hook: str) -> str:
    return f"{verb} {hook} -j {CHAIN}"
