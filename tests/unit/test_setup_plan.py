"""What setup changes in a configuration, and what it leaves alone."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from logguardd import config
from logguardd.setup import plan
from logguardd.setup.plan import Wishes, changes, untouched


def places(text: str, wishes: Wishes) -> dict[str, object]:
    return {".".join(change.place): change.new for change in changes(config.parse(text, "f.toml"), wishes)}


def test_nothing_is_wished():
    assert places("", Wishes()) == {}


def test_what_is_so_already_is_no_change():
    text = """
    [listen]
    udp = ["192.0.2.1:514"]
    tls = ["[::]:6514"]
    allowed_senders = ["10.0.0.0/8"]
    [tls]
    certificate = "/c"
    private_key = "/k"
    client_ca = "/a"
    [detection]
    allowlist = ["192.0.2.0/24", "127.0.0.1"]
    [firewall]
    backend = "nftables"
    """
    wishes = Wishes(
        embedded=True,
        firewall="nftables",
        allow=(ip_network("192.0.2.7"), ip_network("127.0.0.1")),
        senders=(ip_network("10.0.0.0/8"),),
        port=514,
        tls_port=6514,
        certificates=("/c", "/k", "/a"),
    )
    assert places(text, wishes) == {}


def test_servers():
    text = '[archive]\nurl = "postgresql://a@b/c"\n[limiter]\nurl = "redis://h"\n'
    assert places(text, Wishes(embedded=True)) == {
        "archive.url": "sqlite:///var/lib/logguardd/archive.db",
        "limiter.url": "memory://",
    }
    wished = Wishes(postgres="postgresql://x:secret@y/z", redis="redis://:hidden@r")
    assert places(text, wished) == {"archive.url": "postgresql://x:secret@y/z", "limiter.url": "redis://:hidden@r"}
    shown = " ".join(map(str, changes(config.parse(text, "f"), wished)))
    assert 'archive.url: "postgresql://a@b/c" -> "postgresql://x:***@y/z"' in shown
    assert "secret" not in shown
    assert "hidden" not in shown


def test_allowlists_grow():
    wished = Wishes(allow=(ip_network("192.0.2.7"), ip_network("2001:db8::/32"), ip_network("127.0.0.9")))
    assert places("", wished) == {"detection.allowlist": ["127.0.0.0/8", "::1", "192.0.2.7", "2001:db8::/32"]}


@pytest.mark.parametrize(
    ("wished", "changed"),
    [
        (Wishes(port=514), {}),
        (Wishes(port=5514), {"listen.udp": ["[::]:5514"], "listen.tcp": ["[::]:5514"]}),
        (Wishes(port=0), {"listen.udp": [], "listen.tcp": []}),
        (Wishes(tls_port=6514), {"listen.tls": ["[::]:6514"]}),
        (Wishes(tls_port=0, follow_port=0), {}),
        (Wishes(follow_port=9515), {"http.follow": "[::]:9515"}),
    ],
)
def test_ports(wished, changed):
    assert places("", wished) == changed


def test_ports_of_sockets_and_addresses():
    text = '[listen]\nudp = ["systemd:syslog"]\ntcp = ["192.0.2.1:514", "192.0.2.2:601"]\n'
    assert places(text, Wishes(port=514)) == {"listen.udp": ["[::]:514"], "listen.tcp": ["192.0.2.1:514"]}
    assert places(text, Wishes()) == {}


def test_what_an_operator_wrote_is_not_changed_unasked():
    read = config.parse('[archive]\nurl = "postgresql://a@b/c"\n[detection]\nallowlist = ["10.0.0.0/8"]\n', "f.toml")
    for wished, unasked in (
        (Wishes(), True),
        (Wishes(firewall="nftables", tls_port=6514), True),  # not in the file
        (Wishes(allow=(ip_network("192.0.2.7"),)), True),  # added to what is there
        (Wishes(postgres="postgresql://x@y/z"), False),
        (Wishes(embedded=True), False),
    ):
        assert untouched(read, changes(read, wished)) is unasked


def test_networks_as_people_write_them():
    assert str(plan.network(" 192.0.2.9/24 ")) == "192.0.2.0/24"
    with pytest.raises(ValueError, match="does not appear to be"):
        plan.network("office")
