"""setup on a machine: what it finds out, writes and refuses; at a terminal and without one."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from logguardd import config
from logguardd.setup import run
from tests.integration.setups import configuration, logguardctl
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need, need_root
from tests.servers.redis import Redis

if TYPE_CHECKING:
    from tests.servers.netns import Netns

PORTS = ("--port", "0", "--tls", "--tls-port", "16514", "--follow-port", "0")


def read(file: Path) -> dict:
    return tomllib.loads(file.read_text())


def copies(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.name}.2*"))


def test_a_machine_without_a_configuration_gets_the_shipped_one(tmp_path) -> None:
    file = tmp_path / "etc" / "logguardd.toml"
    before = run.look(file)
    assert (before.text, before.exists) == ((CHECKOUT / "etc" / "logguardd.toml").read_text(), False)
    done = logguardctl("setup", "--config", str(file), "--firewall", "print", "--port", "5514", check=False)
    if done.returncode:  # there are no rules in /etc/logguardd, which is found before anything is written
        assert "/etc/logguardd/rules.d" in done.stderr
        assert not file.parent.exists()
    else:
        assert file.read_text().startswith("# logguardd's configuration")
        assert read(file)["listen"]["udp"] == ["[::]:5514"]


def test_the_first_run(tmp_path) -> None:
    file = configuration(tmp_path)
    before = file.read_text()
    done = logguardctl("setup", "--config", str(file), "--firewall", "print", "--allow", "192.0.2.0/24", *PORTS)
    read = config.load(str(file))
    assert (read.listen.udp, read.listen.tcp, read.listen.tls) == ((), (), ("[::]:16514",))
    assert "192.0.2.0/24" in map(str, read.detection.allowlist)
    assert read.tls.client_ca == f"{tmp_path}/tls/ca.pem"
    assert "made a certificate authority" in done.stdout
    (copy,) = copies(file)
    assert copy.read_text() == before
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file, *(tmp_path / "tls").iterdir())}
    shared = 0o600 if "there is no group logguardd" in done.stdout or os.geteuid() else 0o640
    assert modes == {
        "logguardd.toml": shared, "ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": shared,
    }  # fmt: skip
    checked = logguardctl("setup", "--config", str(file), "--firewall", "print", "--allow", "192.0.2.0/24", *PORTS)
    assert "is as it should be" in checked.stdout
    assert copies(file) == [copy]


def test_flags_that_are_not_given_leave_things_as_they_are(tmp_path) -> None:
    file = configuration(
        tmp_path, '[firewall]\nbackend = "print" # for now\n[listen]\nudp = ["127.0.0.1:15514"]\ntcp = []\n'
    )
    before = file.read_text()
    done = logguardctl("setup", "--config", str(file))
    assert file.read_text() == before
    assert "is as it should be" in done.stdout


def test_what_an_operator_wrote_is_changed_by_force_only(tmp_path) -> None:
    file = configuration(
        tmp_path, '[listen]\nudp = ["127.0.0.1:15514"] # ours\ntcp = []\n[firewall]\nbackend = "print"\n'
    )
    before = file.read_text()
    argv = ("setup", "--config", str(file), "--port", "15515")
    done = logguardctl(*argv, check=False)
    assert done.returncode == 2
    assert "--force changes them and keeps a copy" in done.stderr
    assert 'listen.udp: ["127.0.0.1:15514"] -> ["[::]:15515"]' in done.stdout
    assert file.read_text() == before
    logguardctl(*argv, "--force")
    assert 'udp = ["[::]:15515"] # ours\n' in file.read_text()
    assert [copy.read_text() for copy in copies(file)] == [before]


def test_a_configuration_with_errors_is_set_right_first(tmp_path) -> None:
    file = configuration(tmp_path, "[listen]\nucp = []\n[jail.x]\nhits = []\n")
    before = file.read_text()
    done = logguardctl("setup", "--config", str(file), "--tls", check=False)
    assert done.returncode == 2
    assert 'did you mean "udp"?' in done.stderr
    assert "jail.x.hits" in done.stderr
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logguardd.toml"]


def test_certificates_are_made_anew_when_they_are_due(tmp_path) -> None:
    file = configuration(tmp_path)
    argv = ("setup", "--config", str(file), "--firewall", "print", *PORTS)
    logguardctl(*argv, "--tls-name", "logs.example.net")
    server = (tmp_path / "tls" / "server.pem").read_bytes()
    logguardctl(*argv)
    assert (tmp_path / "tls" / "server.pem").read_bytes() == server
    done = logguardctl(*argv, "--tls-name", "logs.example.net", "--tls-name", "192.0.2.1")
    assert "for logs.example.net, 192.0.2.1 (before for logs.example.net)" in done.stdout
    assert (tmp_path / "tls" / "server.pem").read_bytes() != server
    ca = (tmp_path / "tls" / "ca.key").read_bytes()
    (tmp_path / "tls" / "ca.key").unlink()
    done = logguardctl(*argv, check=False)
    assert f"{tmp_path}/tls/ca.pem is there, but {tmp_path}/tls/ca.key is not" in done.stderr
    (tmp_path / "tls" / "ca.key").write_bytes(ca)
    for name in ("bad name", "*.example.net"):
        done = logguardctl(*argv, "--tls-name", name, check=False)
        assert "is neither the name of a host nor an address" in done.stderr


def test_an_operators_own_certificates_stay(tmp_path) -> None:
    other = configuration(tmp_path / "other")
    logguardctl("setup", "--config", str(other), "--firewall", "print", *PORTS)
    own = tmp_path / "other" / "tls"
    file = configuration(
        tmp_path / "mine",
        f'[tls]\ncertificate = "{own}/server.pem"\nprivate_key = "{own}/server.key"\nclient_ca = "{own}/ca.pem"\n',
    )
    logguardctl("setup", "--config", str(file), "--firewall", "print", *PORTS)
    assert read(file)["tls"]["certificate"] == f"{own}/server.pem"
    assert read(file)["listen"]["tls"] == ["[::]:16514"]
    assert not (tmp_path / "mine" / "tls").exists()


def test_a_port_that_somebody_holds(tmp_path) -> None:
    file = configuration(tmp_path)
    for kind, name in ((socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")):
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                holder.listen()
            port = holder.getsockname()[1]
            done = logguardctl("setup", "--config", str(file), "--port", str(port), check=False)
            comm = Path("/proc/self/comm").read_text().strip()
            assert done.returncode == 2
            assert (
                f"{name} port {port} is held by {comm}: let it give the port up, or take another one with --port"
                in done.stderr
            )
    assert copies(file) == []


def test_an_ordinary_user_may_prepare_a_configuration(tmp_path) -> None:
    need_root()
    need("setpriv", "unshare")
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:  # those of pytest, and of pytest-xdist's workers
        if parent.stat().st_mode & 0o7777 == 0o700:
            parent.chmod(0o755)
    file = configuration(tmp_path / "etc")
    for path in (file.parent, file):
        os.chown(path, 65534, 65534)
    wrap = (str(CHECKOUT / "scripts/as-user.sh"), "nobody")
    probe = [*wrap, sys.executable, "-c", "import logguardd.setup.run"]
    if subprocess.run(probe, cwd=CHECKOUT, capture_output=True, check=False).returncode:
        pytest.skip("this Python is not for other users")
    done = logguardctl("setup", "--config", str(file), *PORTS, wrap=wrap)
    assert "only root can find out whether nftables or iptables works here" in done.stdout
    assert read(file)["listen"]["tls"] == ["[::]:16514"]


def test_the_firewall_that_works_is_found(tmp_path, netns: Netns) -> None:
    file = configuration(tmp_path)
    wrap = tuple(netns.argv())
    logguardctl("setup", "--config", str(file), *PORTS, wrap=wrap)
    assert read(file)["firewall"]["backend"] == "nftables"
    assert netns.run("nft", "list", "tables").stdout == ""
    # No nft, then: neither in sight nor usable.
    file.write_text(file.read_text().replace('"nftables"', '"print"'))
    (unshare, mount) = need("unshare", "mount")
    hidden = " && ".join(f"{mount} --bind /dev/null {path}" for path in need("nft"))
    wrap = (unshare, "-m", "sh", "-c", f'{hidden} && exec "$@"', "sh", *netns.argv())
    done = logguardctl("setup", "--config", str(file), "--firewall", "auto", "--force", *PORTS, wrap=wrap)
    assert "nftables does not work here: nft: Permission denied" in done.stdout
    assert read(file)["firewall"]["backend"] == "iptables"
    assert "LOGGUARDD" not in netns.run("iptables-save").stdout


SSH = "192.0.2.77 50022 192.0.2.1 22"


@pytest.mark.parametrize(
    ("variable", "value", "address"),
    [
        ("SSH_CONNECTION", SSH, "192.0.2.77"),
        ("SSH_CLIENT", "2001:db8::77 50022 22", "2001:db8::77"),
        ("SSH_CONNECTION", "fe80::1%eth0 1 fe80::2%eth0 22", "fe80::1"),
        ("SSH_CONNECTION", "::ffff:192.0.2.77 1 ::ffff:192.0.2.1 22", "192.0.2.77"),
    ],
)
def test_where_the_administrator_is_is_never_banned(tmp_path, variable, value, address) -> None:
    file = configuration(tmp_path)
    logguardctl("setup", "--config", str(file), "--firewall", "print", *PORTS, env={variable: value})
    assert read(file)["detection"]["allowlist"] == ["127.0.0.0/8", "::1", address]


def test_sudo_takes_the_environment_away_but_not_the_parents(tmp_path) -> None:
    file = configuration(tmp_path)
    argv = ("setup", "--config", str(file), "--firewall", "print", *PORTS)
    # As sshd > shell > sudo > logguardctl. The shell must stay, not exec.
    kept = ["HOME=/", "LC_ALL=C.UTF-8", f"PYTHONPATH={CHECKOUT}", "PATH=/usr/bin:/bin"]
    wrap = ("env", f"SSH_CONNECTION={SSH}", "sh", "-c", '"$@"; exit $?', "sh", "env", "-i", *kept)
    logguardctl(*argv, wrap=wrap)
    assert "192.0.2.77" in read(file)["detection"]["allowlist"]
    other = configuration(tmp_path / "other")
    logguardctl("setup", "--config", str(other), "--firewall", "print", "--no-ssh-client", *PORTS, wrap=wrap)
    assert "allowlist" not in read(other)["detection"]


def test_redis_with_a_password(tmp_path) -> None:
    need("redis-server")
    server = Redis(tmp_path, "--requirepass", "se/cr#et")
    server.command = lambda *words: Redis.command(server, "-a", "se/cr#et", "--no-auth-warning", *words)  # type: ignore[method-assign]
    server.start()
    try:
        file = configuration(tmp_path / "etc")
        (tmp_path / "password").write_text("se/cr#et\n")
        argv = ("setup", "--config", str(file), "--firewall", "print", *PORTS, "--redis", server.url)
        done = logguardctl(*argv, check=False)
        assert done.returncode == 1
        assert "Redis at redis://127.0.0.1" in done.stderr
        assert copies(file) == []
        done = logguardctl(*argv, "--redis-password-file", str(tmp_path / "password"))
        assert read(file)["limiter"]["url"] == f"redis://:se%2Fcr%23et@127.0.0.1:{server.port}/0"
        assert "se%2Fcr" not in done.stdout
        assert "se/cr" not in done.stdout
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("--embedded", "--postgres", "postgresql://a@b/c"), "--embedded and --postgres exclude each other"),
        (("--embedded", "--postgres-admin", "local"), "--postgres-admin excludes --embedded and --postgres"),
        (("--allow", "office"), "'office' is not an address or a network"),
        (("--redis-password-file", "/nowhere"), "/nowhere: No such file"),
        (("--port", "70000"), "70000"),
        (("--redis", "http://x"), "limiter.url"),
        (("--postgres", "x"), "archive.url"),
    ],
)
def test_wrong_usage(tmp_path, argv, what) -> None:
    file = configuration(tmp_path)
    done = logguardctl("setup", "--config", str(file), "--firewall", "print", *argv, check=False)
    assert done.returncode == 2, done.stderr
    assert what in done.stderr
    assert copies(file) == []
