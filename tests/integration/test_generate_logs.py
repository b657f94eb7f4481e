"""scripts/generate_logs.py: every scenario and format parses and is matched as meant; its command line; its speed."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from logguardd import parsing, rules
from logguardd.records import SECOND, Batch, Origin
from tests.servers.daemon import CHECKOUT

if TYPE_CHECKING:
    from logguardd.rules import RuleSet

SCENARIOS = ("normal", "attack", "scan", "slow", "forged")


def generate(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts/generate_logs.py"), *argv],
        capture_output=True, text=True, timeout=60, check=False, env={"TZ": "UTC"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def catalogue() -> RuleSet:
    paths = sorted((CHECKOUT / "etc/rules.d").glob("*.toml"))
    return rules.load([(path.name, path.read_text()) for path in paths])


@pytest.mark.parametrize("style", ["rfc3164", "rfc3339", "rfc5424"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_it_writes_is_read_as_meant(scenario: str, style: str, catalogue: RuleSet) -> None:
    done = generate("--scenario", scenario, "--format", style, "--count", "3000", "--rate", "0", "--target", "-")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.encode().splitlines()
    assert len(lines) == 3000
    now = time.time_ns() // 1000
    batch = Batch(1, now, Origin("192.0.2.1", "tcp"), b"\n".join(lines), len(lines))
    records = parsing.parse(batch, timezone=ZoneInfo("UTC"), max_clock_skew=300 * SECOND)
    assert {record.parse_error for record in records} == {None}
    assert all(record.hostname and record.hostname.startswith("web") and record.app_name for record in records)
    counted = {
        match.address
        for match in catalogue.match(records)
        if match and match.countable and match.address and not (match.rule and match.rule.severity == "info")
    }
    assert not any(re.match(r"192\.0\.2\.|198\.51\.100\.", address) for address in counted)
    attackers = {address for address in counted if re.match(r"203\.0\.113\.|2001:db8:bad:", address)}
    assert attackers == counted
    assert bool(attackers) == (scenario != "normal")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("--target", "tcp://127.0.0.1"), "--target tcp://127.0.0.1: want udp://HOST:PORT"),
        (("--target", "tcp://127.0.0.1:99999"), "want udp://HOST:PORT"),
        (("--target", "http://127.0.0.1:80"), "want udp://HOST:PORT"),
        (("--target", "tcp://[::1:80"), "want udp://HOST:PORT"),
        (("--target", "-", "--rate", "nan"), "--rate"),
        (("--target", "-", "--rate", "inf"), "--rate"),
        (("--target", "-", "--duration", "0"), "--duration"),
        (("--target", "-", "--attackers", "255"), "--attackers"),
        (("--target", "tls://127.0.0.1:1", "--key", "x.pem"), "--key"),
    ],
)
def test_a_wrong_command_line(argv: tuple[str, ...], reason: str) -> None:
    done = generate(*argv)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_a_target_that_is_not_there() -> None:
    done = generate("--target", "tcp://127.0.0.1:1", "--count", "1")
    assert (done.returncode, done.stderr) == (1, "generate_logs.py: tcp://127.0.0.1:1: Connection refused\n")


def test_one_process_loads_a_tcp_receiver() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drain() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(1 << 20):
                    pass

        receiver = threading.Thread(target=drain)
        receiver.start()
        target = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done = generate("--rate", "0", "--count", "1000000", "--target", target)
        receiver.join()
    rate = re.search(r"sent 1000000 messages in \S+ s, (\d+)/s", done.stderr)
    assert rate
    assert int(rate[1]) >= 100_000
