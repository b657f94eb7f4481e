"""setup with a real PostgreSQL: roles, database, schema; and a daemon that runs as the role that may do least."""

from __future__ import annotations

import asyncio
import os
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from logguardd.archive.migrations import Migration, load
from logguardd.errors import UnavailableError
from logguardd.setup import postgres as module
from tests.integration.setups import Strict, configuration, logguardctl
from tests.servers.daemon import send_udp
from tests.servers.process import need_root, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.daemon import Daemon


@pytest.fixture(scope="module")
def server() -> Iterator[Strict]:
    made = Strict()
    yield made
    made.close()


def url_in(file: Path) -> str:
    url: str = tomllib.loads(file.read_text())["archive"]["url"]
    return url


def refused(server: Strict, url: str, sql: str) -> str:
    with pytest.raises(RuntimeError) as error:
        server.query(sql, url)
    return str(error.value)


def test_the_daemon_runs_as_a_role_that_may_only_archive(server, make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    done = logguardctl("setup", "--config", str(daemon.file), "--postgres-admin", server.admin, "--force")
    url = url_in(daemon.file)
    assert re.fullmatch(rf"postgresql://logguardd:[\w-]{{30,}}@127.0.0.1:{server.port}/logs", url)
    assert url.split(":")[2].split("@")[0] not in done.stdout + done.stderr
    daemon.start()
    send_udp(daemon.ports["udp"], b"<13>1 - web1 sshd - - - Failed password for root from 203.0.113.5 port 40022 ssh2")
    wait_until(lambda: server.query("SELECT message FROM logs", url), what="the message in PostgreSQL")
    assert daemon.request("POST", "/bans", {"network": "203.0.113.9"})[0] == 201
    wait_until(lambda: server.query("SELECT ip_address FROM blacklist", url) == [["203.0.113.9"]], what="the ban")
    assert daemon.stop() == 0
    assert server.query("SELECT tableowner FROM pg_tables WHERE tablename = 'logs'", url) == [["logguardd_owner"]]
    assert server.query(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname LIKE 'logguardd%'"
    ) == [
        ["f"],
        ["f"],
    ]
    for sql in (
        "DROP TABLE logs",
        "DELETE FROM logs",
        "UPDATE logs SET message = ''",
        "CREATE TABLE x ()",
        "SET ROLE logguardd_owner",
    ):
        assert "permission denied" in refused(server, url, sql) or "must be owner" in refused(server, url, sql)
    # And nobody else gets in.
    server.query("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    assert "permission denied for database" in refused(server, server.url_of("logs", "stranger:x"), "SELECT 1")
    # The password itself never stood in a statement.
    assert "SCRAM-SHA-256$4096:" in server.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'logguardd'")[0][0]


def test_again_is_no_change_and_other_names_are_others(server, tmp_path) -> None:
    file = configuration(tmp_path)
    argv = (
        "setup",
        "--config",
        str(file),
        "--postgres-admin",
        server.admin,
        "--database",
        "more",
        "--role",
        "more-logs",
    )
    logguardctl(*argv)
    text, state = file.read_text(), server.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'more-logs'")
    done = logguardctl(*argv)
    assert file.read_text() == text
    assert "is as it should be" in done.stdout
    assert server.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'more-logs'") == state
    # What somebody took away is given back.
    server.query('REVOKE INSERT ON logs FROM "more-logs"', server.admin.removesuffix("postgres") + "more")
    logguardctl(*argv)
    assert server.query("SELECT has_table_privilege('logs', 'INSERT')", url_in(file)) == [["t"]]


def test_a_role_that_exists_keeps_its_password(server, tmp_path) -> None:
    first, second = configuration(tmp_path / "one"), configuration(tmp_path / "two")
    argv = ("--postgres-admin", server.admin, "--database", "fleet", "--role", "fleet")
    (tmp_path / "password").write_text("of the fleet: '\\\"\n")
    logguardctl("setup", "--config", str(first), *argv, "--postgres-password-file", str(tmp_path / "password"))
    # A second daemon of the fleet does not know it.
    done = logguardctl("setup", "--config", str(second), *argv, check=False)
    assert done.returncode == 2
    assert 'PostgreSQL has the role "fleet" already, and it cannot log in from here' in done.stderr
    assert "--postgres-password-file" in done.stderr
    assert "archive" not in second.read_text()
    logguardctl("setup", "--config", str(second), *argv, "--postgres-password-file", "-", stdin="of the fleet: '\\\"\n")
    assert url_in(first) == url_in(second)
    assert server.query("SELECT current_user", url_in(second)) == [["fleet"]]
    # A wrong one is not set.
    third = configuration(tmp_path / "three")
    done = logguardctl(
        "setup", "--config", str(third), *argv, "--postgres-password-file", "-", stdin="wrong\n", check=False
    )
    assert "password authentication failed" in done.stderr
    assert server.query("SELECT 1", url_in(first)) == [["1"]]
    # Unless that is what is wanted.
    logguardctl("setup", "--config", str(third), *argv, "--postgres-reset-password")
    assert server.query("SELECT 1", url_in(third)) == [["1"]]
    assert "password authentication failed" in refused(server, url_in(first), "SELECT 1")


def test_passwords_that_are_not_ascii(server, tmp_path) -> None:
    file = configuration(tmp_path)
    argv = ("--postgres-admin", server.admin, "--database", "words", "--role", "words")
    logguardctl("setup", "--config", str(file), *argv, "--postgres-password-file", "-", stdin="größer ' als\n")
    assert server.query("SELECT current_user", url_in(file)) == [["words"]]


def test_an_administrator_who_is_no_superuser(server, tmp_path) -> None:
    server.query("CREATE ROLE hosting LOGIN CREATEDB CREATEROLE PASSWORD 'h'")
    file = configuration(tmp_path)
    admin = server.url_of("postgres", "hosting:h")
    logguardctl("setup", "--config", str(file), "--postgres-admin", admin, "--database", "hosted", "--role", "hosted")
    assert server.query("SELECT has_table_privilege('logs', 'DELETE')", url_in(file)) == [["f"]]


def test_a_run_that_was_interrupted_is_taken_up(server, tmp_path) -> None:
    server.query("CREATE ROLE halfway LOGIN")
    file = configuration(tmp_path)
    argv = ("--postgres-admin", server.admin, "--database", "halfway", "--role", "halfway")
    logguardctl("setup", "--config", str(file), *argv)
    assert server.query("SELECT 1", url_in(file)) == [["1"]]


def test_a_database_of_ones_own(server, tmp_path) -> None:
    server.query("CREATE ROLE dba LOGIN PASSWORD 'd'")
    server.query("CREATE DATABASE mine OWNER dba ENCODING 'UTF8' TEMPLATE template0")
    file = configuration(tmp_path)
    (tmp_path / "password").write_text("d")
    logguardctl(
        "setup", "--config", str(file), "--postgres", server.url_of("mine", "dba"),
        "--postgres-password-file", str(tmp_path / "password"),
    )  # fmt: skip
    assert server.query("SELECT tableowner FROM pg_tables WHERE tablename = 'logs'", url_in(file)) == [["dba"]]
    # An administrator's run on it leaves it its owner.
    other = configuration(tmp_path / "other")
    argv = ("--postgres-admin", server.admin, "--database", "mine", "--role", "minor")
    logguardctl("setup", "--config", str(other), *argv)
    assert server.query("SELECT tableowner FROM pg_tables WHERE tablename = 'logs'", url_in(other)) == [["dba"]]
    assert "permission denied" in refused(server, url_in(other), "DELETE FROM logs")


def test_by_the_socket_no_password_is_needed(server, tmp_path) -> None:
    need_root()
    file = configuration(tmp_path)
    file.write_text('user = "nobody"\n' + file.read_text())
    argv = ("--postgres-admin", server.local, "--database", "local", "--role", "nobody")
    logguardctl("setup", "--config", str(file), *argv)
    assert url_in(file) == f"postgresql://nobody@/local?host={server.folder}&port={server.port}"
    assert os.geteuid() == 0
    logguardctl("setup", "--config", str(file), *argv)
    assert server.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'nobody'") == [[""]]


def test_by_a_socket_that_wants_passwords(server, tmp_path) -> None:
    """Where the server does not look who connects, a new role gets a password after all."""
    need_root()
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all postgres peer\nlocal all all scram-sha-256\n{before}")
    server.query("SELECT pg_reload_conf()")
    try:
        file = configuration(tmp_path)
        argv = ("--postgres-admin", server.local, "--database", "games", "--role", "games")
        logguardctl("setup", "--config", str(file), *argv)
        assert url_in(file).startswith("postgresql://games:")
        logguardctl("setup", "--config", str(file), *argv)
    finally:
        rules.write_text(before)
        server.query("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("admin", "what"),
    [
        ("postgresql://postgres:wrong@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql://postgres:x@127.0.0.1:1/postgres", "Connection refused"),
        ("postgresql://postgres:x@nowhere.invalid/postgres", "nowhere.invalid"),
        ("mysql://x", "postgresql://"),
    ],
)
def test_what_cannot_be_reached_changes_nothing(server, tmp_path, admin, what) -> None:
    file = configuration(tmp_path)
    before = file.read_text()
    done = logguardctl("setup", "--config", str(file), "--postgres-admin", admin.format(port=server.port), check=False)
    assert done.returncode in {1, 2}
    assert what in done.stderr
    assert "wrong" not in done.stderr
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logguardd.toml"]


def test_another_encoding_is_said(server, tmp_path) -> None:
    server.query("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    file = configuration(tmp_path)
    argv = ("--postgres-admin", server.admin, "--database", "latin", "--role", "latin")
    done = logguardctl("setup", "--config", str(file), *argv, check=False)
    assert "create the database with ENCODING 'UTF8'" in done.stderr


def test_a_new_schema_is_the_administrators_matter(server, tmp_path, monkeypatch) -> None:
    """After an upgrade the daemon's role cannot migrate: it waits, and setup does it."""
    file = configuration(tmp_path)
    wanted = module.Wanted("upgraded", "upgraded")
    logguardctl(
        "setup", "--config", str(file), "--postgres-admin", server.admin, "--database", "upgraded", "--role", "upgraded"
    )
    newer = (
        *load("postgres"),
        Migration(2, "more", "--   GRANT SELECT ON more TO logguardd_app;\nCREATE TABLE more ();"),
    )
    monkeypatch.setattr("logguardd.archive.postgres.load", lambda _: newer)
    monkeypatch.setattr(module, "load", lambda _: newer)
    with pytest.raises(
        UnavailableError, match=r"from version 1 to 2; `logguardctl setup --postgres-admin URL` sets it"
    ):
        asyncio.run(module.check(url_in(file)))
    assert asyncio.run(module.prepare(server.admin, wanted, current=url_in(file))) == url_in(file)
    asyncio.run(module.check(url_in(file)))
    assert server.query("SELECT count(*) FROM more", url_in(file)) == [["0"]]


def test_names_are_checked(tmp_path) -> None:
    file = configuration(tmp_path)
    done = logguardctl("setup", "--config", str(file), "--postgres-admin", "local", "--role", "a;b", check=False)
    assert done.returncode == 2
    assert "--role: 'a;b': not a name" in done.stderr


def test_the_grants_are_those_of_the_migrations() -> None:
    found = " ".join(module.grants())
    for name in ("logs", "blacklist", "journal_offsets", "logguardd_make_partition(date)"):
        assert name in found
    named = [line for each in load("postgres") for line in each.sql.splitlines() if line.startswith("--   GRANT ")]
    assert len(module.grants()) == len(named) > 1
