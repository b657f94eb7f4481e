"""A fleet of two booted Debians and an attacker, each in a network of its own, with a router between them.

server 10.20.1.2, fd20:1::2 ──┐
client 10.20.2.2, fd20:2::2 ──┼── router, .1
attacker 203.0.113.66, 2001:db8:66::66 ──┘
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from tests.servers.netns import Netns
from tests.servers.nspawn import Guest
from tests.servers.process import need, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.system.building import Packages

SERVER, CLIENT = "10.20.1.2", "10.20.2.2"
ATTACKER, ATTACKER6 = "203.0.113.66", "2001:db8:66::66"
#: Where the administrator logs in from.
ADMINISTRATOR = "198.51.100.9"
#: The server's name in its certificate, and where the others find it.
SERVER_NAME, CLIENT_NAME = "logs.example.net", "web.example.net"
_HOSTS = f"{SERVER} {SERVER_NAME}\n{CLIENT} {CLIENT_NAME}\n"


class Fleet:
    """The network is there at once; guests are made and booted by ``boot``."""

    def __init__(self, server_suite: str, client_suite: str, folder: Path, packages: Packages) -> None:
        self.packages = packages
        self.folder = folder
        self._spaces: list[Netns] = []
        self._guests: list[Guest] = []
        router = self._space()
        router.run(
            "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        )
        server = self._behind(router, ["10.20.1.1/24", "fd20:1::1/64"], [f"{SERVER}/24", "fd20:1::2/64"])
        client = self._behind(router, ["10.20.2.1/24", "fd20:2::1/64"], [f"{CLIENT}/24", "fd20:2::2/64"])
        self.attacker = self._behind(
            router, ["203.0.113.1/24", "2001:db8:66::1/64"], [f"{ATTACKER}/24", f"{ATTACKER6}/64"]
        )
        self.server = self._guest(server_suite, "logs", server)
        self.client = self._guest(client_suite, "web", client)

    def _space(self) -> Netns:
        self._spaces.append(Netns())
        return self._spaces[-1]

    def _behind(self, router: Netns, gateways: Sequence[str], own: Sequence[str]) -> Netns:
        space = self._space()
        space.connect(router, own, gateways)
        for gateway in gateways:
            family = "-6" if ":" in gateway else "-4"
            space.run("ip", family, "route", "add", "default", "via", gateway.partition("/")[0])
        return space

    def _guest(self, suite: str, name: str, space: Netns) -> Guest:
        self._guests.append(Guest(suite, name, space, self.folder / name, _HOSTS))
        return self._guests[-1]

    @property
    def guests(self) -> tuple[Guest, ...]:
        return tuple(self._guests)

    def boot(self) -> None:
        for guest in self._guests:
            guest.start()

    def attack(self, target: str, prompts: int = 6) -> None:
        """Try ``prompts`` wrong passwords for root at the target's real sshd, in one connection."""
        (ssh,) = need("ssh")
        wrong = self.folder / "wrong-password"
        if not wrong.exists():
            wrong.write_text("#!/bin/sh\necho wrong\n")
            wrong.chmod(0o755)
        options = {
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "GlobalKnownHostsFile": "/dev/null",
            "PreferredAuthentications": "password", "NumberOfPasswordPrompts": str(prompts), "ConnectTimeout": "5",
        }  # fmt: skip
        done = self.attacker.run(
            "env", f"SSH_ASKPASS={wrong}", "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none",
            ssh, "-F", "none", *(f"-o{key}={value}" for key, value in options.items()), f"root@{target}", "true",
            check=False,
        )  # fmt: skip
        assert done.returncode == 255, done.stdout + done.stderr

    def reaches(self, target: str, port: int) -> bool:
        """Say whether the attacker gets a TCP connection there."""
        script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()"
        return self.attacker.run("python3", "-c", script, target, str(port), check=False).returncode == 0

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for space in self._spaces:
                stack.callback(space.delete)
            for guest in self._guests:
                stack.callback(guest.close)


def main_pid(guest: Guest, unit: str) -> int:
    """Return the process id, inside the guest, of a service that runs."""
    return int(guest.sh(f"systemctl show -P MainPID {unit}"))


def wait_active(guest: Guest, unit: str, timeout: float = 30) -> None:
    wait_until(
        lambda: guest.sh(f"systemctl is-active {unit}", check=False) == "active",
        timeout=timeout,
        what=f"{unit} on {guest.name}",
    )


def install(guest: Guest, package: Path, *options: str) -> str:
    """`apt install ./PACKAGE` as an administrator does; return what was said."""
    shutil.copy(package, guest.shared)
    return guest.apt("install", *options, f"/shared/{package.name}")


def query(server: Guest, sql: str) -> list[list[str]]:
    """Ask the server's PostgreSQL; return rows of text."""
    done = server.run("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-F", "\x1f", "-d", "logs", "-c", sql)
    return [line.split("\x1f") for line in done.stdout.splitlines()]


def archived(server: Guest, message: str) -> int:
    """Return how often a message is in the server's PostgreSQL."""
    return int(query(server, f"SELECT count(*) FROM logs WHERE message = '{message}'")[0][0])


def banned(guest: Guest) -> dict[str, float]:
    """Return what the guest's kernel drops everything from: addresses and networks, and the seconds left."""
    listed = json.loads(guest.run("nft", "-j", "list", "table", "inet", "logguardd").stdout)["nftables"]
    found = {}
    for part in listed:
        if name := re.fullmatch(r"banned[46]|nets[46]_(\d+)", part.get("set", {}).get("name", "")):
            for each in part["set"].get("elem", ()):
                address = each["elem"]["val"]
                found[f"{address}/{name[1]}" if name[1] else address] = float(each["elem"]["expires"])
    return found


def answer(guest: Guest, *argv: str, prompt: str, reply: str, timeout: float = 300) -> str:
    """Run a command inside at a terminal, give ``reply`` once it shows ``prompt``; return all that it said."""
    process = subprocess.Popen(
        guest.argv("script", "-qec", shlex.join(argv), "/dev/null"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    said, replied = b"", False
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if not select.select([process.stdout], [], [], 1)[0]:
            continue
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            break
        said += part
        if not replied and prompt.encode() in said:
            process.stdin.write(reply.encode())
            process.stdin.flush()
            replied = True
    else:
        process.kill()
    process.communicate()
    text = said.decode(errors="replace")
    assert replied, f"no {prompt!r} in:\n{text}"
    assert process.returncode == 0, text
    return text
