"""The bans in force, in a file beside the journal: a restart while the blacklist is away must not lift them.

A JSON line says how many bans follow, then comes a line for each, as daemons tell one another (limiter/ban_text.py), but
without its evidence. The blacklist knows more, and also of bans that have ended.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from logguardd.limiter import ban_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from logguardd.records import Ban

_LOG = logging.getLogger(__name__)
# Whoever wrote the file was this host; its clock may have been set since.
_ANY_TIME = 1 << 53


def load(path: Path) -> list[Ban]:
    """Return the bans in the file; none, with a line in the log, if it is not there or damaged."""
    try:
        head, *lines = path.read_bytes().splitlines() or [b""]
        if json.loads(head) != {"bans": len(lines)}:
            raise ValueError("it is cut short, or no list of bans")  # noqa: TRY301 - as any other damage
        return [ban_text.decode(_name(line), line, _ANY_TIME) for line in lines]
    except FileNotFoundError:
        return []
    except OSError as error:
        _LOG.warning("%s: not read: %s", path, error.strerror)
    except (ValueError, RecursionError) as error:
        _LOG.warning("%s: not read: %s", path, error)
    return []


def save(path: Path, bans: Iterable[Ban], now: int) -> None:
    """Put the bans into the file, at once or not at all, less those that have ended. Blocks; call it in a thread.

    Raises OSError.
    """
    lines = [ban_text.encode(replace(ban, evidence={})) for ban in bans if ban.active(now)]
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(json.dumps({"bans": len(lines)}) + "\n")
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _name(line: bytes) -> str:
    """Return the name of the ban in the line, as ban_text checks it."""
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a line of it is no ban")  # noqa: TRY004 - damage is ValueError here
    return f"{value.get('network')}|{value.get('port')}"
