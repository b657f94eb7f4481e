"""logguardd itself, run as its user would run it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers.process import Child, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


class Daemon:
    """``logguardd run --config`` with data, control socket and ports of its own.

    ``config`` is TOML added to the file; {udp} {tcp} {tls} {relp} {http} in it stand for free ports, {folder} for the
    data folder. ``wrap`` turns a command line into the one to run, for example Netns.argv.
    """

    def __init__(
        self, folder: Path, config: str = "", *, wrap: Callable[..., Sequence[str]] | None = None, **ports: int
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port(socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM)
                      for name in ("udp", "tcp", "tls", "relp", "http")} | ports  # fmt: skip
        self.control = str(folder / "control.sock")
        self.file = folder / "logguardd.toml"
        self.wrap = wrap or (lambda *argv: argv)
        self.write_config(config)
        self.child: Child | None = None

    def write_config(self, config: str) -> None:
        """Write the configuration file; keys that ``config`` leaves out get values inside the folder."""
        for name, port in self.ports.items():
            config = config.replace("{" + name + "}", str(port))
        config = config.replace("{folder}", str(self.folder))
        sections = {
            "listen": f'udp = ["127.0.0.1:{self.ports["udp"]}"]\ntcp = ["127.0.0.1:{self.ports["tcp"]}"]',
            "journal": f'url = "sqlite:///{self.folder}/journal.db"',
            "archive": f'url = "sqlite:///{self.folder}/archive.db"',
            "detection": f'rules = ["{CHECKOUT}/etc/rules.d"]',
            "http": f'listen = "127.0.0.1:{self.ports["http"]}"\ncontrol = "{self.control}"',
        }
        given = tomllib.loads(config)
        for name, defaults in sections.items():
            keys = given.get(name, {})
            text = "".join(f"{line}\n" for line in defaults.split("\n") if line.split(" =")[0] not in keys)
            head = f"[{name}]\n"
            config = config.replace(head, head + text, 1) if name in given else f"{config}\n{head}{text}"
        self.file.write_text(config)

    def argv(self, *words: str) -> list[str]:
        """Return the command line of ``logguardd WORDS``."""
        return list(self.wrap(sys.executable, "-m", "logguardd.cli", *words))

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(CHECKOUT)}

    def start(self, *, ready: bool = True) -> None:
        self.child = Child(
            self.argv("run", "--config", str(self.file)),
            self.folder / "daemon.log",
            cwd=self.folder,
            env=self.environment,
        )
        if ready:
            wait_until(self._up, timeout=30, what="logguardd answering")

    def _up(self) -> bool:
        assert self.child is not None
        if not self.child.alive():
            raise RuntimeError(f"logguardd ended with {self.child.process.returncode}:\n{self.child.output()[-4000:]}")
        try:
            return self.request("GET", "/status")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask the control socket; return the status code and the JSON answer."""
        connection = _UnixConnection(self.control)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def http(self, path: str) -> tuple[int, str]:
        """Ask the HTTP listener (not from another network namespace)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=10)
        try:
            # start() waits for the control socket, which is opened just before.
            wait_until(lambda: _connected(connection), what="the HTTP listener")
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples; ``name`` may carry labels as /metrics prints them."""
        total = 0.0
        for line in self.http("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == name or ("{" not in name and sample.partition("{")[0] == name):
                total += float(value)
        return total

    @property
    def pid(self) -> int:
        """The daemon's own process id (also under a wrapper that execs)."""
        assert self.child is not None
        return self.child.pid

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self.child is not None
        status = self.child.stop()
        self.child = None
        return status

    def kill(self) -> None:
        """kill -9."""
        assert self.child is not None
        self.child.kill()
        self.child = None

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None


def send_tcp(port: int, data: bytes, host: str = "127.0.0.1") -> None:
    """Send bytes over one TCP connection."""
    with socket.create_connection((host, port), timeout=10) as stream:
        stream.sendall(data)


def send_udp(port: int, *messages: bytes, host: str = "127.0.0.1") -> None:
    """Send one datagram a message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for message in messages:
            datagrams.sendto(message, (host, port))


def _connected(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True
