"""A private PostgreSQL."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.servers.process import free_port, need


class PostgreSQL:
    """One cluster with trust authentication on 127.0.0.1; ``user`` is its superuser."""

    user = "postgres"

    def __init__(self, **settings: str) -> None:
        self.initdb, self.pg_ctl, self.psql_path = need("initdb", "pg_ctl", "psql")
        # Not below pytest's folder, which only its owner may enter: PostgreSQL refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="logguardd-postgres-"))
        self.log = self.folder / "log"
        self.port = free_port()
        self._numbers = itertools.count(1)
        self._become: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self._become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run(
            self.initdb, "--no-sync", "-D", str(self.folder / "data"), "-U", self.user, "-A", "trust",
            "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        settings = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""} | settings
        with (self.folder / "data" / "postgresql.auto.conf").open("a") as conf:
            conf.writelines(f"{key} = '{value}'\n" for key, value in settings.items())

    def _run(self, *argv: str) -> None:
        done = subprocess.run(
            [*self._become, *argv],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=130,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start and wait until it answers."""
        self._run(self.pg_ctl, "-D", str(self.folder / "data"), "-l", str(self.log), "-w", "-t", "120", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: ``fast``, or ``immediate``, which is a crash."""
        self._run(self.pg_ctl, "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    @property
    def running(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()

    def close(self) -> None:
        if self.running:
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every process of the server stand still for a block: connections stay open, nothing is answered."""
        parent = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        pids = [parent, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str, user: str | None = None) -> str:
        return f"postgresql://{user or self.user}@127.0.0.1:{self.port}/{database}"

    def fresh_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def query(self, sql: str, url: str | None = None) -> list[list[str]]:
        """Run SQL with psql; return rows of text (NULL is the empty text)."""
        done = subprocess.run(
            [self.psql_path, "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-c", sql, url or self.url],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return [line.split("\x1f") for line in done.stdout.splitlines()]
