"""What client-config prints, put into place and used by a real rsyslogd over TLS, into a real daemon."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from logguardd import pki
from tests.integration.setups import configuration, logguardctl
from tests.servers.process import Child, free_port, need, need_root, wait_until
from tests.servers.rsyslog import OWN_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.daemon import Daemon

HOST = "web1.example.net"


class Machine:
    """A host of the fleet: /etc/rsyslog.d is its own, so is the program that would restart rsyslog."""

    def __init__(self, folder: Path) -> None:
        need_root()
        (self.unshare, self.rsyslogd) = need("unshare", "rsyslogd")
        self.folder = folder
        for name in ("rsyslog.d", "bin", "spool"):
            (folder / name).mkdir(parents=True)
        for name in ("systemctl", "service"):
            (folder / "bin" / name).write_text(f'#!/bin/sh\necho "$(basename "$0") $*" >>{folder}/restarted\n')
            (folder / "bin" / name).chmod(0o755)
        self.child: Child | None = None

    def argv(self, *argv: str) -> list[str]:
        inside = f'mount --bind {self.folder}/rsyslog.d /etc/rsyslog.d && PATH={self.folder}/bin:$PATH exec "$@"'
        return [self.unshare, "-m", "sh", "-c", inside, "sh", *argv]

    def run(self, *argv: str, script: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*argv), input=script, capture_output=True, text=True, timeout=60, check=False)

    def restarted(self) -> str:
        return (self.folder / "restarted").read_text()

    def start(self) -> None:
        """Start rsyslogd with what lies in /etc/rsyslog.d."""
        conf = self.folder / "rsyslog.conf"
        conf.write_text(
            OWN_MESSAGES.replace("{folder}", f"{self.folder}/spool")
            + f'module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="{self.folder}/log.sock")\n'
            'include(file="/etc/rsyslog.d/*.conf")\n'
        )
        self.child = Child(
            self.argv(self.rsyslogd, "-n", "-f", str(conf), "-i", str(self.folder / "pid")), self.folder / "log"
        )
        wait_until((self.folder / "log.sock").exists, what="rsyslogd listening")

    def log(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.connect(str(self.folder / "log.sock"))
            log.send(text.encode())

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(timeout=30)
            self.child = None


@pytest.fixture
def server(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that setup --tls has set up."""
    daemon = make_daemon()
    logguardctl(
        "setup", "--config", str(daemon.file), "--firewall", "print", "--tls", "--tls-name", "localhost",
        "--tls-port", str(free_port()), "--follow-port", str(free_port()),
    )  # fmt: skip
    daemon.start()
    return daemon


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "host")
    yield made
    made.stop()


def archived(server: Daemon) -> list[tuple[str, str, str]]:
    """Return client, origin and message of what is in the archive."""
    with sqlite3.connect(f"file:{server.folder}/archive.db?mode=ro", uri=True) as archive:
        found = archive.execute("SELECT client_id, origin, message FROM logs").fetchall()
    archive.close()
    return found


@pytest.mark.parametrize("form", ["rainerscript", "legacy"])
@pytest.mark.parametrize("driver", ["ossl", "gtls"])
def test_a_host_is_set_up_by_what_is_printed(server, host, form, driver) -> None:
    printed = logguardctl(
        "client-config", HOST, "--config", str(server.file), "--driver", driver, "--format", form
    ).stdout
    done = host.run("sh", script=printed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restart rsyslog" in host.restarted() or "rsyslog restart" in host.restarted()
    folder = host.folder / "rsyslog.d" / "logguardd"
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "ca.pem": 0o644, "cert.pem": 0o644, "key.pem": 0o600,
    }  # fmt: skip
    assert "example.com" not in printed
    assert "/etc/rsyslog-tls" not in printed
    host.start()
    for number in range(20):
        host.log(f"<86>sshd[99]: Failed password for root from 203.0.113.5 port {40000 + number} ssh2")
    wait_until(lambda: len([row for row in archived(server) if "Failed password" in row[2]]) == 20, what="all of them")
    assert all(HOST in origin for _, origin, _ in archived(server))
    assert server.request("GET", "/status")[1]["messages"]["tls"] >= 20
    wait_until(lambda: server.request("GET", "/bans")[1]["bans"], what="the ban")
    # And after the server was away.
    server.stop()
    host.log("<13>me: while the server is away")
    server.start()
    host.log("<13>me: when it is back")
    wait_until(
        lambda: {"while the server is away", "when it is back"} <= {row[2] for row in archived(server)},
        timeout=40,
        what="messages of the outage",
    )


def test_another_certificate_is_refused(server, host) -> None:
    script = logguardctl("client-config", HOST, "--config", str(server.file)).stdout
    assert host.run("sh", script=script).returncode == 0
    now = pki.datetime.now(pki.UTC)
    stranger = pki.Authority.create("Stranger", now).client(HOST, now)
    folder = host.folder / "rsyslog.d" / "logguardd"
    (folder / "cert.pem").write_bytes(stranger.certificate)
    (folder / "key.pem").write_bytes(stranger.private_key)
    host.start()
    host.log("<13>me: let me in")
    wait_until(lambda: "client certificate: " in server.child.output(), what="the refusal")
    assert archived(server) == []


def test_the_folder_installs_itself(server, host, tmp_path) -> None:
    folder = tmp_path / "out"
    done = logguardctl("client-config", HOST, "--config", str(server.file), "--output", str(folder))
    assert f"scp -r {folder} root@{HOST}: && ssh root@{HOST} sh out/install.sh" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "60-logguardd.conf", "ca.pem", "cert.pem", "install.sh", "key.pem",
    ]  # fmt: skip
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    done = host.run("sh", str(folder / "install.sh"))
    assert done.returncode == 0, done.stderr
    host.start()
    host.log("<13>me: hello")
    wait_until(lambda: any(row[2] == "hello" for row in archived(server)), what="the message")
    # Again it is a new certificate; what else lies there is not touched.
    logguardctl("client-config", HOST, "--config", str(server.file), "--output", str(folder))
    (folder / "precious").write_text("")
    done = logguardctl("client-config", HOST, "--config", str(server.file), "--output", str(folder), check=False)
    assert "holds other files; allowed: a new folder" in done.stderr


def test_what_is_wrong_there_is_said(server, host) -> None:
    script = logguardctl("client-config", HOST, "--config", str(server.file), "--driver", "gtls").stdout
    done = host.run("sh", script=script.replace("lmnsd_gtls", "lmnsd_none"))
    assert done.returncode == 1
    assert "install the package rsyslog-gnutls" in done.stderr
    done = host.run("sh", script=script.replace('type="omfwd"', 'type="omfwdx"'))
    assert done.returncode != 0
    assert not (host.folder / "restarted").exists()


def test_the_two_lines_to_follow(server) -> None:
    port = server.file.read_text().partition('follow = "[::]:')[2].partition('"')[0]
    argv = ("client-config", HOST, "--config", str(server.file))
    printed = logguardctl(*argv).stdout
    assert "#     systemctl disable --now logguardd.service logguardd.socket logguardd-firewall.service\n" in printed
    assert f"#     systemctl enable --now logguardd-firewall@localhost:{port}.service\n" in printed
    content = json.loads(logguardctl(*argv, "--json").stdout)
    assert content["follow"][1].endswith(f"@localhost:{port}.service")
    assert content["files"]["/etc/rsyslog.d/logguardd/key.pem"]["mode"] == "0600"
    # The server itself needs its own daemon.
    own = logguardctl("client-config", "localhost", "--config", str(server.file), "--json").stdout
    assert json.loads(own)["follow"] == []
    server.file.write_text(server.file.read_text().replace(f'follow = "[::]:{port}"', 'follow = "[::]:9515"'))
    assert "logguardd-firewall@localhost.service" in logguardctl(*argv).stdout
    server.file.write_text(server.file.read_text().replace('follow = "[::]:9515"', 'follow = ""'))
    assert "bans cannot be followed from here" in logguardctl(*argv).stdout


def test_names_and_addresses_of_the_server(tmp_path) -> None:
    file = configuration(tmp_path)
    setup = ("setup", "--config", str(file), "--firewall", "print", "--tls", "--port", "0", "--tls-port", "16514")
    logguardctl(*setup, "--tls-name", "192.0.2.1", "--tls-name", "2001:db8::1", "--tls-name", "logs.example.net")
    argv = ("client-config", HOST, "--config", str(file))
    # rsyslog finds no addresses in certificates: it gets the name to look for.
    for server, target in (
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("logs.example.net", "logs.example.net"),
    ):
        printed = logguardctl(*argv, "--server", server).stdout
        assert f'target="{target}" port="16514"' in printed
        assert 'StreamDriverPermittedPeers="logs.example.net"' in printed
    legacy = logguardctl(*argv, "--server", "2001:db8::1", "--format", "legacy").stdout
    assert "*.* @@(o)[2001:db8::1]:16514;RSYSLOG_SyslogProtocol23Format" in legacy
    assert "$ActionSendStreamDriverPermittedPeer logs.example.net" in legacy
    assert "logguardd-firewall@logs.example.net.service" in legacy
    done = logguardctl(*argv, "--server", "other.example.net", check=False)
    assert "is for logs.example.net, 192.0.2.1, 2001:db8::1, not for other.example.net" in done.stderr


def test_what_has_no_certificates(tmp_path) -> None:
    file = configuration(tmp_path)
    done = logguardctl("client-config", HOST, "--config", str(file), check=False)
    assert done.returncode == 2
    assert "`logguardctl setup --tls` makes them" in done.stderr
    logguardctl("setup", "--config", str(file), "--firewall", "print", "--tls", "--port", "0", "--tls-port", "16514")
    done = logguardctl("client-config", "no name", "--config", str(file), check=False)
    assert "'no name' is neither the name of a host nor an address" in done.stderr
    (tmp_path / "tls" / "ca.key").unlink()
    done = logguardctl("client-config", HOST, "--config", str(file), check=False)
    assert f"{tmp_path}/tls/ca.key is not here" in done.stderr


def test_without_the_library(tmp_path) -> None:
    """A Python without cryptography says what to install; whoever wants no TLS does not need it."""
    (tmp_path / "missing" / "cryptography").mkdir(parents=True)
    (tmp_path / "missing" / "cryptography" / "__init__.py").write_text("raise ImportError('not here')\n")
    file = configuration(tmp_path / "etc")
    env = {"PYTHONPATH": f"{tmp_path}/missing:{Path(__file__).resolve().parents[2]}"}
    logguardctl("setup", "--config", str(file), "--firewall", "print", "--port", "15514", env=env)
    done = logguardctl("setup", "--config", str(file), "--tls", check=False, env=env)
    assert done.returncode == 2
    assert (
        "certificates need the Python library cryptography (not here); install the package python3-cryptography"
        in done.stderr
    )
