"""A Debian of the test's own, booted with its systemd by systemd-nspawn in a network namespace of the test.

All mounts are made in a mount namespace, and all processes run in a process namespace, that ends with the test, however
that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import debian
from tests.servers.process import need, need_root, wait_until

if TYPE_CHECKING:
    from tests.servers.netns import Netns

_CGROUPS = Path("/sys/fs/cgroup")
_GROUP = "logguardd-test"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")

# The tree is never written to: what the guest changes is in `upper`, and is there again after a reboot. Where /var is
# an overlay itself (in a container), the kernel takes it for no upper one, and the tree is copied.
_START = r"""
set -eu
machine=$1 tree=$2 folder=$3; shift 3
for group in "$@"; do
    [ "$group" != -- ] || break
    mkdir -p "$group"
    echo $$ > "$group/cgroup.procs"
    shift
done
shift
if [ ! -e "$folder/root/etc" ] && ! mount -t overlay overlay \
    -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"; then
    cp -a --reflink=auto "$tree/." "$folder/root/"
fi
[ -d "$folder/root/shared" ] || mkdir "$folder/root/shared"
echo "$machine" > "$folder/root/etc/hostname"
[ -e "$folder/booted" ] || cp "$folder/machine-id" "$folder/root/etc/machine-id"
cp "$folder/hosts" "$folder/root/etc/hosts"
touch "$folder/booted"
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
"$@"
"""


class Guest:
    """One booted Debian. ``folder`` on the host is /shared inside: the way in and out for files."""

    def __init__(self, suite: str, name: str, space: Netns, folder: Path, hosts: str = "") -> None:
        need_root()
        self.nspawn, self.nsenter, self.unshare, self.setpriv = need("systemd-nspawn", "nsenter", "unshare", "setpriv")
        self.suite, self.name, self.space, self.folder = suite, name, space, folder
        self.shared = folder / "shared"
        self.console = folder / "console.log"
        for part in ("upper", "work", "root", "shared"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "machine-id").write_text(uuid.uuid4().hex + "\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n{hosts}")
        self._tree = debian.tree(suite)
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def start(self, timeout: float = 90) -> None:
        """Boot and wait until systemd has started everything."""
        if Path("/run/systemd/system").exists():
            scope, groups = [*need("systemd-run"), "--quiet", "--scope", "--property=Delegate=yes"], []
        else:
            scope, groups = [], [str(folder) for folder in self._groups()]
        command = [
            self.setpriv, "--pdeathsig", "KILL", *scope,
            self.unshare, "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
            "sh", "-c", _START, "sh", self.name, str(self._tree), str(self.folder), *groups, "--",
            self.nspawn, "--quiet", "--register=no", "--keep-unit", "--settings=no",
            "--boot", f"--directory={self.folder / 'root'}", f"--machine={self.name}-{os.getpid()}",
            f"--hostname={self.name}", f"--network-namespace-path=/run/netns/{self.space.name}",
            "--capability=CAP_NET_ADMIN", "--console=pipe", "--link-journal=no", "--resolv-conf=replace-host",
            "--timezone=off", f"--bind={self.shared}:/shared",
            f"--bind={debian.archives(self.suite)}:/var/cache/apt/archives",
        ]  # fmt: skip
        with self.console.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                # Of two hierarchies the guest gets the one that every systemd knows.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        self._wait_booted(timeout)

    def _wait_booted(self, timeout: float) -> None:
        wait_until(self._find_leader, timeout=timeout, what=f"first process of {self.name}")
        started = ("running", "degraded")
        wait_until(lambda: self.state() in started, timeout=timeout, what=f"boot of {self.name}: {started}")

    def _find_leader(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} did not start: {self.console.read_text(errors='replace')[-2000:]}")
        # unshare, sh, systemd-nspawn, and what is number 1 in the guest.
        below = [self._process.pid]
        for _ in range(3):
            below = [child for pid in below for child in _children(pid)]
        for pid in below:
            status = _status(pid)
            if status.get("Name") == "systemd" and status["NSpid"].split()[-1] == "1":
                self._leader = pid
                return True
        return False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def state(self) -> str:
        """Return what systemd says of itself: starting, running, degraded, …"""
        return self.run("systemctl", "is-system-running", check=False).stdout.strip()

    def argv(self, *argv: str, mirror: bool = False) -> list[str]:
        """Return the command line that runs ``argv`` inside; with ``mirror`` in this machine's network, to download."""
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup", *([] if mirror else ["--net"]), "--root", "--wd"]
        settings = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        if mirror:
            settings |= {key: value for key, value in os.environ.items() if key.lower() in _PROXIES}
        environment = [f"{key}={value}" for key, value in settings.items()]
        return [self.nsenter, "--target", str(self._leader), *spaces, "env", "-i", *environment, *argv]

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60, stdin: str = "", mirror: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root; return what it printed."""
        done = subprocess.run(
            self.argv(*argv, mirror=mirror), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{argv} on {self.name} gave {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def sh(self, script: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a shell script inside; return what it printed on standard output, without the last newline."""
        return self.run("sh", "-euc", script, check=check, timeout=timeout).stdout.rstrip("\n")

    def apt(self, *argv: str, timeout: float = 600) -> str:
        """Run ``apt-get ARGV`` with its downloads made beforehand; return its output, that of maintainer scripts too."""
        apt = ("apt-get", "-q", "-y")
        self.run(*apt, "--download-only", *argv, timeout=timeout, mirror=True)
        done = self.run(*apt, *argv, timeout=timeout)
        return done.stdout + done.stderr

    def file(self, path: str) -> str:
        """Return the text of a file inside."""
        return self.run("cat", path).stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside; its folder is made if need be."""
        self.run("sh", "-euc", 'mkdir -p "$(dirname "$1")"; cat > "$1"', "sh", path, stdin=text)

    def journal(self, *argv: str) -> str:
        """Return the journal of the guest, of all boots unless ``argv`` chooses."""
        return self.run("journalctl", "--no-pager", "-q", "-o", "short-precise", *argv, check=False).stdout

    def reboot(self, timeout: float = 120) -> None:
        """Shut down in order, and boot."""
        self.poweroff(timeout)
        self.start(timeout)

    def poweroff(self, timeout: float = 60) -> None:
        """Shut down in order; kill what does not end."""
        if self._process is None or not self.running:
            return
        os.kill(self._leader, signal.SIGRTMIN + 4)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.name} did not shut down within {timeout} s") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a power failure does."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(10)
        wait_until(lambda: not _status(self._leader), what=f"the end of {self.name}")
        for group in self._groups():
            remove_group(group)

    def close(self) -> None:
        """Keep the journal, end it, and leave nothing behind but ``console.log`` and ``journal.txt``."""
        try:
            if self.running:
                (self.folder / "journal.txt").write_text(self.journal())
        finally:
            self.kill()
            for part in ("upper", "work", "root"):
                subprocess.run(["rm", "-rf", str(self.folder / part)], check=False)  # many times as fast as shutil

    def _groups(self) -> list[Path]:
        """Return the control groups to run in where no systemd of this machine gives one."""
        hierarchies = [_CGROUPS / name for name in ("systemd", "unified") if (_CGROUPS / name).is_dir()] or [_CGROUPS]
        return [folder / f"{_GROUP}-{os.getpid()}-{self.name}" for folder in hierarchies]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _status(pid: int) -> dict[str, str]:
    """Return what proc(5) says of a process; nothing of one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        return {} if found["State"][0] in "ZX" else found
    return {}


def remove_groups_of_the_dead() -> None:
    """Remove control groups that killed runs have left."""
    for folder in (_CGROUPS, _CGROUPS / "systemd", _CGROUPS / "unified"):
        for group in folder.glob(f"{_GROUP}-*"):
            if not Path("/proc", group.name.split("-")[2]).exists():
                remove_group(group)


def remove_group(folder: Path) -> None:
    """Remove an empty control group with those in it; the processes in them have been killed and go soon."""
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        for below in sorted(folder.rglob("*/"), reverse=True):
            if below.is_dir():
                _try_remove(below)
        _try_remove(folder)
        time.sleep(0.02)


def _try_remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
