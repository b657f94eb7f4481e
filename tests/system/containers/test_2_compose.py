"""packaging/docker/compose.yaml, by the commands that stand at its top: one story, in the order of the file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.servers.netns import Netns
from tests.servers.process import wait_until
from tests.system.containers.images import make_servers

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.containers.engine import Engine

ATTACKER, NEIGHBOUR = "203.0.113.66", "203.0.113.67"
SERVICES = ("postgres", "redis", "logguardd", "rsyslog", "generator")
#: Sends numbered messages to the rsyslog of the stack, a thousand a second.
_SENDER = """
import socket, sys, time
with socket.create_connection(("rsyslog", 514)) as stream:
    for number in range(int(sys.argv[2])):
        stream.sendall(b"<134>Nov 20 10:00:00 web1 numbered: %s %05d\\n" % (sys.argv[1].encode(), number))
        if number % 10 == 9:
            time.sleep(0.01)
    stream.shutdown(socket.SHUT_WR)
    stream.recv(1)
"""


class Stack:
    """The stack in an engine, used as its user uses it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        lines = (folder / "compose.yaml").read_text().splitlines()
        self.commands = [line.removeprefix("#     ") for line in lines if line.startswith("#     ")]

    def run(self, *words: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return self.engine.run("compose", *words, cwd=self.folder, check=check, timeout=timeout, SYSLOG_PORT="5514")

    def command(self, part: str) -> str:
        """Run the command at the top of the file that has ``part`` in it; return what it printed."""
        (command,) = (command for command in self.commands if part in command)
        script = command.removeprefix("cd packaging/docker && ").replace("up --build", "up --build --wait")
        words = re.findall(r'"[^"]*"|\S+', script.removeprefix("docker compose "))
        return self.run(*(word.strip('"') for word in words), timeout=600).stdout

    def ctl(self, *words: str) -> str:
        return self.run("exec", "-T", "logguardd", "logguardctl", *words).stdout

    def query(self, sql: str) -> str:
        done = self.run("exec", "-T", "postgres", "psql", "-U", "logguardd", "-Atc", sql, check=False)
        return done.stdout.strip()

    def container(self, service: str) -> str:
        return f"logguardd-{service}-1"

    def begin_sending(self, name: str, count: int) -> None:
        """Let a container send so many messages with this name; it ends with the last one."""
        self.engine.run(
            "run", "-d", "--rm", "--name", name, "--network", "logguardd_default", "--entrypoint", "python3",
            "logguardd", "-c", _SENDER, name, str(count),
        )  # fmt: skip

    def archived(self, name: str) -> str:
        """Return how many different messages with this name are in PostgreSQL."""
        return self.query(f"SELECT count(DISTINCT message) FROM logs WHERE message LIKE '{name} %'")

    def say(self, app: str, message: str) -> None:
        """Let the rsyslog container say something."""
        self.run("exec", "-T", "rsyslog", "logger", "-T", "-n", "127.0.0.1", "-P", "514", "-t", app, message)


@pytest.fixture(scope="module")
def stack(engine: Engine, image: str, shared_checkout: Path) -> Iterator[Stack]:
    """Return the stack, not yet up; its build finds the layers of ``image``."""
    if engine.run("compose", "version", check=False).returncode:
        pytest.skip("no `docker compose` here")
    make_servers(engine)
    made = Stack(engine, shared_checkout / "packaging/docker")
    yield made
    made.run("--profile", "firewall", "down", "--volumes", check=False)


def test_up(stack: Stack, engine: Engine) -> None:
    stack.command("up --build")
    engine.wait_healthy(*(stack.container(name) for name in ("postgres", "redis", "logguardd")))
    for name in SERVICES:
        assert engine.inspect(stack.container(name))["State"]["Running"], engine.logs(stack.container(name))
    wait_until(lambda: "203.0.113." in stack.command("logguardctl bans"), timeout=60, what="bans")
    assert "sshd" in stack.command("SELECT service_name")
    address = re.search(r"203\.0\.113\.\d+", stack.ctl("bans"))[0]  # type: ignore[index]
    assert stack.query(f"SELECT is_active FROM blacklist WHERE ip_address = '{address}'") == "t"
    keys = stack.run("exec", "-T", "redis", "redis-cli", "keys", "*").stdout
    assert address in keys
    ready = json.loads(engine.outside.run("curl", "-s", "http://127.0.0.1:9514/readyz").stdout)
    assert {part["state"] for part in ready["components"].values()} == {"up"}
    # From outside the stack.
    for transport in ("--udp", "--tcp"):
        engine.outside.run("logger", transport, "-n", "127.0.0.1", "-P", "5514", f"outside {transport}")
    wait_until(lambda: stack.archived("outside") == "2", what="messages from outside")
    # Nobody takes ten seconds to stop.
    stack.run("stop", "generator", timeout=8)


@pytest.mark.parametrize("service", ["postgres", "redis", "logguardd"])
def test_nothing_is_lost_when_one_crashes_and_is_restarted(stack: Stack, engine: Engine, service: str) -> None:
    count = 8000
    stack.begin_sending(service, count)
    wait_until(lambda: int(stack.archived(service) or 0) > 500, what="the first messages")
    engine.crash(stack.container(service))
    wait_until(lambda: int(stack.archived(service) or 0) > 4000, timeout=60, what="messages after the crash")
    stack.run("restart", service)
    wait_until(lambda: stack.archived(service) == str(count), timeout=90, what=f"all {count} messages")
    engine.wait_healthy(stack.container(service), stack.container("logguardd"))
    wait_until(
        lambda: {part["state"] for part in json.loads(stack.ctl("status", "--json"))["components"].values()} == {"up"},
        what="all parts up",
    )
    assert int(stack.query("SELECT count(*) FROM blacklist")) > 0
    assert "203.0.113." in stack.ctl("bans")


def test_a_sender_waits_for_the_server_and_outlives_a_crash(stack: Stack, engine: Engine) -> None:
    stack.run("stop", "logguardd")
    stack.begin_sending("waiting", 3000)
    wait_until(lambda: engine.run("inspect", "waiting", check=False).returncode, what="the end of sending")
    stack.run("start", "logguardd")
    wait_until(lambda: stack.archived("waiting") == "3000", timeout=60, what="what has waited")
    engine.crash(stack.container("rsyslog"))

    def after() -> bool:
        stack.run(
            "exec", "-T", "rsyslog", "logger", "-T", "-n", "127.0.0.1", "-P", "514", "after the crash", check=False
        )
        return stack.archived("after") == "1"

    wait_until(after, timeout=30, what="a message after the crash")


def test_the_firewall_of_the_machine(stack: Stack, engine: Engine) -> None:
    outside = engine.outside
    stack.run("--profile", "firewall", "up", "-d")
    wait_until(lambda: "logguardd-firewall follows" in stack.ctl("status"), timeout=60, what="the follower")
    attacker = Netns()
    try:
        attacker.connect(outside, [f"{ATTACKER}/24", f"{NEIGHBOUR}/24"], ["203.0.113.1/24"])

        def reaches(source: str) -> bool:
            script = "import socket, sys; socket.create_connection(('203.0.113.1', 5514), 1, (sys.argv[1], 0))"
            return attacker.run("python3", "-c", script, source, check=False).returncode == 0

        for port in range(6):
            stack.say("sshd", f"Failed password for root from {ATTACKER} port {4022 + port} ssh2")
        # Into the container, whose packets are forwarded.
        wait_until(lambda: not reaches(ATTACKER), what="the attacker cut off")
        assert reaches(NEIGHBOUR)
        banned = outside.run("nft", "list", "set", "inet", "logguardd", "banned4").stdout
        assert re.search(rf"{ATTACKER} timeout 10m expires 9m", banned)
        # Without those who keep it the kernel still knows.
        engine.crash(stack.container("firewall"))
        stack.run("restart", "logguardd")
        assert not reaches(ATTACKER)
        wait_until(lambda: "logguardd-firewall follows" in stack.ctl("status"), timeout=60, what="the follower again")
        stack.ctl("unban", ATTACKER)
        wait_until(lambda: reaches(ATTACKER), what="the attacker let in")
    finally:
        attacker.delete()
    process = stack.run("exec", "-T", "firewall", "cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000001000\n" in process  # CAP_NET_ADMIN


def test_away_with_everything(stack: Stack, engine: Engine) -> None:
    assert "table inet logguardd" in engine.outside.run("nft", "list", "ruleset").stdout
    stack.command("stop firewall")
    stack.command("--flush")
    stack.command("down --volumes")
    assert "logguardd" not in engine.outside.run("nft", "list", "ruleset").stdout
    assert engine.say("ps", "--all", "--quiet") == ""
    assert engine.say("volume", "ls", "--quiet") == ""
    assert "logguardd" not in engine.say("network", "ls")
