"""Be another user for a while, for servers that look who connects to their socket (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def become(user: str) -> Iterator[None]:
    """Be ``user``; nothing if we are not root, or there is no such user."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        yield
        return
    if os.geteuid() != 0 or account.pw_uid == 0:
        yield
        return
    home = os.environ.get("HOME")
    os.seteuid(account.pw_uid)
    # Libraries look for files there, and may not look into root's.
    os.environ["HOME"] = account.pw_dir
    try:
        yield
    finally:
        os.seteuid(0)
        os.environ.pop("HOME")
        if home is not None:
            os.environ["HOME"] = home


@contextmanager
def ourselves() -> Iterator[None]:
    """Be root again inside of ``become``, if we were."""
    user = os.geteuid()
    if os.getuid() != 0 or user == 0:
        yield
        return
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(user)
