"""Limits on open files, as shells and container engines set them, beside listen.max_connections."""

import contextlib
import socket
from pathlib import Path

import pytest

from tests.servers.daemon import Daemon
from tests.servers.process import need, wait_until


@pytest.fixture
def limited(tmp_path):
    """Start the daemon with a soft and a hard limit on its open files."""
    started = []
    (prlimit,) = need("prlimit")

    def start(soft, hard, config):
        daemon = Daemon(tmp_path, config, wrap=lambda *argv: (prlimit, f"--nofile={soft}:{hard}", *argv))
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in started:
        daemon.close()


@contextlib.contextmanager
def senders(daemon, count):
    """Connect ``count`` senders, each with one message, and keep them."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.ports["tcp"]), timeout=10))
            sender.sendall(b"<13>sender %d\n" % number)
        yield


def test_a_low_soft_limit_is_raised(limited):
    daemon = limited(64, 1024, "[listen]\nmax_connections = 200\n")
    with senders(daemon, 150):
        wait_until(lambda: daemon.metric("logguardd_messages_total") == 150, what="a message of each")
    assert "open files" not in daemon.child.output()


def test_a_low_hard_limit_is_told(limited):
    daemon = limited(300, 400, "[listen]\nmax_connections = 200\n")
    assert (
        f"warning {daemon.file}:4: listen.max_connections: 200 connections over all listeners take 456 open files, "
        "and this process may have 400; lower it or raise the limit (LimitNOFILE= in a unit, --ulimit nofile= of a "
        "container)\n"
    ) in daemon.child.output()
    limits = Path(f"/proc/{daemon.pid}/limits").read_text().splitlines()
    (line,) = (line.split() for line in limits if line.startswith("Max open files"))
    assert line[3:5] == ["400", "400"]
