"""Requests on the control socket, right and wrong."""

import asyncio

import pytest

from logguardd.records import SECOND
from tests.integration.serving import NOW, make_ban, serving


def ask(folder, method, target, body=None, *, raw=None, bans=()):
    async def run():
        async with serving(folder, *bans) as served:
            status, _, content = await served.ask(method, target, body, raw=raw)
            return status, content, served.control.all

    return asyncio.run(run())


def networks(content, key="bans"):
    return [(ban["network"], ban["port"]) for ban in content[key]]


def test_status(tmp_path):
    status, content, _ = ask(tmp_path, "GET", "/status")
    assert status == 200
    assert content["version"] == "1"


BANS = (
    make_ban("192.0.2.1"),
    make_ban("192.0.2.1", 22),
    make_ban("192.0.2.2", until=None),
    make_ban("2001:db8:0:1::/64"),
    make_ban("198.51.100.1", until=NOW - 1),
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [("192.0.2.1", 0), ("192.0.2.1", 22), ("192.0.2.2", 0), ("2001:db8:0:1::/64", 0)]),
        ("?all=true&address=198.51.100.1", [("198.51.100.1", 0)]),
        ("?address=198.51.100.1", []),
        ("?address=192.0.2.1", [("192.0.2.1", 0), ("192.0.2.1", 22)]),
        ("?address=192.0.2.0%2F24&all=false", [("192.0.2.1", 0), ("192.0.2.1", 22), ("192.0.2.2", 0)]),
        ("?address=2001:db8:0:1::5", [("2001:db8:0:1::/64", 0)]),
    ],
)
def test_bans(tmp_path, query, found):
    status, content, _ = ask(tmp_path, "GET", f"/bans{query}", bans=BANS)
    assert status == 200
    assert networks(content) == found


def test_a_ban_in_json(tmp_path):
    ban = make_ban("192.0.2.1", 22, count=3, evidence={"rules": ["sshd"]})
    _, content, _ = ask(tmp_path, "GET", "/bans", bans=[ban])
    assert content["bans"] == [
        {
            "network": "192.0.2.1",
            "port": 22,
            "jail": "auth",
            "since": "2026-09-21T14:13:20.000Z",
            "until": "2026-09-21T14:18:20.000Z",
            "remaining_seconds": 300,
            "active": True,
            "count": 3,
            "reason": "6 hits",
            "evidence": {"rules": ["sshd"]},
        }
    ]


def test_many_bans(tmp_path):
    bans = [make_ban(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(5000)]
    _, content, _ = ask(tmp_path, "GET", "/bans", bans=bans)
    assert len(content["bans"]) == 5000


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ({"network": "192.0.2.7"}, ("192.0.2.7/32", 0, NOW + 3600 * SECOND, "banned by an operator")),
        (
            {"network": "2001:db8::/64", "port": 443, "duration": "90s", "reason": "müde"},
            ("2001:db8::/64", 443, NOW + 90 * SECOND, "müde"),
        ),
        ({"network": "192.0.2.0/24", "duration": None}, ("192.0.2.0/24", 0, None, "banned by an operator")),
    ],
)
def test_ban(tmp_path, body, made):
    status, content, bans = ask(tmp_path, "POST", "/bans", body)
    assert status == 201
    assert [(str(b.network), b.port, b.until, b.reason) for b in bans] == [made]
    assert content["ban"]["port"] == made[1]


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        ({}, 400, "network: it is missing; allowed: an address, or a network"),
        ({"network": "db.example"}, 400, 'network: "db.example"'),
        ({"network": 3232235777}, 400, "network: 3232235777"),
        ({"network": "192.0.2.1/24"}, 400, 'network: "192.0.2.1/24"'),
        ({"network": "fe80::1%eth0"}, 400, "network:"),
        ({"network": "::ffff:192.0.2.1"}, 400, "allowed: 192.0.2.1"),
        ({"network": "192.0.2.1", "port": 65536}, 400, "port: 65536 is not a port"),
        ({"network": "192.0.2.1", "port": True}, 400, "port: true is not a port"),
        ({"network": "192.0.2.1", "port": -1}, 400, "port: -1"),
        ({"network": "192.0.2.1", "duration": "1"}, 400, 'duration: "1" is not allowed; allowed: "1s" to'),
        ({"network": "192.0.2.1", "duration": 60}, 400, "duration: 60"),
        ({"network": "192.0.2.1", "duration": "0s"}, 400, "duration:"),
        ({"network": "192.0.2.1", "duration": "99999d"}, 400, "duration:"),
        ({"network": "192.0.2.1", "reason": ""}, 400, "reason:"),
        ({"network": "192.0.2.1", "reason": "a\nb"}, 400, "reason:"),
        ({"network": "192.0.2.1", "reason": "x" * 257}, 400, "reason:"),
        ({"network": "192.0.2.1", "prot": 22}, 400, 'did you mean "port"?'),
        ([], 400, "not a JSON object"),
        ({"network": "127.0.0.1"}, 409, "127.0.0.1/32 is protected: allowlist"),
        ({"network": "192.0.2.1", "reason": "down"}, 503, "no journal"),
        ({"network": "192.0.2.1", "reason": "bug"}, 500, "internal error"),
    ],
)
def test_refused_bans(tmp_path, body, status, what, caplog):
    got, content, bans = ask(tmp_path, "POST", "/bans", body)
    assert got == status
    assert what in content["error"]
    assert bans == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 20_000, b'{"network": NaN}'])
def test_bodies_that_are_not_json(tmp_path, raw):
    status, content, _ = ask(tmp_path, "POST", "/bans", raw=raw)
    assert status == 400
    assert "error" in content


def test_long_bodies_are_refused(tmp_path):
    assert ask(tmp_path, "POST", "/bans", raw=b" " * 70_000)[0] == 413


@pytest.mark.parametrize(
    ("target", "ended"),
    [
        ("/bans/192.0.2.1", [("192.0.2.1", 0), ("192.0.2.1", 22)]),
        ("/bans/192.0.2.1?port=22", [("192.0.2.1", 22)]),
        ("/bans/192.0.2.1?port=0", [("192.0.2.1", 0)]),
        ("/bans/2001:db8:0:1::77", [("2001:db8:0:1::/64", 0)]),
        ("/bans/2001:db8:0:1::/64", [("2001:db8:0:1::/64", 0)]),
        ("/bans/2001:db8::%2F32", [("2001:db8:0:1::/64", 0)]),
        ("/bans/192.0.2.0/30", [("192.0.2.1", 0), ("192.0.2.1", 22), ("192.0.2.2", 0)]),
        ("/bans", [("192.0.2.1", 0), ("192.0.2.1", 22), ("192.0.2.2", 0), ("2001:db8:0:1::/64", 0)]),
    ],
)
def test_unban(tmp_path, target, ended):
    status, content, left = ask(tmp_path, "DELETE", target, bans=BANS)
    assert status == 200
    assert networks(content, "unbanned") == ended
    assert {(ban["active"], ban["remaining_seconds"]) for ban in content["unbanned"]} == {(False, 0)}
    assert len(left) == len(BANS) - len(ended)


@pytest.mark.parametrize(
    ("target", "status", "what"),
    [
        ("/bans/203.0.113.1", 404, "203.0.113.1 is not banned"),
        ("/bans/192.0.2.1?port=80", 404, "192.0.2.1 is not banned on port 80"),
        ("/bans/2001:db8:0:1::%2F80", 404, "is not banned"),
        ("/bans/everything", 400, 'network: "everything"'),
        ("/bans/192.0.2.1?port=ssh", 400, 'port: "ssh" is not a port'),
        ("/bans/192.0.2.1?prt=1", 400, 'parameter "prt" is not known; allowed: port'),
    ],
)
def test_wrong_unbans(tmp_path, target, status, what):
    got, content, left = ask(tmp_path, "DELETE", target, bans=BANS)
    assert got == status
    assert what in content["error"]
    assert len(left) == len(BANS)


def test_unban_all_of_none(tmp_path):
    assert ask(tmp_path, "DELETE", "/bans")[:2] == (200, {"unbanned": []})


def test_reload(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            assert (await served.ask("POST", "/reload"))[::2] == (200, {"message": "12 rules"})
            served.control.ready = False
            status, _, content = await served.ask("POST", "/reload")
            assert (status, content) == (400, {"error": "f.toml:1: wrong\nf.toml:2: wrong too"})

    asyncio.run(body())


@pytest.mark.parametrize(
    ("target", "status"), [("/", 404), ("/bans/", 404), ("/status?x=1", 200), ("/bans?limit=1", 400)]
)
def test_other_requests(tmp_path, target, status):
    got, content, _ = ask(tmp_path, "GET", target)
    assert got == status
    assert status == 200 or "error" in content
