"""What went wrong with PostgreSQL, in words."""

from __future__ import annotations

import errno
import socket

import asyncpg
import pytest

from logguardd.archive.session import _words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 5432)"), "Connection refused"),
        (PermissionError(errno.EACCES, "x", "/root/.pgpass"), "/root/.pgpass: Permission denied"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (asyncpg.InterfaceError("first\nsecond"), "first"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_words(error: Exception, words: str) -> None:
    assert _words(error) == words
