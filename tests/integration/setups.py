"""logguardctl as a child process, and a PostgreSQL that asks for passwords."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.servers.daemon import CHECKOUT
from tests.servers.postgres import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RULES = f'[detection]\nrules = ["{CHECKOUT}/etc/rules.d"]\n'


def logguardctl(
    *argv: str, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None, wrap: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run logguardctl without a terminal and without an SSH client; return what it said."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "LC_ALL": "C.UTF-8", "HOME": "/"}
    done = subprocess.run(
        [*wrap, sys.executable, "-m", "logguardd.ctl", *argv],
        input=stdin, capture_output=True, text=True, timeout=120, check=False, env=environment | (env or {}),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def configuration(folder: Path, text: str = "") -> Path:
    """Write a configuration whose rules are the checkout's."""
    folder.mkdir(exist_ok=True)
    file = folder / "logguardd.toml"
    file.write_text(_RULES + text)
    return file


class Strict(PostgreSQL):
    """Passwords over TCP, the system user's name by the socket, as Debian's packages set it up."""

    def __init__(self) -> None:
        super().__init__(fsync="off")
        self.folder.chmod(0o755)  # for the socket
        self.start()
        super().query("ALTER ROLE postgres PASSWORD 'the admin''s: /@#%'")
        super().query(f"ALTER SYSTEM SET unix_socket_directories = '{self.folder}'")
        (self.folder / "data" / "pg_hba.conf").write_text("local all all peer\nhost all all all scram-sha-256\n")
        self.stop()
        self.start()

    @property
    def admin(self) -> str:
        return f"postgresql://postgres:the%20admin's%3A%20%2F%40%23%25@127.0.0.1:{self.port}/postgres"

    @property
    def local(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"

    def query(self, sql: str, url: str | None = None) -> list[list[str]]:
        return super().query(sql, url or self.admin)
