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
from tests.servers.process import free_port

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
    port = free_port(STREAM)
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
