"""The image, as docs/install.md says to run it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.servers.daemon import CHECKOUT
from tests.servers.process import wait_until
from tests.system.containers.images import make_slim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.containers.engine import Engine

ATTACKER = "203.0.113.5"
PORTS = ("-p", "514:5514/udp", "-p", "514:5514/tcp")
#: What docs/install.md shuts it in with.
SHUT_IN = (
    "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--tmpfs", "/tmp", "--tmpfs", "/run/logguardd:uid=514,gid=514",
)  # fmt: skip


@contextmanager
def running(engine: Engine, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """Run the image; remove container and volumes afterwards. Gives the container's name."""
    engine.run("run", "-d", "--name", "logguardd", *options, "logguardd", *command)
    try:
        yield "logguardd"
    finally:
        engine.run("rm", "--force", "--volumes", "logguardd")
        engine.run("volume", "rm", "--force", "logguardd")


def wait_receiving(engine: Engine) -> None:
    wait_until(lambda: "is receiving at" in engine.logs("logguardd"), what=f"logguardd: {engine.logs('logguardd')}")


def ctl(engine: Engine, *words: str) -> str:
    return engine.say("exec", "logguardd", "logguardctl", *words)


def status(engine: Engine) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads(ctl(engine, "status", "--json"))
    return found


def send(engine: Engine, transport: str, message: str, tag: str = "test") -> None:
    """Send one message with logger from the machine that the engine runs on."""
    engine.outside.run("logger", transport, "-n", "127.0.0.1", "-P", "514", "-t", tag, message)


def archived(engine: Engine, columns: str) -> list[list[str]]:
    """Return these columns of every message in the embedded archive."""
    script = (
        "import sqlite3\nfor row in sqlite3.connect('/var/lib/logguardd/archive.db').execute("
        f"'SELECT {columns} FROM logs'): print(*row, sep='|')"
    )
    return [line.split("|") for line in engine.say("exec", "logguardd", "python3", "-c", script).splitlines()]


def failed_login(port: int) -> str:
    return f"Failed password for root from {ATTACKER} port {port} ssh2"


def test_what_the_image_is(engine: Engine, image: str) -> None:
    found, base = engine.inspect(image), engine.inspect("debian:12-slim")
    assert found["Config"]["User"] == "logguardd"
    assert found["Config"]["Labels"]["org.opencontainers.image.title"] == "logguardd"
    assert {variable.partition("=")[0] for variable in found["Config"]["Env"]} == {"PATH"}
    assert found["Size"] - base["Size"] < 100_000_000
    # A new logguardd is not a new everything.
    layers = engine.say("history", "--format", "{{.Size}}", "--human=false", image).splitlines()
    assert sorted(map(int, layers))[-3] < 5_000_000
    who = engine.say("run", "--rm", "--entrypoint", "id", image)
    assert who == "uid=514(logguardd) gid=514(logguardd) groups=514(logguardd)"
    assert "OK: /etc/logguardd/logguardd.toml: 2 listeners" in engine.say("run", "--rm", image, "check-config")
    assert '[archive]\nurl = "sqlite:' in engine.say("run", "--rm", image, "print-config")


def test_what_is_not_in_the_package_builds_nothing_anew(engine: Engine, image: str, checkout: Path) -> None:
    before = engine.inspect(image)["Id"]
    (checkout / "tests/conftest.py").write_text("")
    (checkout / "packaging/docker/compose.yaml").write_text("")
    engine.build(image, "-f", str(checkout / "packaging/docker/Dockerfile"), str(checkout))
    assert engine.inspect(image)["Id"] == before


@pytest.mark.usefixtures("image")
def test_messages_bans_stop_and_start(engine: Engine) -> None:
    volume = ("-v", "logguardd:/var/lib/logguardd")
    with running(engine, *PORTS, *volume) as name:
        wait_receiving(engine)
        send(engine, "--udp", "by UDP")
        for port in range(6):
            send(engine, "--tcp", failed_login(4020 + port), "sshd")
        wait_until(lambda: ATTACKER in ctl(engine, "bans"), what="the ban")
        assert f"{ATTACKER} is banned on all ports" in ctl(engine, "why", ATTACKER)
        assert ATTACKER in ctl(engine, "replay")
        assert "7 messages from the journal" in ctl(engine, "replay")
        # Its own words, and what the print backend writes.
        assert f"warning ban {ATTACKER}: 6 hits of sshd-failed-password" in engine.logs(name)
        assert f"add element inet logguardd banned4 {{ {ATTACKER} timeout 600s }}" in engine.logs(name)
        engine.wait_healthy(name)
        # SIGHUP and a stop while messages come in.
        engine.run("kill", "--signal", "HUP", name)
        wait_until(lambda: "reloaded: " in engine.logs(name), what="the reload")
        command = [str(CHECKOUT / "scripts/generate_logs.py"), "--scenario", "normal", "--rate", "5000",
                   "--duration", "60", "--target", "tcp://127.0.0.1:514"]  # fmt: skip
        sender = subprocess.Popen(engine.outside.argv(*command), stderr=subprocess.PIPE, text=True)
        wait_until(lambda: status(engine)["messages"]["tcp"] > 5000, what="messages")
        started = time.monotonic()
        engine.run("stop", name)
        assert time.monotonic() - started < 8
        assert engine.inspect(name)["State"]["ExitCode"] == 0
        assert engine.logs(name).endswith(" info    stopped\n")
        assert "Broken pipe" in sender.communicate(timeout=30)[1] or sender.returncode
        # All that was received is archived.
        engine.run("start", name)
        wait_until(lambda: engine.logs(name).count("archive: connected") == 2, what="the second start")
        said = re.findall(r"archive: connected, going on at journal position (\d+) of (\d+)", engine.logs(name))[-1]
        assert said[0] == said[1]
        assert int(said[0]) > 5000
        assert ATTACKER in ctl(engine, "bans")


@pytest.mark.usefixtures("image")
def test_shut_in(engine: Engine) -> None:
    with running(engine, *SHUT_IN, *PORTS, "-v", "logguardd:/var/lib/logguardd") as name:
        engine.wait_healthy(name)
        send(engine, "--udp", "received")
        wait_until(lambda: status(engine)["archive"]["offset"] == 2, what="the message in the archive")
        process = dict(line.split(":\t") for line in engine.say("exec", name, "cat", "/proc/1/status").splitlines())
        assert {process[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {"0000000000000000"}
        assert process["NoNewPrivs"] == "1"
        assert process["Uid"].split() == ["514"] * 4
        assert "Read-only file system" in engine.run("exec", name, "touch", "/etc/logguardd/x", check=False).stderr


@pytest.mark.usefixtures("image")
def test_a_wrong_configuration_is_one_line_and_exit_status_2(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "logguardd.toml"
    file.write_text('[listen]\nudp = ["[::]:5514"]\ntpc = []\n')
    file.chmod(0o644)
    mount = ("-v", f"{file}:/etc/logguardd/logguardd.toml:ro")
    line = '/etc/logguardd/logguardd.toml:3: listen.tpc: unknown key, did you mean "tcp"?'
    for command in ("check-config", "run"):
        done = engine.run("run", "--rm", *mount, "logguardd", command, check=False)
        assert done.returncode == 2
        assert line in done.stderr
        assert len(done.stderr.splitlines()) == 1
    # Docker tries again, ever more seldom; with the file set right it is up.
    with running(engine, *mount, "--restart", "unless-stopped") as name:
        wait_until(lambda: engine.inspect(name)["RestartCount"] >= 2, what="two restarts")
        assert all(line in said for said in engine.logs(name).splitlines())
        file.write_text('[listen]\nudp = ["[::]:5514"]\n')
        wait_receiving(engine)


@pytest.mark.usefixtures("image")
def test_as_another_user(engine: Engine, tmp_path: Path) -> None:
    as_user = ("--user", "1000:1000")
    done = engine.run("run", "--rm", *as_user, "logguardd", check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "logguardd: journal: /var/lib/logguardd/journal.db: Permission denied; "
        "the file and its folder must be writable by the daemon's user\n"
    )
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    given = ("--tmpfs", "/run/logguardd:uid=1000,gid=1000", "-v", f"{data}:/var/lib/logguardd")
    with running(engine, *as_user, *given):
        wait_receiving(engine)
        assert status(engine)["journal"]["head"] == 1
    assert {file.stat().st_uid for file in data.iterdir()} == {1000}


@pytest.mark.usefixtures("image")
def test_time_zone(engine: Engine) -> None:
    with running(engine, *PORTS, "-e", "TZ=Asia/Tokyo"):
        wait_receiving(engine)
        # Nine hours ahead, as a host there writes it: that is now.
        stamp = time.strftime("%b %e %H:%M:%S", time.gmtime(time.time() + 9 * 3600))
        script = "import socket, sys; socket.create_connection(('127.0.0.1', 514)).sendall(sys.argv[1].encode())"
        engine.outside.run("python3", "-c", script, f"<13>{stamp} tokyo test: hello\n")
        wait_until(lambda: status(engine)["archive"]["offset"] == 2, what="the message in the archive")
        ((sent, received),) = archived(engine, "timestamp, created_at")
        assert sent != received  # the sender's, to the second
        apart = datetime.fromisoformat(received) - datetime.fromisoformat(sent)
        assert abs(apart) < timedelta(seconds=10)


@pytest.mark.usefixtures("image")
def test_messages_of_the_engine_itself(engine: Engine) -> None:
    """What other containers print, sent by Docker's own log driver."""
    with running(engine, *PORTS):
        wait_receiving(engine)
        for transport, style in (("udp", "rfc5424micro"), ("tcp", "rfc5424"), ("udp", "rfc3164")):
            engine.run(
                "run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address={transport}://127.0.0.1:514",
                "--log-opt", f"syslog-format={style}", "--log-opt", "tag=sshd", "--entrypoint", "echo", "logguardd",
                failed_login(22),
            )  # fmt: skip
        wait_until(lambda: status(engine)["archive"]["offset"] == 4, what="three messages in the archive")
        row = ["sshd", ATTACKER, "sshd-failed-password", "None"]
        assert archived(engine, "service_name, source_ip, rule, parse_error") == [row] * 3


def test_on_debian_13_too(engine: Engine, checkout: Path, tmp_path: Path) -> None:
    tag = make_slim(engine, "trixie", tmp_path / "trixie")
    dockerfile = str(checkout / "packaging/docker/Dockerfile")
    engine.build("logguardd:13", "--build-arg", f"DEBIAN={tag}", "-f", dockerfile, str(checkout))
    engine.run("run", "-d", "--name", "thirteen", "logguardd:13")
    try:
        engine.wait_healthy("thirteen")
    finally:
        engine.run("rm", "--force", "--volumes", "thirteen")
