"""From root's terminal to an unprivileged daemon: a daemon of three lines, started the way logguardd is."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from logguardd.client import Client
from logguardd.errors import ConfigError
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need_root, wait_until

# FOLDER MODE WAY: run, fail, return or crash; detached or foreground.
PROGRAM = """
import json, os, signal, socket, sys
from logguardd import config, daemonize, exits, log
from logguardd.errors import ConfigError, LogguarddError
from logguardd.listeners.activation import Inherited

folder, mode, way = sys.argv[1:4]

def main(settings, on_ready):
    inherited = Inherited.from_environment()
    taken = {}
    for key, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
        for spec in getattr(settings.listen, key):
            for each in inherited.take(key, spec.removeprefix("systemd:"), kind):
                taken.setdefault(key, []).append(list(each.getsockname()[:2]))
    report = {
        "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0), "uids": os.getresuid(), "gids": os.getresgid(),
        "groups": os.getgroups(), "home": os.environ["HOME"], "cwd": os.getcwd(), "sockets": taken,
        "stdin": os.readlink("/proc/self/fd/0"), "unused": inherited.unused(),
        "files": sorted(os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd") if int(n) > 2
                        and os.path.exists(f"/proc/self/fd/{n}")),
    }
    with open(folder + "/data/report.new", "w") as file:
        json.dump(report, file)
    os.rename(folder + "/data/report.new", folder + "/data/report.json")
    if mode == "fail":
        raise ConfigError("f.toml:1: wrong\\nf.toml:2: wrong too")
    if mode == "return":
        return 1
    if mode == "crash":
        os.kill(os.getpid(), 9)
    on_ready()
    signal.sigwait([signal.SIGTERM])
    return 0

def start():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    settings = config.load(folder + "/logguardd.toml")
    owner = daemonize.account(settings, "nobody", None)
    if way == "foreground":
        return daemonize.foreground(settings, owner, main)
    return daemonize.detached(settings, owner, folder + "/data/pid", main)

try:
    code = start()
except ConfigError as error:
    exits.complain("logguardd", str(error))
    code = 2
except LogguarddError as error:
    exits.complain("logguardd", str(error))
    code = 1
sys.exit(code)
"""


class Place:
    """A folder that everybody may look into, and the program run in it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="logguardd-"))
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        (self.folder / "logguardd.toml").write_text(
            f"""
[listen]
udp = ["127.0.0.1:0", "127.0.0.2:0"]
tcp = ["localhost:0"]
[journal]
url = "sqlite://{self.data}/journal.db"
[archive]
url = "sqlite://{self.data}/deeper/archive.db"
[http]
control = "{self.data}/control.sock"
"""
        )

    def run(self, mode="run", way="detached"):
        """Return exit code and standard error of the process at the terminal."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.folder), mode, way],
            capture_output=True, text=True, timeout=30, cwd=CHECKOUT, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr

    @property
    def report(self):
        return json.loads((self.data / "report.json").read_text())

    @property
    def pid(self):
        return int((self.data / "pid").read_text())


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


@pytest.fixture
def place():
    need_root()
    made = Place()
    yield made
    try:
        pid = made.report["pid"]
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass
    shutil.rmtree(made.folder)


def test_detached(place):
    assert place.run() == (0, "")
    report = place.report
    nobody = pwd.getpwnam("nobody")
    assert report["uids"] == [nobody.pw_uid] * 3
    assert report["gids"] == [nobody.pw_gid] * 3
    assert set(report["groups"]) == {nobody.pw_gid}
    assert report["home"] == nobody.pw_dir
    assert report["cwd"] == "/"
    assert report["stdin"] == "/dev/null"
    # In a session of its own that it does not lead, so that it never gets a terminal.
    assert report["sid"] not in (report["pid"], os.getsid(0))
    assert [host for host, _ in report["sockets"]["udp"]] == ["127.0.0.1", "127.0.0.2"]
    assert {host for host, _ in report["sockets"]["tcp"]} <= {"127.0.0.1", "::1"}
    assert report["unused"] == []
    # Nothing of root's stays open: sockets, the pid file, and the pipe until it is up.
    assert set(report["files"]) <= {"socket", "pipe", str(place.data / "pid")}
    assert place.pid == report["pid"]
    assert place.data.stat().st_uid == (place.data / "deeper").stat().st_uid == nobody.pw_uid
    os.kill(place.pid, signal.SIGTERM)
    wait_until(lambda: not alive(report["pid"]), what="the daemon's end")
    assert not (place.data / "pid").exists()


def test_a_second_start_is_refused_and_the_first_goes_on(place):
    assert place.run()[0] == 0
    first = place.report["pid"]
    code, err = place.run()
    assert code == 1
    assert err == (
        f"logguardd: {place.data}/pid: already locked by process {first}: is logguardd running? "
        "Stop it first, or use another file\n"
    )
    assert alive(first)
    assert place.pid == first


def test_a_stale_pid_file_is_no_obstacle(place):
    assert place.run()[0] == 0
    first = place.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not alive(first), what="the daemon's end")
    assert (place.data / "pid").exists()
    assert place.run() == (0, "")
    assert place.pid != first


def test_a_pid_file_that_cannot_be_is_an_error_of_the_command_line(place):
    pidfile = place.folder / "none" / "pid"
    done = subprocess.run(
        [sys.executable, "-m", "logguardd.cli", "run", "--embedded", place.data, "--daemonize", "--user", "nobody",
         "--pidfile", pidfile],
        capture_output=True, text=True, timeout=30, cwd=CHECKOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        f"logguardd: --pidfile: {pidfile}: No such file or directory; "
        "allowed: a file that may be written, in a folder that is there\n"
    )


def test_errors_at_start_come_back_to_the_terminal(place):
    assert place.run("fail") == (2, "logguardd: f.toml:1: wrong\nlogguardd: f.toml:2: wrong too\n")
    wait_until(lambda: not alive(place.report["pid"]), what="the daemon's end")
    assert not (place.data / "pid").exists()


def test_no_pid_file_stays_behind_where_the_daemon_may_not_remove_it(place):
    place.data.mkdir()
    place.data.chmod(0o1777)
    assert place.run("fail")[0] == 2
    assert not (place.data / "pid").exists()


@pytest.mark.parametrize("mode", ["return", "crash"])
def test_an_end_before_it_is_up(place, mode):
    code, err = place.run(mode)
    assert code == 1
    assert err == "logguardd: it ended before it was up; the system log may say why\n"


def test_a_taken_port_is_an_error_before_anything_is_forked(place):
    file = place.folder / "logguardd.toml"
    assert place.run()[0] == 0
    port = place.report["sockets"]["udp"][0][1]
    file.write_text(file.read_text().replace('"127.0.0.1:0"', f'"127.0.0.1:{port}"'))
    (place.data / "pid").rename(place.data / "other")
    code, err = place.run()
    assert code == 2
    assert f"cannot bind 127.0.0.1:{port}: Address already in use" in err
    assert not (place.data / "pid").exists()


def test_privileges_are_dropped_in_the_foreground_too(place):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place.folder), "run", "foreground"], cwd=CHECKOUT, stderr=subprocess.PIPE
    )
    wait_until(lambda: (place.data / "report.json").exists() and place.report, what="the report")
    assert place.report["pid"] == process.pid
    assert place.report["uids"] == [pwd.getpwnam("nobody").pw_uid] * 3
    assert len(place.report["sockets"]["udp"]) == 2
    process.terminate()
    assert process.communicate(timeout=10) == (None, b"")
    assert process.returncode == 0


def test_only_root_becomes_somebody_else():
    need_root()
    code = "import os; from logguardd import daemonize as d; os.setuid(65534); d.drop_privileges(d.Account('x', 1, 1, '/'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert 'LogguarddError: only root can become user "x"' in done.stderr


def test_logguardd_itself(place):
    """The real program: up when the command returns, answering, reloading, ending."""
    rules = place.folder / "rules.d"
    rules.mkdir()
    file = place.folder / "logguardd.toml"
    file.write_text(
        f'{file.read_text()}listen = "127.0.0.1:0"\n[detection]\nrules = ["{rules}"]\n[jail.auth]\nenabled = false\n'
        f'[firewall]\noutput = "{place.data}/firewall.sh"\n'
    )
    pidfile = place.data / "pid"
    # Python, or we, may be in root's home: what nobody cannot read there is loaded before.
    user = "nobody"
    done = subprocess.run(
        [sys.executable, "-m", "logguardd.cli", "run", "--config", str(file), "--daemonize", "--pidfile", str(pidfile),
         "--user", user],
        capture_output=True, text=True, timeout=30, cwd=CHECKOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    pid = place.pid
    try:
        client = Client(str(place.data / "control.sock"))
        assert client.ask("GET", "status")["pid"] == pid
        assert place.data.stat().st_uid == Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam(user).pw_uid
        assert client.ask("POST", "reload")["message"].startswith("0 rules")
        wait_until(lambda: "add table" in (place.data / "firewall.sh").read_text(), what="printed commands")
        client.ask("POST", "bans", body={"network": "203.0.113.9"})
        (rules / "broken.toml").write_text("rule = 1")
        with pytest.raises(ConfigError, match=r"broken.toml"):
            client.ask("POST", "reload")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not alive(pid), what="the daemon's end")
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert not pidfile.exists()
    assert not (place.data / "control.sock").exists()
