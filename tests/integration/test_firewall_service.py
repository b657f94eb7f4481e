"""logguardd-firewall as its user runs it: options, exit codes, signals, systemd, what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from logguardd import feed
from tests.integration.feeds import FeedServer, ban, elements, now, service
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.netns import Netns
    from tests.servers.process import Child


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FeedServer]:
    need("nft", "iptables", "ipset", "ip")
    made = FeedServer(tmp_path / "control.sock")
    yield made
    made.close()


@pytest.fixture
def start(netns: Netns, tmp_path: Path, server: FeedServer) -> Iterator:
    """Start the service following the server; more options and environment as arguments."""
    children: list[Child] = []

    def run(*options: str, follow: bool = True, **env: str) -> Child:
        source = ("--follow", f"unix:{server.path}") if follow else ()
        children.append(service(netns, tmp_path, *source, *options, env=env))
        return children[-1]

    yield run
    for child in children:
        child.stop()


def ended(child: Child) -> int:
    return child.process.wait(20)


def holds(space: Netns, *names: str) -> None:
    wait_until(lambda: (elements(space) or {}).keys() == set(names), timeout=10, what=f"{names} in the kernel")


def ruleset(space: Netns) -> str:
    return space.run("sh", "-c", "nft list ruleset; iptables-save; ip6tables-save; ipset save").stdout


def test_bans_outlive_the_service_and_the_next_one_takes_over(netns: Netns, server: FeedServer, start) -> None:
    first = start("--backend", "nftables")
    server.accept().greet(ban("192.0.2.1"), ban("192.0.2.2", 22))
    holds(netns, "192.0.2.1", "192.0.2.2 22")
    assert first.stop() == 0
    assert "bans stay in the kernel" in first.output()
    start("--backend", "auto")
    connection = server.accept()
    holds(netns, "192.0.2.1", "192.0.2.2 22")
    connection.greet(ban("192.0.2.1"), ban("192.0.2.3"))
    holds(netns, "192.0.2.1", "192.0.2.3")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_mean_nothing_do_not_end_it(netns: Netns, server: FeedServer, start, number) -> None:
    child = start("--backend", "nftables")
    connection = server.accept().greet(ban("192.0.2.1"))
    holds(netns, "192.0.2.1")
    child.process.send_signal(number)
    wait_until(lambda: f"{number.name}: there is nothing to reload" in child.output(), what="its answer")
    connection.send(feed.change([ban("192.0.2.2")]))
    holds(netns, "192.0.2.1", "192.0.2.2")


def test_configuration_names_backend_output_and_control_socket(
    netns: Netns, server: FeedServer, start, tmp_path: Path
) -> None:
    output = tmp_path / "commands"
    (tmp_path / "logguardd.toml").write_text(
        f'[firewall]\nbackend = "print"\noutput = "{output}"\n[http]\ncontrol = "{server.path}"\n'
    )
    start(follow=False)
    server.accept().greet(ban("192.0.2.1"))
    wait_until(lambda: output.exists() and "192.0.2.1 timeout 300s" in output.read_text(), what="the printed ban")
    assert ruleset(netns) == ""
    netns.run("sh", "-e", str(output))
    holds(netns, "192.0.2.1")


def test_print_to_standard_output_without_privilege(server: FeedServer, start, netns: Netns) -> None:
    child = start("--backend", "print", "--dialect", "iptables", "--once")
    server.accept().greet(ban("192.0.2.1", 22))
    assert ended(child) == 0
    assert "add logguardd_banned4_ports 192.0.2.1,tcp:22 timeout 300\n" in child.output()
    assert ruleset(netns) == ""


def test_once(netns: Netns, server: FeedServer, start) -> None:
    child = start("--backend", "nftables", "--once", "--never", "198.51.100.0/24", "--never", "2001:db8::1")
    connection = server.accept()
    snapshot = next(feed.snapshot([ban("192.0.2.1")])).replace(b"false", b"true")
    connection.send(feed.hello(now(), "x"), [snapshot])
    assert child.alive()
    connection.send(feed.snapshot([ban("198.51.100.7"), ban("2001:db8::/32"), ban("192.0.2.2")]))
    assert ended(child) == 0
    assert (elements(netns) or {}).keys() == {"192.0.2.1", "192.0.2.2"}
    assert child.output().count("named by --never") == 2


def test_once_fails_without_a_server_or_a_valid_feed(server: FeedServer, start) -> None:
    child = start("--backend", "nftables", "--once")
    server.accept().send([b"nonsense\n"])
    assert ended(child) == 1
    assert f"logguardd-firewall: unix:{server.path}: line 1: not JSON" in child.output()
    server.close()
    server.path.unlink()
    child = start("--backend", "nftables", "--once")
    assert ended(child) == 1
    assert "No such file or directory; is logguardd running?" in child.output()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--follow", "/run/x"), "--follow: /run/x: not a source; allowed: unix:PATH"),
        (("--follow", "ftp://x"), "--follow: ftp://x: not a source"),
        (("--follow", "https://x", "--ca", "/nowhere.pem"), "--ca: /nowhere.pem: No such file or directory"),
        (("--never", "192.0.2"), "'192.0.2' is not an address or a network"),
        (("--backend", "pf"), "'pf' is not one of 'auto', 'nftables', 'iptables', 'print'"),
        (("--config", "/nowhere.toml"), "/nowhere.toml: cannot be read"),
        (("--nonsense",), "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(start, options, message) -> None:
    child = start(*options, follow=False)
    assert ended(child) == 2
    assert message in child.output()
    assert "Traceback" not in child.output()


def test_without_the_capability_it_says_so(netns: Netns, tmp_path: Path) -> None:
    (setpriv,) = need("setpriv")
    argv = [
        setpriv,
        "--bounding-set=-net_admin",
        "--inh-caps=-net_admin",
        sys.executable,
        "-m",
        "logguardd.firewall.service",
    ]
    for options in (["--backend", "nftables"], ["--flush"], ["--list"]):
        done = netns.run("env", f"PYTHONPATH={CHECKOUT}", *argv, *options, "--config", os.devnull, check=False)
        assert done.returncode == 1
        assert "logguardd-firewall: changing the firewall needs CAP_NET_ADMIN" in done.stderr


def test_a_missing_program_is_named(netns: Netns, tmp_path: Path, start) -> None:
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "nft").write_text("#!/bin/sh\necho 'nft: cannot talk to the kernel' >&2; exit 1\n")
    (shim / "nft").chmod(0o755)
    child = start("--backend", "nftables", PATH=f"{shim}:/usr/bin:/bin")
    assert ended(child) == 1
    assert "nft list tables: nft: cannot talk to the kernel" in child.output()


@pytest.mark.parametrize("ipset", ["with ipset", "without ipset"])
def test_iptables_with_and_without_ipset(netns: Netns, server: FeedServer, start, tmp_path: Path, ipset: str) -> None:
    shim = tmp_path / "bin"
    shim.mkdir()
    if ipset == "without ipset":
        (shim / "ipset").write_text("#!/bin/sh\necho 'ipset: kernel error received: Invalid argument' >&2; exit 1\n")
        (shim / "ipset").chmod(0o755)
    child = start("--backend", "iptables", PATH=f"{shim}:/usr/bin:/bin")
    server.accept().greet(ban("192.0.2.1", 22), ban("2001:db8::/64"), ban("192.0.2.2", 0, 2))
    rule = "-s 192.0.2.2/32 -j DROP" if ipset == "without ipset" else "192.0.2.2 timeout"
    wait_until(lambda: rule in ruleset(netns), what="the bans")
    state = ruleset(netns)
    assert "PROBE" not in state.upper()
    assert ("192.0.2.1,tcp:22" in state) == (ipset == "with ipset")
    assert ("no ipset here" in child.output()) == (ipset == "without ipset")
    wait_until(lambda: rule not in ruleset(netns), what="the ban's end")
    assert re.search(r"192\.0\.2\.1(/32 -p tcp|,tcp:22)", ruleset(netns))


def test_another_backend_leaves_nothing_of_the_former(netns: Netns, server: FeedServer, start) -> None:
    names = {"nftables": "table inet logguardd", "iptables": "logguardd_banned4 192.0.2.1 "}
    for backend, other in (("nftables", "iptables"), ("iptables", "nftables"), ("nftables", "iptables")):
        child = start("--backend", backend)
        server.accept().greet(ban("192.0.2.1"))
        wait_until(lambda name=names[backend]: name in ruleset(netns), what=backend)
        wait_until(lambda child=child: "in step" in child.output(), what="the bans")
        assert names[other] not in ruleset(netns)
        assert ("LOGGUARDD" in ruleset(netns)) == (backend == "iptables")
        assert child.stop() == 0


def test_list_and_flush(netns: Netns, server: FeedServer, start) -> None:
    for backend in ("nftables", "iptables"):
        child = start("--backend", backend, "--once")
        server.accept().greet(ban("192.0.2.1"), ban("2001:db8::1"))
        assert ended(child) == 0
        listing = start("--list", follow=False)
        assert ended(listing) == 0
        assert "192.0.2.1 timeout" in listing.output()
        for _ in range(2):
            flushing = start("--flush", follow=False)
            assert ended(flushing) == 0
            assert "192.0.2.1" not in ruleset(netns)
            assert "logguardd" not in ruleset(netns).lower()
    printing = start("--flush", "--backend", "print", "--output", "-", follow=False)
    assert ended(printing) == 0
    assert printing.output().endswith("nft -f - <<'END'\nadd table inet logguardd\ndelete table inet logguardd\nEND\n")


def test_systemd_is_told(server: FeedServer, start, netns: Netns, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        child = start("--backend", "nftables", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        seen = ""

        def told(text: str) -> bool:
            nonlocal seen
            seen += manager.recv(4096).decode() + "\n"
            return text in seen

        wait_until(lambda: told("READY=1"), what="READY")
        server.accept().greet(ban("192.0.2.1"))
        wait_until(lambda: told(f"STATUS=following unix:{server.path}, 1 bans"), what="STATUS")
        wait_until(lambda: told("WATCHDOG=1"), what="WATCHDOG")
        assert child.stop() == 0
        wait_until(lambda: told("STOPPING=1"), what="STOPPING")
