"""The bans in force, in a file beside the journal: a restart while the blacklist is away must not lift them.

Nor must it bring back what was lifted and is still in force by the blacklist. A JSON line says how many bans follow of
both, then comes a line for each, as daemons tell one another (limiter/ban_text.py), but without its evidence. The
blacklist knows more, and also of bans that have ended.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from logguardd.limiter import ban_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from logguardd.records import Ban

_LOG = logging.getLogger(__name__)
# Whoever wrote the file was this host; its clock may have been set since.
_ANY_TIME = 1 << 53


class Saved(NamedTuple):
    """Bans in force, and bans that were lifted before their time and may be in force by the blacklist."""

    bans: list[Ban]
    lifted: list[Ban]


def load(path: Path) -> Saved:
    """Return what is in the file; nothing, with a line in the log, if it is not there or damaged."""
    try:
        head, *lines = path.read_bytes().splitlines() or [b""]
        number = _number(json.loads(head), len(lines))
        found = [ban_text.decode(_name(line), line, _ANY_TIME) for line in lines]
        return Saved(found[:number], found[number:])
    except FileNotFoundError:
        pass
    except OSError as error:
        _LOG.warning("%s: not read: %s", path, error.strerror)
    except (ValueError, RecursionError) as error:
        _LOG.warning("%s: not read: %s", path, error)
    return Saved([], [])


def save(path: Path, bans: Iterable[Ban], lifted: Iterable[Ban], now: int) -> None:
    """Put both into the file, at once or not at all, less what has ended by itself. Blocks; call it in a thread.

    Raises OSError.
    """
    lines = [_line(ban) for ban in bans if ban.active(now)]
    head = {"bans": len(lines)}
    # Without the second number an earlier version reads the file, too.
    if ended := [_line(ban) for ban in lifted if ban.active(now)]:
        head["lifted"] = len(ended)
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(json.dumps(head) + "\n")
        file.writelines(f"{line}\n" for line in (*lines, *ended))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _line(ban: Ban) -> str:
    return ban_text.encode(replace(ban, evidence={}))


def _number(head: object, lines: int) -> int:
    """Return how many of the lines are bans in force; raise ValueError if there are not as many as there should be."""
    bans, lifted = (head.get("bans"), head.get("lifted", 0)) if isinstance(head, dict) else (None, None)
    if type(bans) is not int or type(lifted) is not int or min(bans, lifted) < 0 or bans + lifted != lines:
        raise ValueError("it is cut short, or no list of bans")
    return bans


def _name(line: bytes) -> str:
    """Return the name of the ban in the line, as ban_text checks it."""
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line of it is no ban")  # noqa: TRY004 - damage is ValueError here
    return f"{value.get('network')}|{value.get('port')}"
