"""A daemon that gets its sockets from systemd, as logguardd.socket passes them: an address in the file is enough."""

import sys

import pytest

# What systemd does (sd_listen_fds(3)): sockets from descriptor 3 on, then the program itself.
_ACTIVATE = """
import os, socket, sys
sockets = [socket.socket(type=kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
for port, each in zip(sys.argv[1:3], sockets):
    each.bind(("127.0.0.1", int(port)))
sockets[1].listen()
for number, each in enumerate(sockets):
    os.dup2(os.dup(each.fileno()), 20 + number)
for number in (0, 1):
    os.dup2(20 + number, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="syslog:syslog")
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def start(make_daemon):
    def start(config=""):
        daemon = make_daemon(config)
        ports = [str(daemon.ports[name]) for name in ("udp", "tcp")]
        daemon.wrap = lambda *argv: [sys.executable, "-c", _ACTIVATE, *ports, *argv]
        daemon.start()
        return daemon, daemon.child.output()

    return start


def test_sockets_are_taken_by_their_address(start):
    daemon, said = start()
    assert "systemd passed" not in said
    assert daemon.request("GET", "/status")[1]["listening"] == {
        "udp": f"127.0.0.1:{daemon.ports['udp']}",
        "tcp": f"127.0.0.1:{daemon.ports['tcp']}",
    }


def test_sockets_are_taken_by_their_name(start):
    _, said = start('[listen]\nudp = ["systemd:syslog"]\ntcp = ["systemd:syslog"]')
    assert "systemd passed" not in said


def test_one_that_nobody_takes_is_told(start):
    _, said = start('[listen]\ntcp = []\nudp = ["systemd:syslog"]')
    assert "systemd passed a socket that no listen key takes: syslog" in said
