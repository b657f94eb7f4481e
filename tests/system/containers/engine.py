"""A Docker engine of the test's own: its dockerd, its network, its firewall, its storage.

dockerd runs in a network, a mount and a process namespace that end with the test, however that ends; this machine's
firewall, routes and engine are not touched. Containers reach the outside through slirp4netns, which needs none of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.netns import Netns
from tests.servers.nspawn import remove_group
from tests.servers.process import Child, need, need_root, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The engine's own: what a machine needs in order to run it.
_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "slirp4netns")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
# The first process of a namespace inherits what the engine leaves behind; the shell collects it.
_START = """
mount -t tmpfs tmpfs /run
"$@" &
trap 'kill $!' TERM
wait $! || wait $!
"""


class Engine:
    """dockerd, and the command docker as its user has it."""

    def __init__(self, folder: Path) -> None:
        need_root()
        missing = [
            name for name in _PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
        ]
        if missing:
            # Also on CI: not every machine that runs the other tests has an engine.
            pytest.skip(f"no Docker engine to run: {', '.join(missing)} not installed")
        self.folder = folder
        self.outside = Netns()
        self._group = f"logguardd-test-{os.getpid()}-docker"
        dockerd, slirp, unshare, nsenter, setpriv = need("dockerd", "slirp4netns", "unshare", "nsenter", "setpriv")
        space = f"/run/netns/{self.outside.name}"
        self._slirp = Child(
            [setpriv, "--pdeathsig", "KILL", slirp, "--configure", "--mtu=1400", "--disable-host-loopback",
             "--netns-type=path", space, "tap0"],
            folder / "slirp.log",
        )  # fmt: skip
        wait_until(lambda: "tap0" in self.outside.run("ip", "route").stdout, what="the way to the mirror")
        self._dockerd = Child(
            [setpriv, "--pdeathsig", "KILL", nsenter, f"--net={space}",
             unshare, "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-euc", _START, "sh",
             dockerd, f"--data-root={folder / 'data'}", "--exec-root=/run/docker", "--pidfile=/run/docker.pid",
             f"--host=unix://{folder / 'socket'}", f"--cgroup-parent=/{self._group}",
             "--exec-opt=native.cgroupdriver=cgroupfs", "--dns=10.0.2.3"],
            folder / "dockerd.log",
        )  # fmt: skip
        try:
            wait_until(self._up, timeout=60, what="dockerd answering")
        except BaseException:
            self.close()
            raise

    def _up(self) -> bool:
        if not self._dockerd.alive():
            pytest.skip(f"dockerd does not run here: {self._dockerd.output()[-1500:]}")
        return self.run("version", check=False).returncode == 0

    def run(
        self, *argv: str, check: bool = True, timeout: float = 120, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGV`; return what it said."""
        done = subprocess.run(
            ["docker", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
            cwd=cwd, env={**os.environ, "DOCKER_HOST": f"unix://{self.folder / 'socket'}", **environment},
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(
                f"docker {' '.join(argv)} gave {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done

    def say(self, *argv: str, **options: Any) -> str:
        """Run `docker ARGV`; return its standard output without the last newline."""
        return self.run(*argv, **options).stdout.rstrip("\n")

    def build(self, tag: str, *argv: str) -> str:
        """Run `docker build -t TAG ARGV`, through this machine's proxies; return what it said."""
        proxies = [f"--build-arg={key}={value}" for key, value in os.environ.items() if key.lower() in _PROXIES]
        done = self.run("build", "-t", tag, *proxies, *argv, timeout=600)
        return done.stdout + done.stderr

    def take(self, tag: str, archive: Sequence[str]) -> None:
        """Make an image of the tar archive that a command writes."""
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as written:
            subprocess.run(
                ["docker", "import", "-c", 'CMD ["bash"]', "-", tag], stdin=written.stdout, check=True,
                capture_output=True, env={**os.environ, "DOCKER_HOST": f"unix://{self.folder / 'socket'}"},
            )  # fmt: skip
        assert written.returncode == 0

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of a container or an image."""
        found: dict[str, Any] = json.loads(self.say("inspect", name))[0]
        return found

    def logs(self, name: str) -> str:
        """Return what a container has written to standard output and standard error."""
        done = self.run("logs", name)
        return done.stdout + done.stderr

    def wait_healthy(self, *names: str, timeout: float = 60) -> None:
        for name in names:
            wait_until(
                lambda name=name: self.inspect(name)["State"]["Health"]["Status"] == "healthy",  # type: ignore[misc]
                timeout=timeout,
                what=f"{name} being healthy",
            )

    def crash(self, name: str) -> None:
        """Kill a container's first process as a bug would: the engine is not asked, and restarts it."""
        before = self.inspect(name)["State"]["Pid"]
        inside = ["nsenter", f"--target={self._first()}", "--pid", "--mount"]
        subprocess.run([*inside, "kill", "-9", str(before)], check=True)
        wait_until(lambda: self.inspect(name)["State"]["Pid"] not in (0, before), timeout=30, what=f"{name} again")

    def _first(self) -> int:
        """Return the first process of the engine's namespaces."""
        (pid,) = Path(f"/proc/{self._dockerd.pid}/task/{self._dockerd.pid}/children").read_text().split()
        return int(pid)

    def close(self) -> None:
        """End every process and remove everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove)
            stack.callback(self.outside.delete)
            stack.callback(self._slirp.stop)
            if self._dockerd.alive():
                os.kill(self._first(), signal.SIGTERM)  # unshare itself ignores it
                stack.callback(self._dockerd.kill)
                self._dockerd.process.wait(60)

    def _remove(self) -> None:
        groups = Path("/sys/fs/cgroup")
        for group in (groups / self._group, *groups.glob(f"*/{self._group}")):
            remove_group(group)
        subprocess.run(["rm", "-rf", str(self.folder / "data")], check=True)
