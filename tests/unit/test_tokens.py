"""What each token matches, in both back ends."""

from __future__ import annotations

import pytest

from logguardd.grammar import MOST, parse, reference
from logguardd.grammar import compile as compiled

IP = "<ip> x"
CASES = [
    # pattern, message, value of the first token, or None for no match
    ("<ip>", "203.0.113.5", "203.0.113.5"),
    ("<ip>", "::ffff:203.0.113.5", "203.0.113.5"),
    ("<ip>", "2001:DB8::5", "2001:db8::5"),
    ("<ip>", "fe80::1%eth0.100", "fe80::1"),
    ("<ip>", "[2001:db8::5]", "2001:db8::5"),
    ("<ip>", "[203.0.113.5]", None),
    ("<ip>", "203.0.113.256", None),
    ("<ip>", "203.0.113.05", None),
    ("<ip>", "203.0.113.5.6", None),
    ("<ip>", "203.0.113", None),
    ("<ip>", "example.com", None),
    ("<ip> x", "203.0.113.5  x", None),
    ("<ip>. Bye", "203.0.113.5. Bye", "203.0.113.5"),
    ("<ip>. Bye", "2001:db8::1.2.3.4. Bye", "2001:db8::102:304"),
    ("<ip>, <text>", "203.0.113.5, 9.9.9.9", "203.0.113.5"),
    ("<ip>:<port>", "203.0.113.5:40022", "203.0.113.5"),
    ("<ip>:<port>", "[2001:db8::5]:40022", "2001:db8::5"),
    ("<ip>:<port>", "2001:db8::5:40022", "2001:db8::5"),
    ("<ip>:<port>", "2001:db8:1:2:3:4:5:6:40022", "2001:db8:1:2:3:4:5:6"),
    ("<ip>:<port>", "::ffff:203.0.113.5:40022", "203.0.113.5"),
    ("<ip>:<port>", "2001:db8::5", None),
    ("<ip>: <text>", "2001:db8::5: 9.9.9.9: x", "2001:db8::5"),
    (r"\[<ip>\]", "[2001:db8::5]", "2001:db8::5"),
    (r"\[<ip>\]", "[[2001:db8::5]]", None),
    ("<dip>", "::FFFF:203.0.113.5", "203.0.113.5"),
    ("<port>", "0", "0"),
    ("<port>", "65535", "65535"),
    ("<port>", "65536", None),
    ("<port>", "022", None),
    ("<port>", "-1", None),
    ("<port>", "\u0661", None),
    ("<dport> x", "22 x", "22"),
    ("<dport> x", "22x", None),
    ("<proto>", "TCP", "tcp"),
    ("<proto>", "ICMPv6", "icmpv6"),
    ("<proto>", "47", "47"),
    ("<proto>", "a b", None),
    ("<proto>", "x" * 17, None),
    ("<word>", "a-b_c.d/e", "a-b_c.d/e"),
    ("<word>", "é\u00a0x", "é\u00a0x"),
    ("<word>", "a b", None),
    ("<word>", "a\tb", None),
    ("<word>", "", None),
    ("<word>: <text>", "a: b: c", "a"),
    ("<word>, b", "a,b, b", None),
    ("<word>[: x]", "a:b", None),
    ("<word>", "x" * 1024, "x" * 1024),
    ("<word>", "x" * 1025, None),
    ("<name> x", "bob x", "bob"),
    ("<name> x", "bob b x", None),
    ("<host>", "mail-1.example_a.com", "mail-1.example_a.com"),
    ("<host>", "2001:db8::1%1", "2001:db8::1%1"),
    ("<host>", "unknown", "unknown"),
    ("<host>", "a/b", None),
    (r"<host>\[<ip>\]", "mail.example[203.0.113.5]", "mail.example"),
    ("<host>: <text>", "a.b: c", "a.b"),
    ("<int>", "0", "0"),
    ("<int>", "-12", "-12"),
    ("<int>", "1" * 20, "1" * 20),
    ("<int>", "1" * 21, None),
    ("<int>", "--1", None),
    ("<int>", "1.5", None),
    ("<int>.<int>", "12345.678901", "12345"),
    ("<hex>", "0x1F", "0x1F"),
    ("<hex>", "dead", "dead"),
    ("<hex>", "0x", None),
    ("<hex>", "0xg", None),
    ("<hex> a", "0 a", "0"),
    ("<hex> a", "1g a", None),
    ("<status>", "404", "404"),
    ("<status>", "4040", None),
    ("<status>", "40", None),
    ("<quoted>", '""', ""),
    ("<quoted>", '"GET / HTTP/1.1"', "GET / HTTP/1.1"),
    ("<quoted>", r'"a\"b\\"', r"a\"b\\"),
    ("<quoted>", r'"a\\"b"', None),
    ("<quoted>", '"a"b"', None),
    ("<quoted>", '"a', None),
    ("<quoted>", r'"a\"', None),
    ("<quoted> <text>", '"a" "b"', "a"),
    ("<time>", "[20/Nov/2026:10:00:00 +0100]", "20/Nov/2026:10:00:00 +0100"),
    ("<time>", "[]", ""),
    ("<time>", "[[]]", None),
    ("<time>", "[" + "x" * 65 + "]", None),
    ("<prefix>IN=x", "IN=x", ""),
    ("<prefix>IN=x", "[UFW BLOCK] IN=x", "[UFW BLOCK] "),
    ("<prefix>IN=x", "IN IN=x", "IN "),
    ("<prefix>IN=x", "a=b IN=x", None),
    ("<prefix>IN=x", "x" * 64 + "IN=x", "x" * 64),
    ("<prefix>IN=x", "x" * 65 + "IN=x", None),
    ("<fields>", "", ""),
    ("<fields>", "LEN=60 DF MAC=  OPT (0204) ", "LEN=60 DF MAC=  OPT (0204) "),
    ("<fields>", "LEN=60 DF", "LEN=60 DF"),
    ("<fields>", "LEN=60 é", None),
    ("<fields>PROTO=x", "LEN=60 DF PROTO=x", "LEN=60 DF "),
    ("<fields>PROTO=x", "PROTO=x", ""),
    ("<fields>PROTO=x", "LEN=60PROTO=x", None),
    ("<fields>PROTO=x[ <fields>]", "TTL=1 PROTO=x PROTO=y ", "TTL=1 "),
    ("<user> from <ip>", " from ::1", ""),
    ("<user> from <ip>", "x from ::2 from ::1", "x from ::2"),
    ("<user> from <ip>", "a\tb\x01é from ::1", "a\tb\x01é"),
    ("<user> said", "x" * 1024 + " said", "x" * 1024),
    ("<user> said", "x" * 1025 + " said", None),
    ("<text> x <user>", "a x b x c", "a"),
    ("<text>", "x" * 8192, "x" * 8192),
    ("<text>", "x" * 8193, None),
    # More octets than are safe from having been cut on their way, where free text stands before the address.
    ("<user> from <ip>", "x" * (MOST - 9) + " from ::1", "x" * (MOST - 9)),
    ("<user> from <ip>", "x" * (MOST - 8) + " from ::1", None),
    ("<user> from <ip>", "é" * 170 + "x from ::1", "é" * 170 + "x"),
    ("<user> from <ip>", "é" * 171 + " from ::1", None),
    ("<ip> said <text>", "::1 said " + "x" * 2000, "::1"),
    # Or a word, which may end where the message was cut; but not where the whole message would match as well.
    ("<name> from <ip>", "x" * (MOST - 9) + " from ::1", "x" * (MOST - 9)),
    ("<name> from <ip>", "x" * (MOST - 8) + " from ::1", None),
    ("[x ]<word> from <ip>[: <text>]", "x" * (MOST - 8) + " from ::1", None),
    ("(a|<quoted>) from <ip>", '"' + "x" * MOST + '" from ::1', None),
    ("<name> from <ip>: <text>", "x" * MOST + " from ::1: ", "x" * MOST),
    ("<word> from <ip>: (a <text>|by <user>)", "x" * MOST + " from ::1: by ", "x" * MOST),
    ("<int> <host> <ip> <word>", "1 x ::1 " + "x" * MOST, "1"),
]


def _name(case):
    return f"{case[0]}~{case[1][:24]}"


@pytest.mark.parametrize(("pattern", "message", "wanted"), CASES, ids=map(_name, CASES))
def test_token(pattern, message, wanted):
    tree = parse(pattern)
    one, other = compiled(tree), reference(tree)
    assert (one.match(message) is None) == (wanted is None)
    assert one.match(message) == other.match(message)
    if wanted is not None:
        assert other.tokens(message)[0][1] == wanted


@pytest.mark.parametrize(
    ("pattern", "message", "values"),
    [
        (
            "Failed <word> for [invalid user ]<user> from <ip> port <port>[ ssh2]",
            "Failed password for invalid user x from 9.9.9.9 port 1 ssh2 from 203.0.113.5 port 40022 ssh2",
            {"user": "x from 9.9.9.9 port 1 ssh2", "address": "203.0.113.5", "source_port": "40022"},
        ),
        (
            "<prefix>IN=[<word>] OUT=[<word>] [MAC=<word> ]SRC=<ip> DST=<dip> <fields>PROTO=<proto> SPT=<port> DPT=<dport>[ <fields>]",
            "[UFW BLOCK] IN=eth0 OUT= MAC=aa:bb SRC=203.0.113.5 DST=192.0.2.1 LEN=60 DF PROTO=TCP SPT=40022 DPT=22 SYN URGP=0 ",
            {"address": "203.0.113.5", "protocol": "tcp", "source_port": "40022", "port": "22"},
        ),
        ("(<user> in|<name> out) <text>", "a b in x", {"user": "a b"}),
        ("(<user> in|<name> out) <text>", "a out x", {"user": "a"}),
        ("rhost=(<ip>|<host>)[  user=<user>]", "rhost=a.example  user=bob", {"user": "bob"}),
        ("rhost=(<ip>|<host>)[  user=<user>]", "rhost=::1  user=bob", {"address": "::1", "user": "bob"}),
    ],
)
def test_values(pattern, message, values):
    tree = parse(pattern)
    assert compiled(tree).match(message) == values
    assert reference(tree).match(message) == values


def test_a_message_that_does_not_match_says_how_far_it_does():
    tree = parse("login of <name> from <ip>")
    assert reference(tree).tokens("login of bob from nowhere") == len("login of bob from ")
    assert reference(tree).tokens("logout") == 0
