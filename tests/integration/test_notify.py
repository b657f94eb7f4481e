"""sd_notify against a socket of our own."""

import os
import signal
import socket
import time

import pytest

from logguardd import notify
from tests.servers.daemon import Daemon


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = str(tmp_path / "notify") if request.param == "path" else f"@logguardd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield lambda: receiver.recv(4096).decode()


def test_messages(manager):
    assert notify.ready("listening\non 514")
    assert manager() == r"READY=1" + "\n" + r"STATUS=listening\non 514"
    assert notify.reloading()
    assert manager().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert notify.stopping()
    assert manager() == "STOPPING=1"
    assert notify.watchdog()
    assert manager() == "WATCHDOG=1"
    assert notify.status("2 bans")
    assert manager() == "STATUS=2 bans"


@pytest.mark.parametrize("name", ["", "relative", "/nonexistent/notify", "@logguardd-nobody", "/" + "x" * 200])
def test_nobody_listens(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert not notify.ready()


@pytest.mark.parametrize("form", ["wanted", "not-wanted", "not-ours"])
def test_what_the_daemon_says(manager, form, tmp_path, monkeypatch):
    if form != "not-wanted":
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
    if form == "not-ours":
        monkeypatch.setenv("WATCHDOG_PID", "1")
    daemon = Daemon(tmp_path / "daemon")
    daemon.start()
    try:
        assert manager().startswith("READY=1\nSTATUS=receiving at ")
        if form == "wanted":
            heard = []
            while len(heard) < 5:
                assert manager() == "WATCHDOG=1"
                heard.append(time.monotonic())
            # Half of what is allowed, and so at least twice in it.
            assert heard[-1] - heard[0] < 4 * 0.3
        os.kill(daemon.pid, signal.SIGHUP)
        assert daemon.stop() == 0
        said = []
        while not said or not said[-1].startswith("STOPPING=1"):
            said.append(manager())
        if form != "wanted":
            assert "WATCHDOG=1" not in said
        notify.status("the end")
        assert manager() == "STATUS=the end"  # a reload that the stop overtook does not say READY after STOPPING
    finally:
        daemon.close()


def test_watchdog_interval(monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert notify.watchdog_interval() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert notify.watchdog_interval() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_interval() == 15.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_interval() is None
    monkeypatch.setenv("WATCHDOG_PID", "")
    for wrong in ("0", "x", "-1"):
        monkeypatch.setenv("WATCHDOG_USEC", wrong)
        assert notify.watchdog_interval() is None
