"""What a configuration asks of systemd: drop-ins that open its ports, units to enable, commands in their order."""

from __future__ import annotations

import re

import pytest

from logguardd import config
from logguardd.setup.units import FIREWALL, SERVICE, SOCKET, TLS_SOCKET, commands, units, write
from tests.servers.daemon import CHECKOUT

TLS = '[tls]\ncertificate = "/c"\nclient_ca = "/a"\n'


def asked(text: str = ""):
    return units(config.parse(text, "/etc/logguardd/logguardd.toml"))


def lines(unit: str) -> list[str]:
    """Return a drop-in without its comment."""
    return [line for line in unit.split("\n") if line and not line.startswith("#")]


def test_the_defaults_need_no_drop_in():
    found = asked()
    assert set(found.drop_ins.values()) == {""}
    assert found.enabled == (SERVICE, SOCKET)
    assert found.disabled == (TLS_SOCKET,)
    assert found.masked == ()


def test_another_port():
    found = asked('[listen]\nudp = ["[::]:5514"]\ntcp = ["192.0.2.1:5514", "[2001:db8::1]:601"]\n')
    assert lines(found.drop_ins[SOCKET]) == [
        "[Socket]",
        "ListenDatagram=",
        "ListenStream=",
        "ListenDatagram=5514",
        "ListenStream=192.0.2.1:5514",
        "ListenStream=[2001:db8::1]:601",
    ]
    assert found.drop_ins[TLS_SOCKET] == ""


def test_udp_only():
    assert lines(asked("[listen]\ntcp = []\n").drop_ins[SOCKET]) == [
        "[Socket]", "ListenDatagram=", "ListenStream=", "ListenDatagram=514",
    ]  # fmt: skip


def test_sockets_by_name_are_as_their_unit_says():
    found = asked('[listen]\nudp = ["systemd:syslog"]\ntcp = ["systemd:syslog"]\n')
    assert found.drop_ins[SOCKET] == ""
    assert SOCKET in found.enabled


def test_tls_only():
    found = asked(f'[listen]\nudp = []\ntcp = []\ntls = ["[::]:6514"]\n{TLS}')
    assert found.masked == (SOCKET,)
    assert found.enabled == (SERVICE, TLS_SOCKET)
    assert set(found.drop_ins.values()) == {""}


def test_names_of_hosts_are_opened_by_the_daemon():
    found = asked('[listen]\nudp = ["localhost:514"]\n')
    assert found.masked == (SOCKET,)


def test_tls_at_another_port():
    found = asked(f'[listen]\ntls = [":16514"]\n{TLS}')
    assert lines(found.drop_ins[TLS_SOCKET]) == ["[Socket]", "ListenStream=", "ListenStream=16514"]


@pytest.mark.parametrize("backend", ["print", "nftables", "iptables"])
def test_the_firewall(backend):
    found = asked(f'[firewall]\nbackend = "{backend}"\n')
    assert (FIREWALL in found.enabled) == (backend != "print")
    shipped = (CHECKOUT / "systemd" / "logguardd-firewall-iptables.conf").read_text()
    assert lines(found.drop_ins[FIREWALL]) == (lines(shipped) if backend == "iptables" else [])


def test_ports_are_those_of_the_shipped_units():
    """Where the units listen by themselves no drop-in is written."""
    for unit, port in ((SOCKET, 514), (TLS_SOCKET, 6514)):
        text = (CHECKOUT / "systemd" / unit).read_text()
        assert set(re.findall(r"^Listen\w+=(.*)$", text, re.MULTILINE)) == {str(port)}


def test_the_first_start():
    found = commands(asked('[firewall]\nbackend = "nftables"\n'), [], restart=True)
    assert [" ".join(line) for line in found] == [
        f"systemctl unmask --quiet {SOCKET}",
        f"systemctl stop {SERVICE} {TLS_SOCKET}",
        f"systemctl disable --quiet {TLS_SOCKET}",
        f"systemctl enable --quiet {SERVICE} {SOCKET} {FIREWALL}",
        f"systemctl restart {SERVICE}",
        f"systemctl restart {FIREWALL}",
    ]


def test_a_changed_port_closes_the_socket_first():
    found = [" ".join(line) for line in commands(asked('[listen]\nudp = ["[::]:5514"]\n'), [SOCKET], restart=False)]
    assert found[0] == "systemctl daemon-reload"
    assert found.index(f"systemctl stop {SERVICE} {SOCKET} {TLS_SOCKET}") < found.index(f"systemctl restart {SERVICE}")


def test_a_second_run_only_starts():
    wanted = asked(f'[listen]\ntls = ["[::]:6514"]\n{TLS}')
    assert [line[1] for line in commands(wanted, [], restart=False)] == ["unmask", "enable", "start"]
    assert [line[1] for line in commands(wanted, [], restart=False, reload=True)] == [
        "unmask", "enable", "reload-or-restart",
    ]  # fmt: skip


def test_drop_ins_come_and_go(tmp_path):
    wanted = asked('[listen]\nudp = ["[::]:5514"]\n')
    assert write(wanted, tmp_path) == [SOCKET]
    assert write(wanted, tmp_path) == []
    file = tmp_path / f"{SOCKET}.d" / "logguardctl-setup.conf"
    assert file.read_text() == wanted.drop_ins[SOCKET]
    assert "/etc/logguardd/logguardd.toml" in file.read_text()
    other = file.with_name("other.conf")
    other.write_text("[Socket]\n")
    assert write(asked(), tmp_path) == [SOCKET]
    assert write(asked(), tmp_path) == []
    assert not file.exists()
    assert other.exists()
