"""The endpoint grammar: a line, and what is found in it. Both back ends."""

from __future__ import annotations

import pytest

from logguardd.grammar import endpoint_reference, endpoints

N = None
# message | address | source port | destination port | protocol | countable
FOUND = [
    ("203.0.113.5", "203.0.113.5", 0, 0, N, True),
    ("from 203.0.113.5", "203.0.113.5", 0, 0, N, True),
    ("peer 203.0.113.5.", "203.0.113.5", 0, 0, N, True),
    ("203.0.113.5: hello", "203.0.113.5", 0, 0, N, True),
    ("<203.0.113.5>, (203.0.113.5); '203.0.113.5'", "203.0.113.5", 0, 0, N, True),
    ("root@203.0.113.5 said", "203.0.113.5", 0, 0, N, True),
    ("2001:DB8::5 said", "2001:db8::5", 0, 0, N, True),
    ("from fe80::1%eth0: hello", "fe80::1", 0, 0, N, True),
    ("::ffff:203.0.113.5 and 203.0.113.5", "203.0.113.5", 0, 0, N, True),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", 0, 0, N, True),
    ("1:2:3:4:5:6:203.0.113.5", "1:2:3:4:5:6:cb00:7105", 0, 0, N, True),
    # Ports.
    ("203.0.113.5:40022", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5:40022: hello", "203.0.113.5", 40022, 0, N, True),
    ("[2001:db8::5]:40022", "2001:db8::5", 40022, 0, N, True),
    ("H=(x) [203.0.113.5]:40022 F=<a>", "203.0.113.5", 40022, 0, N, True),
    ("from unknown[203.0.113.5]", "203.0.113.5", 0, 0, N, True),
    ("client 203.0.113.5#40022: query", "203.0.113.5", 40022, 0, N, True),
    ("client @0x7f 2001:db8::5#40022 (a.example): query", "2001:db8::5", 40022, 0, N, True),
    ("203.0.113.5(40022)", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5 port 40022", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5 (port 40022)", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5, Port: 40022", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5/40022", "203.0.113.5", 40022, 0, N, True),
    ("outside:203.0.113.5/40022", "203.0.113.5", 40022, 0, N, True),
    ("203.0.113.5 port 65536", "203.0.113.5", 0, 0, N, True),
    ("203.0.113.5/65536", "203.0.113.5", 0, 0, N, True),
    ("/203.0.113.5:40022", "203.0.113.5", 40022, 0, N, True),
    ("Connection from 203.0.113.5 port 40022 on 192.0.2.1 port 22", "203.0.113.5", 40022, 22, N, False),
    ("list 101 denied tcp 203.0.113.5(40022) -> 192.0.2.1(22), 1 packet", "203.0.113.5", 40022, 22, "tcp", False),
    ("Deny tcp src outside:203.0.113.5/40022 dst inside:192.0.2.1/2222", "203.0.113.5", 40022, 2222, "tcp", False),
    ("192.0.2.1:22 <- 203.0.113.5:40022", "192.0.2.1", 22, 0, N, False),
    ("to 192.0.2.1:22 from 203.0.113.5:40022", "203.0.113.5", 40022, 22, N, False),
    # Keys.
    ("SRC=203.0.113.5 DST=192.0.2.1 PROTO=TCP SPT=40022 DPT=22", "203.0.113.5", 40022, 22, "tcp", False),
    ("SRC=203.0.113.5 SPT=40022 DPT=22 PROTO=17", "203.0.113.5", 40022, 22, "udp", True),
    ("rhost=203.0.113.5", "203.0.113.5", 0, 0, N, True),
    ("rhost=203.0.113.5  user=root", "203.0.113.5", 0, 0, N, True),
    ("client: 203.0.113.5, server: 192.0.2.1", "203.0.113.5", 0, 0, N, False),
    ("server: 192.0.2.1, client=203.0.113.5", "203.0.113.5", 0, 0, N, False),
    ("rip=203.0.113.5, lip=192.0.2.1", "203.0.113.5", 0, 0, N, False),
    ('{"dst_ip":"192.0.2.1","src_ip":"203.0.113.5","src_port":40022,"dst_port":443}', "203.0.113.5", 40022, 443, N, False),
    ('{"src_ip": "203.0.113.5", "proto": "6"}', "203.0.113.5", 0, 0, "tcp", True),
    ("srcip=203.0.113.5 srcport=40022 dstport=22 proto=47", "203.0.113.5", 40022, 22, "47", True),
    ("UDP packet from 203.0.113.5:53", "203.0.113.5", 53, 0, "udp", True),
    ("203.0.113.5 spt=99999", "203.0.113.5", 0, 0, N, True),
    # Not countable: two addresses, none that a peer has, or only the other end.
    ("203.0.113.5 203.0.113.6", "203.0.113.5", 0, 0, N, False),
    ("203.0.113.5 2001:db8::5", "203.0.113.5", 0, 0, N, False),
    ("0.0.0.0 is bound", "0.0.0.0", 0, 0, N, False),
    ("listening on [::]:22", "::", 0, 22, N, False),
    ("packet from 255.255.255.255", "255.255.255.255", 0, 0, N, False),
    ("joined 224.0.0.251", "224.0.0.251", 0, 0, N, False),
    ("ff02::1 seen", "ff02::1", 0, 0, N, False),
    ("connect to mx.example[203.0.113.5]:25: Connection refused", "203.0.113.5", 0, 25, N, False),
    ("to=203.0.113.5", "203.0.113.5", 0, 0, N, False),
    # A network is none; an address with its prefix length is one.
    ("203.0.113.5 in 203.0.113.0/24", "203.0.113.5", 0, 0, N, True),
    ("inet 192.0.2.7/24", "192.0.2.7", 0, 0, N, True),
    ("203.0.113.0/32", "203.0.113.0", 0, 0, N, True),
    ("2001:db8::5/64", "2001:db8::5", 0, 0, N, True),
    ("2001:db8::/129", "2001:db8::", 129, 0, N, True),
    # Not addresses, beside one that is.
    ("203.0.113.5 runs version 1.2.3.4 of it", "203.0.113.5", 0, 0, N, True),
    ("203.0.113.5 - Chrome/1.2.3.4 Safari/5.6.7.8", "203.0.113.5", 0, 0, N, True),
    ("http://203.0.113.5/1.2.3.4/x", "203.0.113.5", 0, 0, N, False),
    ("203.0.113.5 is 5.113.0.203.in-addr.arpa", "203.0.113.5", 0, 0, N, True),
    # What a client wrote may hide the program's address: behind a slash, as a version, as a network, behind more of them
    # than are looked at, or where the message was cut. What the message begins with is the program's.
    ("no user 'from 198.51.100.9' at x/203.0.113.5", "198.51.100.9", 0, 0, N, False),
    ("no user 'from 198.51.100.9 at x' x-203.0.113.5", "198.51.100.9", 0, 0, N, False),
    ("no user 'from 198.51.100.9 version' 203.0.113.5", "198.51.100.9", 0, 0, N, False),
    ("no user 'from 198.51.100.9', peer 203.0.113.0/24", "198.51.100.9", 0, 0, N, False),
    ("no user 'from 19.51.100.9', peer x/19.51.100.99", "19.51.100.9", 0, 0, N, False),
    ("no user 'from 198.51.100.9' at x/2001:db8::5:", "198.51.100.9", 0, 0, N, False),
    ("no user 'from 2001:db8::9' at x/2001:db8::99", "2001:db8::9", 0, 0, N, False),
    ("no user 'from 2001:db8::9' at x/1:2:3:4:5:6:7:8", "2001:db8::9", 0, 0, N, False),
    ("no user '" + "198.51.100.9 " * 16 + "' from 203.0.113.5", "198.51.100.9", 0, 0, N, False),
    ("no user '" + "x" * 350 + " from 198.51.100.9", "198.51.100.9", 0, 0, N, False),
    # What a client calls himself is not where he is.
    ("auth failure: [user=198.51.100.9] [service=smtp]", "198.51.100.9", 0, 0, N, False),
    ("invalid user 198.51.100.9", "198.51.100.9", 0, 0, N, False),
    ("login: '198.51.100.9' is unknown", "198.51.100.9", 0, 0, N, False),
    ("user=198.51.100.9 at 192.0.2.1", "198.51.100.9", 0, 0, N, False),
    ("helo=<198.51.100.9> [203.0.113.5]:25", "203.0.113.5", 25, 0, N, False),
    ("198.51.100.9 - Chrome/1.2.3.4" + "x" * 350, "198.51.100.9", 0, 0, N, True),
    ("in Some::Class: peer ::ffff:203.0.113.5, peer 203.0.113.5", "203.0.113.5", 0, 0, N, True),
    ("in Some::Class: peer 2001:db8::5%eth0: gone", "2001:db8::5", 0, 0, N, True),
]  # fmt: skip
NOTHING = [
    "",
    "no address",
    "1.2.3",
    "1.2.3.4.5",
    "1.3.6.1.4.1.2021.11.9.0",
    ".1.2.3.4",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4.example",
    "host-1.2.3.4",
    "1.2.3.4-5.el9",
    "1.2.3.4_1",
    "v1.2.3.4",
    "version 1.2.3.4",
    "Version: 1.2.3.4",
    'release="1.2.3.4"',
    "libfoo.so.1.2.3.4",
    "openssl-1.1.1.1",
    "Chrome/1.2.3.4",
    "/usr/lib/1.2.3.4",
    "1.2.3.4-1.2.3.9",
    "1.2.3.4:http",
    "1.2.3.4:99999",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2026-11-20T10:00:00.123456+01:00",
    "20.11.2026 10:00:00",
    "10:00:00",
    "1:2:3:4:5:6:7:8:9",
    "aa:bb:cc:dd:ee:ff",
    "MAC=aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:08:00",
    "00:11:22:33:44:55:66:77",
    "std::string",
    "DB::Fe",
    "dead::beef",
    "a :: b",
    "::",
    "1::2::3",
    "2001:db8::5x",
    "2001:db8::5.example",
]


@pytest.mark.parametrize("line", FOUND, ids=[line[0] for line in FOUND])
@pytest.mark.parametrize("back_end", [endpoints, endpoint_reference], ids=["regex", "pyparsing"])
def test_found(back_end, line):
    message, *wanted = line
    found = back_end.endpoints(message)
    assert found is not None
    assert [found.address, found.source_port, found.port, found.protocol, found.countable] == wanted
    assert found.rule is None
    assert found.user is None


@pytest.mark.parametrize("message", NOTHING)
@pytest.mark.parametrize("back_end", [endpoints, endpoint_reference], ids=["regex", "pyparsing"])
def test_nothing_found(back_end, message):
    assert back_end.endpoints(message) is None


def test_times_are_passed_on():
    assert endpoints.endpoints("from 203.0.113.5", 7).times == 7


def test_only_so_many_addresses_are_looked_at():
    message = " ".join(f"192.0.2.{n}" for n in range(100)) + " from 203.0.113.5"
    assert endpoints.endpoints(message).address == "192.0.2.0"
