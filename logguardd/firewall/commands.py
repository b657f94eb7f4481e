"""Commands that change or ask the kernel, and the runner that executes them."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from dataclasses import dataclass
from typing import Protocol

from logguardd.errors import FirewallError

# Nothing here takes this long: 100,000 elements take nft half a second.
_TIMEOUT = 60.0
_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and what it reads from its standard input.

    With ``expand`` a shell fills in the script's $(...): only where it is written, not run.
    """

    argv: tuple[str, ...]
    script: str = ""
    expand: bool = False

    def __str__(self) -> str:
        """Show the command as a shell takes it."""
        line = shlex.join(self.argv)
        end = "END" if self.expand else "'END'"
        return f"{line} <<{end}\n{self.script}END\n" if self.script else f"{line}\n"


class Runner(Protocol):
    """Where a backend's commands go; ``blind`` if they are only written, for a shell of another day."""

    @property
    def blind(self) -> bool: ...  # noqa: D102 - above

    async def run(self, command: Command) -> None:
        """Run a command that changes something; raise errors.FirewallError with its message if it fails."""

    async def ask(self, command: Command) -> str | None:
        """Run a command that only looks; return what it printed, None when it failed or cannot be known here."""


class Executor:
    """Runs commands on this machine, one after the other as they are awaited."""

    blind = False

    async def run(self, command: Command) -> None:
        """Run a command; raise errors.FirewallError with the command and what it wrote to standard error."""
        code, _, message = await _execute(command)
        if code:
            raise FirewallError(f"{shlex.join(command.argv)}: {_brief(message) or f'exit status {code}'}")

    async def ask(self, command: Command) -> str | None:
        """Return a command's standard output, None when it failed; raise errors.FirewallError if it is not there."""
        code, output, _ = await _execute(command)
        return None if code else output.decode(errors="replace")


def search_path() -> str:
    """Return PATH with the folders of administration commands, which root lacks after a plain su(1)."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def installed(program: str) -> bool:
    """Whether a program is there."""
    return shutil.which(program, path=search_path()) is not None


async def _execute(command: Command) -> tuple[int, bytes, str]:
    name = command.argv[0]
    # A file in memory, not a pipe: the program may end without having read it, which uvloop answers with RuntimeError.
    script = os.memfd_create("script")
    try:
        os.write(script, command.script.encode())
        os.lseek(script, 0, os.SEEK_SET)
        child = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=script,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", "PATH": search_path()},
        )
    except OSError as error:
        hint = "; it must be installed and on PATH" if isinstance(error, FileNotFoundError) else ""
        raise FirewallError(f"{name}: {error.strerror}{hint}") from None
    finally:
        os.close(script)
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, message = await child.communicate()
    except TimeoutError:
        raise FirewallError(f"{shlex.join(command.argv)}: did not end within {_TIMEOUT:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode or 0, output, message.decode(errors="replace")


def _brief(message: str) -> str:
    """Return what a program complained of on one line, without the carets that nft draws below its own line."""
    lines = [line.strip() for line in message.splitlines()]
    text = "; ".join(line for line in lines if line.strip("^~ "))
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]} ..."
