"""Numbered messages, sent by a host of the fleet for as long as something is done to the server."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Self

from tests.servers.process import wait_until
from tests.system.fleet import SERVER, query

if TYPE_CHECKING:
    from types import TracebackType

    from tests.servers.nspawn import Guest

# Datagrams, a connection for every ten messages, and what its rsyslog sends over its one TLS connection. rsyslog gets
# the last ones at a socket of its own, where a sender waits for room: journald does not, and drops what is too much.
_SENDER = """
import os, socket, sys, time
server, run, stop = sys.argv[1:]
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagram.connect((server, 514))
local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
local.connect("/run/traffic")
line = "<134>1 - web traffic - - - {} {} {:d}"
number = 0
end = time.monotonic() + 180
while not os.path.exists(stop) and time.monotonic() < end:
    numbers = range(number, number + 10)
    for each in numbers:
        datagram.send(line.format(run, "udp", each).encode())
    with socket.create_connection((server, 514), 30) as stream:
        stream.sendall("".join(line.format(run, "tcp", each) + "\\n" for each in numbers).encode())
        stream.shutdown(socket.SHUT_WR)
        stream.settimeout(30)
        stream.recv(1)
    for each in numbers:
        local.send(f"<134>{time.strftime('%b %e %H:%M:%S')} traffic: {run} tls {each}".encode())
    number += 10
    time.sleep(0.05)
print(number)
"""
_SOCKET = 'input(type="imuxsock" socket="/run/traffic")\n'
KINDS = ("udp", "tcp", "tls")


class Traffic:
    """A context: within it messages are sent; afterwards ``arrived`` says how many of them are archived."""

    def __init__(self, client: Guest, server: Guest, run: str) -> None:
        self._client, self._server, self.run = client, server, run
        self._stop = client.shared / f"stop-{run}"
        self.sent = 0

    def __enter__(self) -> Self:
        self._client.write("/etc/rsyslog.d/20-traffic.conf", _SOCKET)
        self._client.sh("systemctl restart rsyslog")
        script = self._client.shared / "sender.py"
        script.write_text(_SENDER)
        self._process = subprocess.Popen(
            self._client.argv("python3", "/shared/sender.py", SERVER, self.run, f"/shared/{self._stop.name}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until(lambda: self._count("udp")[0] > 50, what="traffic")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.touch()
        said, complained = self._process.communicate(timeout=60)
        if kind is None:
            assert not self._process.returncode, complained
            self.sent = int(said)

    def _count(self, kind: str) -> tuple[int, int]:
        [[all_of_them, different]] = query(
            self._server,
            f"SELECT count(*), count(DISTINCT message) FROM logs"
            f" WHERE service_name = 'traffic' AND message LIKE '{self.run} {kind} %'",
        )
        return int(all_of_them), int(different)

    def arrived(self) -> dict[str, tuple[int, int]]:
        """Return by transport how many messages are archived, and how many different ones, once all are or after a while."""
        deadline = time.monotonic() + 30
        while True:
            found = {kind: self._count(kind) for kind in KINDS}
            if found == self.all() or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def all(self) -> dict[str, tuple[int, int]]:
        """Return what ``arrived`` gives when each message is there once."""
        return dict.fromkeys(KINDS, (self.sent, self.sent))
