"""README's first command, `make run`, in a checkout on a Debian that has nothing but git, make and sudo.

Its packages and those of PyPI are installed in this machine's network, with this machine's settings of pip; all else
happens where there is no network.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import debian
from tests.servers.daemon import CHECKOUT
from tests.servers.netns import Netns
from tests.servers.nspawn import Guest
from tests.servers.process import Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTACKER = "198.51.100.77"


@pytest.fixture(scope="module", params=list(debian.SUITES))
def fresh(request: pytest.FixtureRequest, debians: None) -> Iterator[Guest]:
    """A booted Debian with this commit in /shared, anna who may use sudo, and bert who has to ask somebody."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=debian.cache()))
    space = Netns()
    guest = Guest(request.param, "fresh", space, folder / "fresh")
    try:
        guest.start()
        guest.apt("install", "--no-install-recommends", "git", "make", "sudo")
        for name in ("anna", "bert"):
            guest.run("useradd", "--create-home", "--shell", "/bin/bash", name)
        guest.write("/etc/sudoers.d/anna", "anna ALL=(ALL) NOPASSWD: ALL\n")
        guest.write("/etc/pip.conf", f"[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n{_indexes()}")
        bundle = ("git", "-c", "safe.directory=*", "bundle", "create", "-q", str(guest.shared / "bundle"), "HEAD")
        subprocess.run(bundle, cwd=CHECKOUT, check=True)
        yield guest
    finally:
        guest.kill()
        space.delete()
        shutil.rmtree(folder)


def _indexes() -> str:
    """Return this machine's indexes of pip, those on the network, as lines for pip.conf."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    return "".join(f"{key} = {url}\n" for key, url in re.findall(r"\.((?:extra-)?index-url)='(https?://\S+)'", listed))


def by(guest: Guest, name: str, script: str, *, mirror: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script as that user has it after a login; with ``mirror`` it reaches package servers."""
    return guest.run("runuser", "-l", name, "-c", script, check=False, timeout=600, mirror=mirror)


def start(guest: Guest, name: str, checkout: str, log: Path) -> Child:
    """Run ``make run`` until it has said everything."""
    child = Child(guest.argv("runuser", "-l", name, "-c", f"make -C {shlex.quote(checkout)} run"), log)
    wait_until(lambda: "Nothing is blocked" in child.output() or not child.alive(), timeout=60, what="its first words")
    assert child.alive(), child.output()
    return child


def pid(guest: Guest, checkout: str) -> str:
    """Return the process id of the daemon that runs from there."""
    return guest.file(f"{checkout}/run/journal.db.lock").strip()


def test_who_may_not_install_is_told_what_root_has_to(fresh):
    said = by(fresh, "bert", "git clone -q /shared/bundle checkout && make -C checkout run </dev/null")
    assert said.returncode != 0
    assert re.search(r"as root: apt-get .*install python3 .*python3-venv", said.stderr), said.stderr


@pytest.mark.parametrize(
    ("name", "checkout", "runs_as"),
    [("anna", "/home/anna/our server's logs", "anna"), ("root", "/root/logguardd", "nobody")],
)
def test_make_run(fresh, tmp_path, name, checkout, runs_as):
    quoted = shlex.quote(checkout)
    made = by(fresh, name, f"git clone -q /shared/bundle {quoted} && make -C {quoted} setup", mirror=True)
    assert made.returncode == 0, made.stdout + made.stderr

    # From here on nothing can be downloaded.
    child = start(fresh, name, checkout, tmp_path / "first")
    told = dict(re.findall(r"^    (messages|state|bans) +(\S.*)$", child.output(), re.MULTILINE))
    assert fresh.sh(f"ps -o user= -p {pid(fresh, checkout)}") == runs_as
    (line,) = re.findall(r"^    (\*\.\* action.*)$", child.output(), re.MULTILINE)
    fresh.write("/etc/rsyslog.d/90-logguardd.conf", f"{line}\n")
    fresh.run("systemctl", "restart", "rsyslog")
    for port in range(40001, 40007):
        failure = f"Failed password for root from {ATTACKER} port {port} ssh2"
        fresh.run("logger", "-p", "auth.info", "-t", f"sshd[{port}]", failure)
    wait_until(lambda: by(fresh, name, told["messages"]).stdout.count(ATTACKER) == 6, what="the messages")
    wait_until(lambda: ATTACKER in by(fresh, name, told["bans"]).stdout, what="the ban")
    assert "nothing is blocked" in by(fresh, name, told["state"]).stdout
    assert ATTACKER in fresh.file(f"{checkout}/run/firewall.sh")

    fresh.run("kill", "-INT", pid(fresh, checkout))
    assert child.process.wait(20) == 0, child.output()
    child = start(fresh, name, checkout, tmp_path / "again")
    assert ATTACKER in by(fresh, name, told["bans"]).stdout
    fresh.run("kill", "-INT", pid(fresh, checkout))
    assert child.process.wait(20) == 0, child.output()
