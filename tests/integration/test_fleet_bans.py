"""The whole way in network namespaces: hosts report, the daemon counts, logguardd-firewall bans, packets are dropped.

Three namespaces: the server (192.0.2.1 to the fleet, 203.0.113.1 to the world), the fleet whose six hosts are six
addresses, and the world with an attacker and a bystander.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.servers.certificates import Authority
from tests.servers.daemon import CHECKOUT, Daemon
from tests.servers.process import Child, need, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.netns import Netns

SERVER = "192.0.2.1"
HOSTS = [f"192.0.2.{n}" for n in range(11, 17)]
ATTACKER, BYSTANDER = "203.0.113.5", "203.0.113.6"

#: Send one message from a chosen source address; run inside a namespace: SOURCE TRANSPORT PORT CA, message on stdin.
SEND = """
import socket, ssl, sys
source, transport, port, authority = sys.argv[1:5]
message = sys.stdin.buffer.read()
server = ("192.0.2.1", int(port))
if transport == "udp":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((source, 0))
        for line in message.split(b"\\n"):
            s.sendto(line, server)
else:
    s = socket.create_connection(server, 10, (source, 0))
    if transport == "tls":
        context = ssl.create_default_context(cafile=authority)
        s = context.wrap_socket(s, server_hostname="localhost")
    if transport == "octet":
        message = b"".join(b"%d %b" % (len(line), line) for line in message.split(b"\\n"))
    else:
        message += b"\\n"
    s.sendall(message)
    if transport == "tls":
        s.unwrap()
    s.close()
"""

#: Try to connect from a source address: SOURCE PORT; prints "open", "refused" or "dropped".
PROBE = """
import socket, sys
try:
    socket.create_connection(("203.0.113.1", int(sys.argv[2])), 1.0, (sys.argv[1], 0)).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("dropped")
"""


class Fleet:
    """The namespaces, the daemon, its firewall program and two services of the server's (ports 22 and 80)."""

    def __init__(
        self, folder: Path, make_netns: Callable[[], Netns], make_daemon: Callable[..., Daemon], backend: str
    ) -> None:
        self.backend = backend
        self.server, self.fleet, self.world = make_netns(), make_netns(), make_netns()
        self.server.connect(self.fleet, [f"{SERVER}/24"], [f"{host}/24" for host in HOSTS])
        self.server.connect(self.world, ["203.0.113.1/24"], [f"{ATTACKER}/24", f"{BYSTANDER}/24"])
        self.authority = Authority(folder / "pki")
        certificate, key = self.authority.issue("localhost")
        self.daemon = make_daemon(
            f"""
[listen]
udp = ["[::]:514"]
tcp = ["[::]:514"]
tls = ["[::]:6514"]
[tls]
certificate = "{certificate}"
private_key = "{key}"
[firewall]
backend = "{backend}"
""",
            wrap=self.server.argv, udp=514, tcp=514, tls=6514,
        )  # fmt: skip
        self.children: list[Child] = []

    def start(self, folder: Path) -> None:
        self.daemon.start()
        self.children = [
            Child(
                self.server.argv(
                    sys.executable, "-m", "logguardd.firewall.service",
                    "--follow", f"unix:{self.daemon.control}", "--config", str(self.daemon.file)),
                folder / "firewall.log", env=self.daemon.environment, cwd=folder)
        ]  # fmt: skip
        for port in (22, 80):
            self.children.append(
                Child(
                    self.server.argv(sys.executable, "-m", "http.server", str(port)),
                    folder / f"port{port}.log",
                    cwd=folder,
                )
            )
        wait_until(lambda: self.elements() is not None, what="the kernel's sets")
        for port in (22, 80):
            wait_until(lambda port=port: self.probe(BYSTANDER, port) == "open", what=f"port {port}")

    def close(self) -> None:
        for child in self.children:
            child.stop(timeout=10)

    def report(self, host: str, transport: str, *messages: str) -> None:
        """Let a host of the fleet send messages."""
        port = {"tls": 6514}.get(transport, 514)
        done = subprocess.run(
            self.fleet.argv(sys.executable, "-c", SEND, host, transport, str(port), str(self.authority.certificate)),
            input="\n".join(messages).encode(), capture_output=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    def probe(self, source: str, port: int) -> str:
        return self.world.run(sys.executable, "-c", PROBE, source, str(port)).stdout.strip()

    def elements(self) -> dict[str, float] | None:
        """Return what the kernel bans, as "address" or "address.port" to seconds left; None before the sets exist."""
        if self.backend == "nftables":
            listed = self.server.run("nft", "-j", "list", "table", "inet", "logguardd", check=False)
            return _nft_elements(listed.stdout) if listed.returncode == 0 else None
        listed = self.server.run("ipset", "list", check=False)
        rules = self.server.run("iptables", "-w", "-S", "LOGGUARDD", check=False)
        return _ipset_elements(listed.stdout) if rules.returncode == 0 else None

    def accepted(self) -> int:
        """Return how many messages the detector has judged."""
        return int(self.daemon.request("GET", "/status")[1]["detector"]["offset"]) - 1


def _nft_elements(text: str) -> dict[str, float]:
    found = {}
    for item in json.loads(text)["nftables"]:
        for entry in item.get("set", {}).get("elem", ()):
            value, left = (entry["elem"]["val"], entry["elem"].get("expires", 0)) if "elem" in entry else (entry, 0)
            found[".".join(map(str, value["concat"])) if isinstance(value, dict) else str(value)] = left
    return found


def _ipset_elements(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        match = re.match(r"(\S+) timeout (\d+)", line)
        if match and not line.startswith("Header"):
            address, _, port = match[1].partition(",")
            number = port.partition(":")[2] or port
            found[f"{address}.{number}" if port else address] = float(match[2])
    return found


@pytest.fixture(params=["nftables", "iptables"])
def fleet(request, tmp_path, make_netns, make_daemon) -> Iterator[Fleet]:
    need("nft" if request.param == "nftables" else "iptables", "ip")
    if request.param == "iptables":
        need("ipset")
    made = Fleet(tmp_path, make_netns, make_daemon, request.param)
    try:
        made.start(tmp_path)
        yield made
    finally:
        made.close()


def dropped_packet(number: int) -> str:
    """What netfilter logs of a packet to port 22."""
    return (
        f"<4>Nov 20 10:00:00 web1 kernel: [{number}.000001] [UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00 "
        f"SRC={ATTACKER} DST=192.0.2.11 LEN=44 TOS=0x00 PREC=0x00 TTL=244 ID={number} PROTO=TCP SPT={40000 + number} DPT=22 "
        "WINDOW=1024 RES=0x00 SYN URGP=0 "
    )


def failed_login(host: int) -> str:
    return f"<86>Nov 20 10:00:00 web{host} sshd[{700 + host}]: Failed password for root from {ATTACKER} port {40000 + host} ssh2"


def test_the_101st_hit_on_one_port_bans_address_and_port(fleet: Fleet) -> None:
    fleet.report(HOSTS[0], "octet", *(dropped_packet(n) for n in range(100)))
    wait_until(lambda: fleet.accepted() == 100, what="100 messages judged")
    assert fleet.elements() == {}
    assert fleet.probe(ATTACKER, 22) == "open"

    fleet.report(HOSTS[1], "udp", dropped_packet(100))
    arrived = time.monotonic()
    elements = wait_until(fleet.elements, timeout=5, what="the ban in the kernel")
    assert time.monotonic() - arrived < 1.0
    assert list(elements) == [f"{ATTACKER}.22"] or set(elements) == {f"{ATTACKER}.22"}
    assert 290 <= elements[f"{ATTACKER}.22"] <= 300
    assert fleet.probe(ATTACKER, 22) == "dropped"
    assert fleet.probe(ATTACKER, 80) == "open"
    assert fleet.probe(BYSTANDER, 22) == "open"


def test_six_failed_logins_on_six_hosts_ban_the_address_on_all_ports(fleet: Fleet) -> None:
    transports = ["udp", "tcp", "octet", "tls", "udp"]
    for number, (host, transport) in enumerate(zip(HOSTS, transports, strict=False)):
        fleet.report(host, transport, failed_login(number))
    wait_until(lambda: fleet.accepted() == 5, what="5 messages judged")
    assert fleet.elements() == {}

    fleet.report(HOSTS[5], "tls", failed_login(5))
    elements = wait_until(fleet.elements, timeout=5, what="the ban in the kernel")
    assert set(elements) == {ATTACKER}
    assert 590 <= elements[ATTACKER] <= 600
    assert {fleet.probe(ATTACKER, port) for port in (22, 80)} == {"dropped"}
    assert {fleet.probe(BYSTANDER, port) for port in (22, 80)} == {"open"}

    status, _ = fleet.daemon.request("DELETE", f"/bans/{ATTACKER}")
    assert status == 200
    wait_until(lambda: not fleet.elements(), what="the unban in the kernel")
    assert fleet.probe(ATTACKER, 22) == "open"


def test_forged_lines_and_protected_addresses_are_never_banned(fleet: Fleet, tmp_path: Path) -> None:
    lines = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts/generate_logs.py"), "--scenario", "forged", "--count", "3000", "--target", "-"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    lines += [
        failed_login(n).replace(ATTACKER, address)
        for n in range(20)
        for address in (HOSTS[0], SERVER, "203.0.113.1", "127.0.0.1")
    ]
    fleet.report(HOSTS[0], "tcp", *lines)
    wait_until(lambda: fleet.accepted() == len(lines), what="all judged")
    wait_until(fleet.elements, what="bans of the true attackers")
    banned = {entry.rsplit(".", 1)[0] if entry.count(".") == 4 else entry for entry in fleet.elements() or ()}
    assert banned
    assert not {address for address in banned if address.startswith(("192.0.2.", "127.")) or address == "203.0.113.1"}
