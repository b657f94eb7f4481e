"""Files that setup writes: whole or not at all, with the right owner and mode before anything stands in them."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
from typing import TYPE_CHECKING

from logguardd.errors import LogguarddError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

#: For everybody; for root and the daemon; for root alone.
PUBLIC, SHARED, PRIVATE = 0o644, 0o640, 0o600


def group_id(name: str) -> int | None:
    """Return the id of the daemon's group if files can be given to it: we are root, and it exists."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return grp.getgrnam(name).gr_gid
    return None


def write(path: Path, content: bytes, mode: int, group: int | None = None) -> bool:
    """Write a file that is owned by us and the group, unless it is so already; return whether it was not.

    Without a group, what is shared is private. Raises LogguarddError naming the file.
    """
    if mode == SHARED and group is None:
        mode = PRIVATE
    target = path.resolve()  # a link stays one
    try:
        if target.exists() and target.read_bytes() == content:
            return _put_right(target, mode, group)
        folder(target.parent)
        _write(target, content, mode, group)
    except OSError as error:
        raise LogguarddError(f"{path}: cannot be written: {error.strerror}") from None
    return True


def folder(path: Path, mode: int = 0o755, group: int | None = None) -> None:
    """Make a folder if it is missing."""
    if path.exists():
        return
    try:
        path.mkdir(mode=0o700, parents=True)
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(mode)
    except OSError as error:
        raise LogguarddError(f"{path}: cannot be made: {error.strerror}") from None


def back_up(path: Path, now: datetime) -> Path | None:
    """Copy a file beside itself, with the time in its name, mode and owner kept; None if there is none."""
    if not path.exists():
        return None
    copy = path.with_name(f"{path.name}.{now:%Y%m%d-%H%M%S}")
    state = path.stat()
    try:
        with contextlib.suppress(PermissionError):
            _write(copy, path.read_bytes(), state.st_mode & 0o777, state.st_gid if os.geteuid() == 0 else None)
            shutil.copystat(path, copy)
            return copy
    except OSError as error:
        raise LogguarddError(f"{copy}: cannot be written: {error.strerror}") from None
    raise LogguarddError(f"{path}: no copy can be kept beside it: Permission denied")


def _put_right(path: Path, mode: int, group: int | None) -> bool:
    state = path.stat()
    if state.st_mode & 0o777 == mode and group in (None, state.st_gid):
        return False
    path.chmod(mode & PRIVATE)
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(mode)
    return True


def _write(path: Path, content: bytes, mode: int, group: int | None) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
