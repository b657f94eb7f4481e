"""Hostile lines cost time in proportion to their length, whatever the pattern. Ratios, not times: machines differ."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from logguardd.grammar import compile as compiled
from logguardd.grammar import parse
from logguardd.grammar.endpoints import endpoints
from logguardd.grammar.patterns import Choice, Literal, Optional, Token, Until
from logguardd.rules.rulefile import read

SHORT, LONG = 8_192, 65_536
#: Linear time gives LONG / SHORT = 8, quadratic time 64. Less than this many seconds is noise.
MOST_RATIO, NOISE = 24, 0.002
PATTERNS = (
    "<text> a <text> b <text> c <user> d <ip>",
    "<text>x<word>y<word>z",
    "<text> <word> <word> <word>[ <word>][ <word>]",
    "<user> <quoted> <quoted> from <ip>",
    "<text> <time> <time> x",
    "<prefix>X=<word> <fields>Y=<word> <fields>",
    "[<prefix>IN=<word> ]<text> <hex> <int> <port> x",
    "<ip> <text>:<text>: <word>",
    "[a <text> b]<text>c<word>",
    "<quoted>[ <quoted>][ <quoted>][ <quoted>] <text> <quoted>",
)
SAMPLES = {
    "ip": "1.2.3.4", "dip": "::1", "host": "a.b", "port": "22", "dport": "22", "proto": "tcp", "name": "x", "word": "x",
    "int": "1", "hex": "a", "status": "200", "quoted": '"x"', "time": "[x]", "prefix": "", "fields": "A=1 ", "user": "", "text": "",
}  # fmt: skip


def sample(tree):
    """Return a message of the pattern with every optional part in it, and every beginning of it."""
    beginnings = [""]
    for node in tree:
        match node:
            case Literal(text=text):
                parts = [text]
            case Token(kind=kind):
                parts = [SAMPLES[kind.name]]
            case Until(token=token, body=body):
                parts = sample((token, *body))
            case Optional(body=body):
                parts = sample(body)
            case Choice(alternatives=alternatives):
                parts = sample(alternatives[0])
        beginnings += [beginnings[-1] + part for part in parts if part]
    return beginnings[1:] or [""]


def hostile(tree):
    """Return texts to repeat: pieces of the pattern, and what tokens are made of."""
    beginnings = sample(tree)
    pieces = {one[start:] for one in beginnings for start in {0, *(len(each) for each in beginnings)} if one[start:]}
    return [
        *sorted(pieces),
        "a",
        " ",
        "a ",
        '"',
        '\\"',
        ' "\\',
        "[",
        "[a ",
        "A=",
        "A ",
        "1",
        "1.",
        ":",
        "::1 ",
        "\t",
        "é",
    ]


def seconds(call, text):
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        call(text)
        best = min(best, time.process_time() - start)
    return best


def assert_linear(call, piece, start="", end=""):
    long = start + (piece * (LONG // len(piece) + 1))[:LONG] + end
    slow = seconds(call, long)
    if slow > NOISE:
        short = start + (piece * (SHORT // len(piece) + 1))[:SHORT] + end
        assert slow / max(seconds(call, short), NOISE / 100) < MOST_RATIO, (piece, slow)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_made_to_be_slow(pattern):
    tree = parse(pattern)
    call = compiled(tree).match
    beginnings = sample(tree)
    for piece in hostile(tree):
        for start in ("", beginnings[len(beginnings) // 2], beginnings[-1]):
            assert_linear(call, piece, start)


@pytest.mark.parametrize("file", sorted(Path("etc/rules.d").glob("*.toml")), ids=lambda file: file.stem)
def test_the_catalogue(file):
    for text in read(file.name, file.read_text(encoding="utf-8"), {})[0]:
        for pattern in text.patterns:
            call = compiled(pattern.tree).match
            beginnings = sample(pattern.tree)
            for piece in {beginnings[-1], beginnings[len(beginnings) // 2], beginnings[0], "a", "a ", '"', "A=1 "} - {
                ""
            }:
                assert_linear(call, piece, beginnings[len(beginnings) // 2])


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1.", "1.2.3.4 ", "1.2.3.4", "1.2.3.4.", ":", "::", "1:", "a:b:", "[", "[::", "::1 ", "::1%", "x:", "port ",
     "from ", "from 1.2.3.4 port 1 ", "1.2.3", "proto", "dport=", "0.0.0.0/0 ", "version 1.2.3.4 ", "é", "1.2.3.4:1", "a" * 60 + ":"],
)  # fmt: skip
def test_the_endpoint_grammar(piece):
    assert_linear(endpoints, piece, "1.2.3.4 :: ")
    assert_linear(endpoints, piece, "", " 1.2.3.4")
