"""setup at a terminal: what it asks, and what it makes of the answers."""

from __future__ import annotations

import os
import pty
import select
import sys
import termios
import time

from logguardd import config
from tests.integration.setups import configuration
from tests.servers.daemon import CHECKOUT
from tests.servers.process import wait_until

PORTS = ("--port", "0", "--tls", "--tls-port", "16514", "--follow-port", "0")


class Terminal:
    """logguardctl at a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self.said = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.environ.update(PYTHONPATH=str(CHECKOUT), TERM="dumb", COLUMNS="200")
            os.environ.pop("SSH_CONNECTION", None)
            os.execv(sys.executable, [sys.executable, "-m", "logguardd.ctl", *argv])

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            self._read()

    def answer(self, question: str, answer: str, *, hidden: bool = False) -> None:
        self.until(question)
        if hidden:  # what is typed before the echo is off is thrown away
            wait_until(lambda: not termios.tcgetattr(self.descriptor)[3] & termios.ECHO, what="no echo")
        self.said = self.said.partition(question)[2]
        os.write(self.descriptor, answer.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], 30)[0]:
            return False
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:  # the child has closed its side
            return False
        self.said += data.decode()
        return bool(data)


def test_questions_at_a_terminal(tmp_path, redis_server) -> None:
    file = configuration(tmp_path)
    terminal = Terminal("setup", "--config", str(file), "--firewall", "print", "--port", "0", "--tls-port", "16514")
    terminal.answer("Where are they kept? (embedded, postgresql) [embedded]", "")
    terminal.answer("Where are they counted? (memory, redis) [memory]", "redis")
    terminal.answer("URL of Redis [redis://127.0.0.1:6379/0]", "http://x")
    terminal.answer("URL of Redis [redis://127.0.0.1:6379/0]", redis_server.url)
    terminal.answer("Its password (empty: none)", "", hidden=True)
    terminal.answer("Other networks that are never banned", "office")
    terminal.answer("'office' does not appear to be an IPv4 or IPv6 network", "192.0.2.0/24 2001:db8::/32")
    terminal.answer("Who may send", "10.0.0.0/8")
    terminal.answer("Receive over TLS? [y/N]", "y")
    terminal.answer("Names and addresses of this server", "logs.example.net 192.0.2.1")
    terminal.answer("follow, at port 9515? [Y/n]", "n")
    terminal.answer("Go on? [Y/n]", "y")
    assert terminal.end() == 0, terminal.said
    read = config.load(str(file))
    assert read.limiter.url == redis_server.url
    assert [str(network) for network in read.detection.allowlist[-2:]] == ["192.0.2.0/24", "2001:db8::/32"]
    assert [str(network) for network in read.listen.allowed_senders] == ["10.0.0.0/8"]
    assert read.listen.tls == ("[::]:16514",)
    assert read.http.follow == ""
    assert "client-config HOST" in terminal.said


def test_no_is_no(tmp_path) -> None:
    file = configuration(tmp_path)
    before = file.read_text()
    terminal = Terminal("setup", "--config", str(file), "--firewall", "print", "--embedded", *PORTS)
    terminal.answer("never banned, such as your office's", "")
    terminal.answer("Who may send", "")
    terminal.answer("Names and addresses", "")
    terminal.answer("Go on? [Y/n]", "n")
    assert terminal.end() == 1
    assert "nothing was changed" in terminal.said
    assert file.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logguardd.toml"]


def test_yes_asks_nothing(tmp_path) -> None:
    file = configuration(tmp_path)
    terminal = Terminal("setup", "--config", str(file), "--firewall", "print", "--yes", *PORTS)
    assert terminal.end() == 0, terminal.said
    assert "[Y/n]" not in terminal.said
