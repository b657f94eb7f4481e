"""Pid files whose lock is the kernel's: a stale file locks nobody out, and two daemons never run on one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from logguardd.errors import LogguarddError

_LONGEST_PID = 20


class LockedError(LogguarddError):
    """Another process holds the lock; ``pid`` is what it wrote into the file, 0 if nothing."""

    def __init__(self, path: str, pid: int) -> None:
        by = f" by process {pid}" if pid else ""
        super().__init__(f"{path}: already locked{by}: is logguardd running? Stop it first, or use another file")
        self.pid = pid


class Lockfile:
    """A file with our process id in it, locked with flock(2) for as long as this object, or a child's, is open."""

    def __init__(self, path: str) -> None:
        """Lock the file, making it if needed; raise LockedError if another process has it, OSError as open does."""
        self.path = path
        self._file = _locked(path)
        try:
            self.write()
        except OSError:  # a full disk: whoever tries again must find it unlocked
            os.close(self._file)
            self._file = -1
            raise

    def fileno(self) -> int:
        """Return the descriptor, which carries the lock through a fork."""
        return self._file

    def write(self) -> None:
        """Write this process's id into the file."""
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def move(self, least: int) -> None:
        """Move to a file descriptor that is at least that number."""
        moved = fcntl.fcntl(self._file, fcntl.F_DUPFD_CLOEXEC, least)
        os.close(self._file)
        self._file = moved

    def release(self) -> None:
        """Remove the file, or empty it where its folder does not let us, and unlock it."""
        if self._file < 0:
            return
        try:
            # A child that shared the lock may have removed it already, and somebody else made another.
            if os.path.samestat(os.fstat(self._file), os.stat(self.path)):  # noqa: PTH116 - beside fstat
                Path(self.path).unlink()
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._file, 0)
        os.close(self._file)
        self._file = -1


def _locked(path: str) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock the previous owner may have removed the file: then the lock is on nothing.
            if os.path.samestat(os.fstat(file), os.stat(path)):  # noqa: PTH116 - beside fstat
                return file
        except BlockingIOError:
            text = os.pread(file, _LONGEST_PID, 0).strip()
            os.close(file)
            raise LockedError(path, int(text) if text.isdigit() else 0) from None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)
