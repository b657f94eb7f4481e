"""The bans in force, in a file beside the journal: a restart while the blacklist is away must not lift them.

The file holds a ban feed (feed.py): what a follower would be told. The blacklist knows more and, once it is there, wins.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from logguardd import feed
from logguardd.errors import FeedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from logguardd.records import Ban

_LOG = logging.getLogger(__name__)


def load(path: Path) -> list[Ban]:
    """Return the bans in the file; none, with a line in the log, if it is not there or damaged."""
    try:
        text = path.read_bytes()
        events = feed.Decoder().feed(text)
    except FileNotFoundError:
        return []
    except (OSError, FeedError) as error:
        _LOG.warning("%s: not read: %s", path, error)
        return []
    return [ban for event in events if isinstance(event, feed.Snapshot) for ban in event.bans]


def save(path: Path, bans: Iterable[Ban], now: int) -> None:
    """Put the bans into the file, at once or not at all. Blocks; call it in a thread. Raise OSError."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        os.fchmod(file.fileno(), 0o640)
        file.writelines(feed.hello(now, "logguardd"))
        file.writelines(feed.snapshot(bans))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
