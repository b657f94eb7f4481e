"""logguardctl against a control socket that a Web serves in another thread."""

import asyncio
import json
import os
import socket
import threading
from contextlib import contextmanager

import pytest
from rich.console import Console

from logguardd import ctl, exits, tables
from tests.integration.serving import NOW, make_ban, serving


@pytest.fixture
def logguardctl(tmp_path, capsys):
    """Return a function that runs logguardctl and returns exit code, standard output and error."""

    def run(*argv, socket=True):
        place = ["--socket", str(tmp_path / "control.sock")] if socket else []
        code = exits.run(ctl.command, "logguardctl", [*place, *argv])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@contextmanager
def daemon(folder, *bans):
    """Serve in a thread; give the Control."""
    up, down = threading.Event(), asyncio.Event()
    found = {}

    async def serve():
        async with serving(folder, *bans, listen="") as served:
            found.update(control=served.control, loop=asyncio.get_running_loop())
            up.set()
            await down.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert up.wait(10)
    try:
        yield found["control"]
    finally:
        found["loop"].call_soon_threadsafe(down.set)
        thread.join(10)


BANS = (make_ban("192.0.2.1", 22), make_ban("2001:db8::/64", until=None), make_ban("198.51.100.1", until=NOW - 1))


def test_status(tmp_path, logguardctl):
    with daemon(tmp_path):
        code, out, _ = logguardctl("status")
        assert code == 0
        assert "journal" in out
        assert "up" in out
        assert "uptime" in out
        code, out, _ = logguardctl("status", "--json")
        assert json.loads(out)["uptime_seconds"] == 5


def test_bans(tmp_path, logguardctl):
    with daemon(tmp_path, *BANS):
        code, out, _ = logguardctl("bans")
        assert code == 0
        assert [line.split()[:3] for line in out.splitlines() if "db8" in line or "192" in line] == [
            ["192.0.2.1", "22", "auth"],
            ["2001:db8::/64", "all", "auth"],
        ]
        assert "for ever" in out
        assert "198.51.100.1" in logguardctl("bans", "--all")[1]
        assert "192.0.2.1" not in logguardctl("bans", "2001:db8::5")[1]
        assert logguardctl("bans", "203.0.113.1")[1] == "203.0.113.1 is not banned.\n"
        assert len(json.loads(logguardctl("bans", "--json")[1])["bans"]) == 2


def test_into_a_pipe_a_ban_is_one_line(tmp_path, logguardctl):
    long = make_ban("2001:db8:1111:2222:3333:4444:5555:6666", reason="word " * 100)
    with daemon(tmp_path, long):
        lines = logguardctl("bans")[1].splitlines()
    (line,) = [line for line in lines if "2001" in line]
    assert line.split()[-100:] == ["word"] * 100
    assert not [line for line in lines if "word" in line and "2001" not in line]


def test_on_a_narrow_terminal_an_address_stays_whole(capsys):
    ban = {
        "network": "2001:db8:1111:2222:3333:4444:5555:6666", "port": 65535, "jail": "auth", "count": 1, "active": True,
        "since": "2026-09-21T14:13:20.000Z", "until": None, "reason": "word " * 20,
    }  # fmt: skip
    Console(width=80).print(tables.bans([ban]))
    assert "2001:db8:1111:2222:3333:4444:5555:6666   65535" in capsys.readouterr().out


def test_nobody_is_banned(tmp_path, logguardctl):
    with daemon(tmp_path):
        assert logguardctl("bans")[1] == "Nobody is banned.\n"
        assert logguardctl("unban", "all")[1] == "Nobody is banned.\n"
        assert json.loads(logguardctl("bans", "--json")[1]) == {"bans": []}


def test_ban(tmp_path, logguardctl, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    with daemon(tmp_path) as control:
        code, out, _ = logguardctl("ban", "192.0.2.7", "--port", "22", "--for", "90s")
        assert code == 0
        assert "192.0.2.7" in out
        code, out, _ = logguardctl("ban", "2001:db8::/48", "--for", "forever", "--reason", "scanner", "--json")
        assert json.loads(out)["ban"]["until"] is None
        assert [(str(b.network), b.port, b.until, b.reason) for b in control.all] == [
            ("192.0.2.7/32", 22, NOW + 90_000_000, "banned by alice"),
            ("2001:db8::/48", 0, None, "scanner"),
        ]


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        (("ban", "127.0.0.1"), 1, "logguardctl: 127.0.0.1/32 is protected: allowlist"),
        (("ban", "db.example"), 2, 'network: "db.example"; allowed: an address'),
        (("ban", "192.0.2.1", "--for", "soon"), 2, "soon is not a duration; allowed: 10m"),
        (("ban", "192.0.2.1", "--port", "70000"), 2, "70000"),
        (("ban", "192.0.2.1", "--for", "99999d"), 2, "99999d is out of range; allowed: 1s to 36500d, or forever"),
        (("ban", "192.0.2.1", "--for", "999ms"), 2, "999ms is out of range"),
        (("ban", "192.0.2.1/24"), 2, '"192.0.2.1/24" has bits set after its prefix; allowed: 192.0.2.0/24'),
        (("ban", "8.0.0.0/7"), 2, '"8.0.0.0/7" is too wide; allowed: /8 or longer for IPv4'),
        (("ban", "2000::/15"), 2, "allowed: /16 or longer for IPv6"),
        (("ban", "::ffff:192.0.2.0/120"), 2, "is an IPv4 network in IPv6; allowed: 192.0.2.0/24"),
        (("--socket", "", "status"), 2, "'--socket': it is empty"),
        (("--config", "", "status"), 2, "'--config': it is empty"),
        (("ban",), 2, "ADDRESS"),
        (("unban", "203.0.113.1"), 1, "203.0.113.1 is not banned"),
        (("unban", "192.0.2.1", "--port", "80"), 1, "192.0.2.1 is not banned on port 80"),
        (("bans", "x\x1b[2J"), 2, r"x\x1b[2J"),
        (("stat",), 2, "stat"),
    ],
)
def test_refusals(tmp_path, logguardctl, argv, code, what):
    with daemon(tmp_path, *BANS):
        got, out, err = logguardctl(*argv)
    assert got == code
    assert what in err
    assert out == ""
    assert "\x1b" not in err


def test_unban(tmp_path, logguardctl):
    with daemon(tmp_path, *BANS) as control:
        assert logguardctl("unban", "192.0.2.1")[:2] == (0, "unbanned 192.0.2.1 on port 22\n")
        assert logguardctl("unban", "2001:db8::9", "--port", "0")[1] == "unbanned 2001:db8::/64 on all ports\n"
        assert [str(ban.network) for ban in control.all] == ["198.51.100.1/32"]


def test_reload(tmp_path, logguardctl):
    with daemon(tmp_path) as control:
        assert logguardctl("reload")[:2] == (0, "12 rules\n")
        control.ready = False
        code, _, err = logguardctl("reload")
        assert code == 2
        assert err == "logguardctl: f.toml:1: wrong\nlogguardctl: f.toml:2: wrong too\n"


def test_hostile_texts_do_not_reach_the_terminal(tmp_path, logguardctl):
    hostile = make_ban("192.0.2.1", reason="[bold red]x[/] \x1b[2J\u202e :boom:", jail="a\nb")
    with daemon(tmp_path, hostile):
        for form in ("bans", "bans --json"):
            _, out, _ = logguardctl(*form.split())
            assert "\x1b" not in out
            assert "\u202e" not in out
        _, out, _ = logguardctl("bans")
        assert r"[bold red]x[/] \x1b[2J\u202e :boom:" in out


def test_no_daemon(tmp_path, logguardctl):
    code, out, err = logguardctl("status")
    assert (code, out) == (1, "")
    assert err.startswith(f"logguardctl: logguardd does not run: nobody listens at {tmp_path}/control.sock; start it")
    assert err.count("\n") == 1


def test_the_socket_comes_from_the_configuration(tmp_path, logguardctl):
    file = tmp_path / "logguardd.toml"
    # A mistake elsewhere in the file does not keep the operator from asking the daemon that still runs.
    file.write_text(f'[http]\ncontrol = "{tmp_path}/control.sock"\n[listen]\nucp = []\n')
    with daemon(tmp_path):
        assert logguardctl("--config", str(file), "status", socket=False)[0] == 0
    assert "cannot be read" in logguardctl("--config", str(tmp_path / "no"), "status", socket=False)[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_permission_denied(tmp_path, logguardctl):
    with daemon(tmp_path):
        tmp_path.chmod(0o700)
        os.seteuid(65534)
        try:
            code, _, err = logguardctl("status")
        finally:
            os.seteuid(0)
    assert code == 1
    assert "permission denied; allowed: root and the daemon's user and group (try sudo)" in err


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"HTTP/1.1 200 OK\r\n\r\nhello"]
)
def test_something_else_listens_there(tmp_path, logguardctl, answer):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "control.sock"))
        other.listen()

        def serve():
            connection, _ = other.accept()
            connection.recv(4096)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        code, _, err = logguardctl("status")
        thread.join(10)
    assert code == 1
    assert "does not speak as logguardd does" in err
