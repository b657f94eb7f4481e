from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest

from logguardd.errors import ConfigError
from logguardd.listeners.activation import Inherited
from logguardd.listeners.sockets import bind
from tests.servers.process import free_port

DGRAM, STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM


def opened(specs, kind, inherited):
    return bind("listen.test", specs, kind, inherited)


class Passed:
    """Sockets at consecutive descriptors, as systemd passes them, and the environment that describes them."""

    def __init__(self, *sockets_: socket.socket, names: str | None = None) -> None:
        # dup'ed in order onto a free run of descriptors: the test's own 3, 4, 5 are in use
        self.first = 300
        for index, each in enumerate(sockets_):
            os.dup2(each.fileno(), self.first + index)
            each.close()
        self.environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets_)), "PATH": "/bin"}
        if names is not None:
            self.environ["LISTEN_FDNAMES"] = names

    def inherited(self) -> Inherited:
        return Inherited.from_environment(self.environ, self.first)


def udp(port=0):
    made = socket.socket(socket.AF_INET, DGRAM)
    made.bind(("127.0.0.1", port))
    return made


def tcp(port=0, *, listening=True):
    made = socket.socket(socket.AF_INET, STREAM)
    made.bind(("127.0.0.1", port))
    if listening:
        made.listen()
    return made


def test_each_listener_takes_its_kind_of_a_name():
    passed = Passed(udp(), tcp(), udp(), tcp(), names="syslog:syslog:syslog:tls")
    inherited = passed.inherited()
    assert passed.environ == {"PATH": "/bin"}
    datagram = bind("listen.udp", ["systemd:syslog"], DGRAM, inherited)
    stream = bind("listen.tcp", ["systemd:syslog"], STREAM, inherited)
    with ExitStack() as stack:
        for each in datagram + stream:
            stack.enter_context(each)
            assert inherited.gave(each)
            assert not each.getblocking()
            assert not os.get_inheritable(each.fileno())
        assert [each.type for each in datagram] == [DGRAM, DGRAM]
        assert [each.type for each in stream] == [STREAM]
        assert inherited.unused() == ["tls"]
        with pytest.raises(ConfigError, match=r"^listen\.relp: systemd:syslog: already used by listen\.tcp$"):
            bind("listen.relp", ["systemd:syslog"], STREAM, inherited)
        with pytest.raises(ConfigError, match=r"no UDP socket among those of this name: a TCP socket"):
            bind("listen.udp", ["systemd:tls"], DGRAM, inherited)
        with pytest.raises(ConfigError, match=r"no UDP socket of this name; it passed: tls$"):
            bind("listen.udp", ["systemd:nothing"], DGRAM, inherited)
        stack.enter_context(inherited.take("listen.tls", "tls", STREAM)[0])


def test_a_socket_without_a_name_is_called_unknown():
    inherited = Passed(udp()).inherited()
    (taken,) = inherited.take("listen.udp", "unknown", DGRAM)
    taken.close()


def test_a_connection_and_a_unix_socket_are_not_listened_on(tmp_path):
    listening = tcp()
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    listening.close()
    unix = socket.socket(socket.AF_UNIX, DGRAM)
    inherited = Passed(accepted, unix, names="a:b").inherited()
    with pytest.raises(ConfigError, match=r"a TCP connection \(Accept=yes is not supported\)"):
        inherited.take("listen.tcp", "a", STREAM)
    with pytest.raises(ConfigError, match=r"a AF_UNIX socket"):
        inherited.take("listen.udp", "b", DGRAM)
    client.close()
    for name, left in inherited._free:
        assert name in "ab"
        left.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": "9"},
    ],
)
def test_nothing_was_passed_to_this_process(environ):
    inherited = Inherited.from_environment(environ)
    assert environ == {}
    with pytest.raises(
        ConfigError, match=r"^listen\.udp: systemd:syslog: systemd passed no socket .*FileDescriptorName=syslog"
    ):
        bind("listen.udp", ["systemd:syslog"], DGRAM, inherited)


@pytest.mark.parametrize("count", ["x", "-1", "1" * 40, "\uff12"])
def test_a_broken_number_of_descriptors(count):
    with pytest.raises(ConfigError, match=r"^LISTEN_FDS: .* is not a number"):
        Inherited.from_environment({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_descriptors_that_are_closed_or_no_sockets():
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    with pytest.raises(ConfigError, match=r"^LISTEN_FDS: descriptor 900 \(x\) is not a socket: Bad file descriptor"):
        Inherited.from_environment(dict(environ), 900)
    read, write = os.pipe()
    with pytest.raises(ConfigError, match="is not a socket: "):
        Inherited.from_environment(dict(environ), read)
    os.close(write)
    os.close(read)


def dual(kind):
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(("::", 0))
    if kind == STREAM:
        made.listen()
    return made


@pytest.mark.parametrize("kind", [DGRAM, STREAM])
def test_a_socket_at_the_very_address_is_taken_without_being_named(kind):
    held, other = dual(kind), dual(kind)
    port = held.getsockname()[1]
    inherited = Passed(held, other, names="syslog:more").inherited()
    taken, own = opened([f"[::]:{port}", "127.0.0.1:0"], kind, inherited)
    with taken, own:
        assert taken.getsockname()[:2] == ("::", port)
        assert inherited.gave(taken)
        assert not inherited.gave(own)
        assert not taken.getblocking()
        assert inherited.unused() == ["more"]
        with pytest.raises(ConfigError, match=r"already used by listen\.test"):
            inherited.take("listen.tcp", "syslog", kind)
    inherited.take("listen.test", "more", kind)[0].close()


def test_a_socket_at_another_address_or_of_another_kind_is_left():
    ports = {kind: free_port(kind) for kind in (DGRAM, STREAM)}
    datagram, stream = udp(ports[STREAM]), tcp(ports[DGRAM])
    inherited = Passed(datagram, stream, names="d:s").inherited()
    for kind, port in ports.items():
        (own,) = opened([f"127.0.0.1:{port}"], kind, inherited)
        own.close()
    (own,) = opened([f"127.0.0.2:{ports[STREAM]}"], DGRAM, inherited)
    own.close()
    assert inherited.unused() == ["d", "s"]
    for name, kind in (("d", DGRAM), ("s", STREAM)):
        inherited.take("listen.test", name, kind)[0].close()


def test_without_ipv6_every_address_is_every_ipv4_address(monkeypatch):
    held = socket.socket(socket.AF_INET, DGRAM)
    held.bind(("0.0.0.0", 0))
    port = held.getsockname()[1]
    inherited = Passed(held, names="syslog").inherited()
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (taken,) = opened([f"[::]:{port}"], DGRAM, inherited)
    with taken:
        assert inherited.gave(taken)
