from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from logguardd.errors import ConfigError
from logguardd.listeners import sockets
from logguardd.listeners.activation import Inherited
from logguardd.listeners.sockets import Activated, Address, bind, parse, receive_buffer, shown_address

DGRAM, STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("[::]:514", Address("::", 514)),
        (":514", Address("::", 514)),
        ("0.0.0.0:514", Address("0.0.0.0", 514)),
        ("127.0.0.1:5514", Address("127.0.0.1", 5514)),
        ("[2001:db8::1]:6514", Address("2001:db8::1", 6514)),
        ("[fe80::1%lo]:514", Address("fe80::1%lo", 514)),
        ("logs.example.com:514", Address("logs.example.com", 514)),
        ("localhost:0", Address("localhost", 0)),
        ("systemd:syslog-udp", Activated("syslog-udp")),
        ("systemd:logguardd.socket", Activated("logguardd.socket")),
    ],
)
def test_specifications(spec, parsed):
    assert parse("listen.udp", spec) == parsed


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("", "no port"),
        ("514", "no port"),
        ("localhost", "no port"),
        ("[::]", "no port"),
        ("::1:514", "brackets"),
        ("[127.0.0.1]:514", "not an IPv6 address"),
        ("[::1]:", "is not a port"),
        ("localhost:65536", "is not a port"),
        ("localhost:syslog", "is not a port"),
        ("localhost:-1", "is not a port"),
        ("localhost:٥١٤", "is not a port"),
        ("256.0.0.1:514", "neither an address nor a host name"),
        ("1.2.3:514", "neither an address nor a host name"),
        ("ex ample:514", "neither an address nor a host name"),
        ("systemd:", "not a name"),
        ("systemd:a:b", "not a name"),
        ("x" * 5000 + ":514", "neither"),
    ],
)
def test_bad_specifications_name_key_and_fault(spec, complaint):
    with pytest.raises(ConfigError) as caught:
        parse("listen.tcp", spec)
    message = str(caught.value)
    assert message.startswith("listen.tcp: ")
    assert complaint in message
    assert "\n" not in message
    assert len(message) < 300


def opened(specs, kind, inherited=None):
    return bind("listen.test", specs, kind, inherited or Inherited())


def test_dual_stack_takes_both_families():
    (receiver,) = opened(["[::]:0"], DGRAM)
    port = receiver.getsockname()[1]
    with receiver, socket.socket(socket.AF_INET, DGRAM) as four, socket.socket(socket.AF_INET6, DGRAM) as six:
        four.sendto(b"4", ("127.0.0.1", port))
        six.sendto(b"6", ("::1", port))
        assert {receiver.recv(10), receiver.recv(10)} == {b"4", b"6"}


def test_a_single_ipv6_address_leaves_ipv4_alone():
    (receiver,) = opened(["[::1]:0"], DGRAM)
    with receiver:
        assert receiver.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        assert shown_address(receiver) == f"[::1]:{receiver.getsockname()[1]}"


def test_a_name_gives_every_address_of_it():
    made = opened(["localhost:0"], STREAM)
    with ExitStack() as stack:
        hosts = {stack.enter_context(each).getsockname()[0] for each in made}
    assert hosts <= {"127.0.0.1", "::1"}
    assert len(hosts) == len(made) >= 1


def test_a_name_that_does_not_resolve():
    with pytest.raises(ConfigError, match=r"^listen\.test: cannot resolve no-such-host\.invalid: "):
        opened(["no-such-host.invalid:514"], DGRAM)


@pytest.mark.parametrize(("kind", "table"), [(DGRAM, "-lunp"), (STREAM, "-ltnp")])
def test_an_address_in_use_names_the_tool_that_tells_by_whom(kind, table):
    (first,) = opened(["127.0.0.1:0"], kind)
    port = first.getsockname()[1]
    with (
        first,
        pytest.raises(
            ConfigError,
            match=rf"^listen\.test: cannot bind 127\.0\.0\.1:{port}: Address already in use; .*ss {table} 'sport = :{port}'",
        ),
    ):
        opened([f"127.0.0.1:{port}"], kind)


def test_when_one_fails_none_stays_open():
    (taken,) = opened(["127.0.0.1:0"], STREAM)
    (free,) = opened(["127.0.0.1:0"], STREAM)
    port = free.getsockname()[1]
    free.close()
    with taken:
        with pytest.raises(ConfigError):
            opened([f"127.0.0.1:{port}", f"127.0.0.1:{taken.getsockname()[1]}"], STREAM)
        (again,) = opened([f"127.0.0.1:{port}"], STREAM)
        again.close()


def test_an_address_of_another_machine():
    with pytest.raises(ConfigError, match="no interface of this machine has the address"):
        opened(["192.0.2.77:0"], STREAM)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user id in a child process")
def test_a_privileged_port_names_the_capability(tmp_path):
    # The capability goes with the user id; in a child, so that the tests keep theirs.
    told = tmp_path / "told"
    told.touch()
    told.chmod(0o666)
    tmp_path.chmod(0o755)
    file = told.open("w")
    child = os.fork()
    if child == 0:
        try:
            below = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 514
            os.setgroups([])
            os.setuid(65534)
            try:
                opened(["[::]:514"], DGRAM)
            except ConfigError as error:
                file.write(str(error))
            if not below:
                file.write("no privileged ports here")
            file.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    file.close()
    text = told.read_text()
    if text == "no privileged ports here":
        pytest.skip(text)
    assert text == (
        "listen.test: cannot bind [::]:514: Permission denied; "
        "ports below 1024 need CAP_NET_BIND_SERVICE or a systemd socket"
    )


def test_a_kernel_without_ipv6_listens_on_ipv4_and_says_so(monkeypatch, caplog):
    real = socket.socket

    def without_ipv6(family=socket.AF_INET, *args, **kwargs):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *args, **kwargs)

    monkeypatch.setattr(sockets.socket, "socket", without_ipv6)
    with caplog.at_level(logging.WARNING):
        (made,) = opened(["[::]:0"], DGRAM)
    with made:
        assert made.family == socket.AF_INET
    assert [record.message for record in caplog.records] == [
        "listen.test: this kernel has no IPv6: listening on 0.0.0.0:0 instead of [::]:0"
    ]
    with pytest.raises(ConfigError, match="cannot bind"):
        opened(["[::1]:0"], DGRAM)


def test_two_udp_listeners_never_share_a_port():
    (first,) = opened(["0.0.0.0:0"], DGRAM)
    with first:
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0


def test_a_stream_port_can_be_bound_again_at_once():
    (first,) = opened(["127.0.0.1:0"], STREAM)
    address = first.getsockname()
    client = socket.create_connection(address)
    first.settimeout(5)
    served, _ = first.accept()
    served.close()  # the server's side closes first, so its port is in TIME_WAIT
    client.close()
    first.close()
    (second,) = opened([f"127.0.0.1:{address[1]}"], STREAM)
    second.close()


def test_the_receive_buffer_reports_what_the_kernel_granted():
    (receiver,) = opened(["127.0.0.1:0"], DGRAM)
    with receiver:
        granted = receive_buffer(receiver, 1 << 20)
        assert 0 < granted <= 1 << 20
        assert granted == receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        assert receive_buffer(receiver, 1024) == granted  # never made smaller


# Socket activation, sd_listen_fds(3)


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


def udp():
    made = socket.socket(socket.AF_INET, DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


def tcp(*, listening=True):
    made = socket.socket(socket.AF_INET, STREAM)
    made.bind(("127.0.0.1", 0))
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
    datagram, stream = udp(), tcp()
    ports = {DGRAM: stream.getsockname()[1], STREAM: datagram.getsockname()[1]}
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
