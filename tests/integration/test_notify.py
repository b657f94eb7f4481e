"""sd_notify against a socket of our own."""

import os
import socket

import pytest

from logguardd import notify


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = str(tmp_path / "notify") if request.param == "path" else f"@logguardd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.settimeout(5)
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
