"""How the command lines end: 0 done, 1 failed, 2 wrong usage or configuration; errors in a line each, no traceback."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from logguardd import log, urls
from logguardd.errors import ConfigError, LogguarddError
from logguardd.notation import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG = logging.getLogger(__name__)

DONE, FAILED, WRONG = 0, 1, 2


def run(command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: what the command returns, if that is an int, else 0."""
    code = FAILED
    _stand_in()
    try:
        result = command.main(args=argv, prog_name=name, standalone_mode=False)
        code = result if isinstance(result, int) else DONE
    except click.ClickException as error:
        code = error.exit_code
        _misused(name, error)
    except LogguarddError as error:
        end(name, str(error))
        code = WRONG if isinstance(error, ConfigError) else FAILED
    except BrokenPipeError:
        # Whoever read us has read enough; without this, Python complains while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        end(name, f"{place}{error.strerror or error}")
    except (click.Abort, KeyboardInterrupt):
        pass
    return code


def given(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check an option's value: an empty one is a script's unset variable, not the default."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty")
    return value


def _stand_in() -> None:
    """Open /dev/null for each standard stream that whoever started us has closed: else a socket or file of ours gets its number."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor, inheritable=True)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(descriptor, mode))


def _misused(name: str, error: click.ClickException) -> None:
    """Say what is wrong with the command line; where nothing was asked for, show what can be."""
    words = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is not None and words == context.get_help().rstrip("."):
        click.echo(error.format_message(), err=True)
        return
    hint = f"; see {context.command_path} --help" if context is not None else ""
    complain(name, " ".join(words.split()) + hint)


def end(name: str, message: str) -> None:
    """Say why the program ends: on standard error, or in the log where that is for machines, too."""
    if not log.for_machines():
        complain(name, message)
        return
    for line in message.split("\n"):
        _LOG.critical("%s", line)


def complain(name: str, message: str) -> None:
    """Print each line of ``message`` on standard error, safe for a terminal."""
    for line in message.split("\n"):
        click.echo(f"{name}: {printable(urls.redact(line))}", err=True)
