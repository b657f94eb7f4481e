"""How the command lines end: 0 done, 1 failed, 2 wrong usage or configuration; errors in a line each, no traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from logguardd import urls
from logguardd.errors import ConfigError, LogguarddError
from logguardd.notation import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, WRONG = 0, 1, 2


def run(command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: what the command returns, if that is an int, else 0."""
    code = FAILED
    try:
        result = command.main(args=argv, prog_name=name, standalone_mode=False)
        code = result if isinstance(result, int) else DONE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except LogguarddError as error:
        complain(name, str(error))
        code = WRONG if isinstance(error, ConfigError) else FAILED
    except BrokenPipeError:
        # Whoever read us has read enough; without this, Python complains while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(name, f"{place}{error.strerror or error}")
    except (click.Abort, KeyboardInterrupt):
        pass
    return code


def complain(name: str, message: str) -> None:
    """Print each line of ``message`` on standard error, safe for a terminal."""
    for line in message.split("\n"):
        click.echo(f"{name}: {printable(urls.redact(line))}", err=True)
