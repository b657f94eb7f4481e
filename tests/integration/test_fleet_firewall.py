"""A host of the fleet follows the server's bans over HTTPS: real daemon, real logguardd-firewall, real nftables."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from logguardd import pki
from tests.integration.feeds import elements, service
from tests.servers.process import need, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.daemon import Daemon
    from tests.servers.netns import Netns
    from tests.servers.process import Child

NAME = "logs.example.net"
SERVER, HOST = "192.0.2.1", "192.0.2.2"
URL = f"https://{SERVER}:9515"


def issue(folder: Path, authority: pki.Authority, issued: pki.Issued) -> Path:
    folder.mkdir(parents=True)
    for name, content in (
        ("ca.pem", authority.certificate),
        ("cert.pem", issued.certificate),
        ("key.pem", issued.private_key),
    ):
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def authority() -> pki.Authority:
    return pki.Authority.create("CA", datetime.now(UTC))


@pytest.fixture
def host(make_netns: Callable[[], Netns]) -> Netns:
    need("nft", "ip")
    return make_netns()


@pytest.fixture
def server(
    make_netns: Callable[[], Netns],
    host: Netns,
    make_daemon: Callable[..., Daemon],
    authority: pki.Authority,
    tmp_path: Path,
) -> Daemon:
    """A daemon in a namespace of its own, which the host reaches; with certificates, and http.follow."""
    space = make_netns()
    space.connect(host, [f"{SERVER}/24"], [f"{HOST}/24"])
    tls = issue(tmp_path / "tls", authority, authority.server([NAME, SERVER, "198.51.100.1"], datetime.now(UTC)))
    daemon = make_daemon(
        f"""
        [tls]
        certificate = "{tls}/cert.pem"
        private_key = "{tls}/key.pem"
        client_ca = "{tls}/ca.pem"
        [http]
        follow = "[::]:9515"
        """,
        wrap=space.argv,
    )
    daemon.space = space
    daemon.start()
    return daemon


@pytest.fixture
def follow(host: Netns, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children = []

    def start(files: Path, name: str = "firewall", url: str = URL) -> Child:
        folder = tmp_path / name
        folder.mkdir()
        environment = {
            "LOGGUARDD_FOLLOW": url,
            "LOGGUARDD_CA": f"{files}/ca.pem",
            "LOGGUARDD_CERT": f"{files}/cert.pem",
            "LOGGUARDD_BACKEND": "auto",
        }
        children.append(service(host, folder, "--key", f"{files}/key.pem", env=environment))
        return children[-1]

    yield start
    for child in children:
        if child.alive():
            child.stop()


def ban(server: Daemon, address: str, duration: str = "10m") -> None:
    status, content = server.request("POST", "/bans", {"network": address, "duration": duration})
    assert status == 201, content


def holds(host: Netns, *names: str) -> None:
    wait_until(lambda: (elements(host) or {}).keys() == set(names), timeout=30, what=f"{names} in the host's kernel")


def test_bans_reach_the_host_and_outlive_the_server(server, host, authority, follow, tmp_path) -> None:
    files = issue(tmp_path / "web1", authority, authority.client("web1.example.net", datetime.now(UTC)))
    ban(server, "203.0.113.1")
    child = follow(files)
    holds(host, "203.0.113.1")
    assert "web1.example.net (192.0.2.2) follows" in server.child.output()
    started = time.monotonic()
    ban(server, "2001:db8::/64")
    ban(server, "203.0.113.2", "5s")
    holds(host, "203.0.113.1", "203.0.113.2", "2001:db8::")
    print(f"two bans at another host over HTTPS: {(time.monotonic() - started) * 1000:.0f} ms")
    # Certificates are renewed without the follower noticing.
    issue(tmp_path / "new", authority, authority.server([NAME, SERVER], datetime.now(UTC)))
    for name in ("cert.pem", "key.pem"):
        (tmp_path / "new" / name).replace(tmp_path / "tls" / name)
    assert server.request("POST", "/reload")[0] == 200
    assert server.request("GET", "/status")[1]["bans"]["followers"] == 1
    # Without the server nothing is invented, and what ends, ends.
    server.kill()
    wait_until(lambda: "trying again" in child.output(), what="the follower noticing")
    holds(host, "203.0.113.1", "2001:db8::")
    assert child.alive()
    # Back, with what it remembers, it is followed again.
    server.start()
    assert server.request("DELETE", "/bans/203.0.113.1")[0] == 200
    ban(server, "203.0.113.3")
    holds(host, "203.0.113.3", "2001:db8::")
    assert child.output().count("following https://192.0.2.1:9515 (") == 2
    assert child.output().count("trying again") == 1
    # It says what it found only where it had been.
    assert "not as they were left" not in child.output()
    assert child.stop() == 0
    assert "203.0.113.3" in (elements(host) or {})


def test_where_the_feed_comes_from_is_not_banned(server, host, authority, follow, tmp_path) -> None:
    """The host knows the server by an address that the server does not know: nobody's forged line cuts the host off."""
    space, public = server.space, "198.51.100.1"
    rules = (
        "add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; };"
        f" add rule ip nat pre ip daddr {public} dnat to {SERVER}"
    )
    space.run("nft", rules)
    host.run("ip", "route", "add", public, "via", SERVER)
    files = issue(tmp_path / "web1", authority, authority.client("web1", datetime.now(UTC)))
    child = follow(files, url=f"https://{public}:9515")
    holds(host)
    ban(server, public)
    wait_until(lambda: f"refusing to ban {public} (jail manual): logguardd's server" in child.output(), what="refusal")
    ban(server, "203.0.113.1")
    holds(host, "203.0.113.1")


def test_who_may_not_follow_gets_nothing_and_says_why(server, host, authority, follow, tmp_path) -> None:
    now = datetime.now(UTC)
    other = pki.Authority.create("Other CA", now)
    ban(server, "203.0.113.1")
    wrong = issue(tmp_path / "wrong", other, other.client("web1", now))
    (wrong / "ca.pem").write_bytes(authority.certificate)
    first = follow(wrong, "firewall1")
    wait_until(lambda: "the server refuses our certificate: tlsv1 alert unknown ca" in first.output(), what="why")
    # A server's certificate is none of a client's.
    kind = issue(tmp_path / "kind", authority, authority.server(["web1"], now))
    second = follow(kind, "firewall2")
    wait_until(lambda: "the server refuses our certificate: " in second.output(), what="why")
    # This host trusts another authority, or asks for another name.
    third = follow(issue(tmp_path / "trust", other, authority.client("web1", now)), "firewall3")
    wait_until(lambda: "the server's certificate: " in third.output(), what="why")
    # Nobody was let in, and the table was not even made.
    assert elements(host) is None
    assert "client certificate: " in server.child.output()
    missing = follow(tmp_path / "nowhere", "firewall4")
    assert missing.process.wait(20) == 2
    assert f"--ca: {tmp_path}/nowhere/ca.pem: No such file or directory" in missing.output()
