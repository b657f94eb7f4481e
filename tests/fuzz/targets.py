"""What is fuzzed: functions of bytes that raise AssertionError, or anything else, when an invariant does not hold."""

from __future__ import annotations

import contextlib
from functools import cache
from ipaddress import ip_network
from itertools import pairwise
from typing import TYPE_CHECKING

from logguardd import config, rules
from logguardd import feed as ban_feed
from logguardd.errors import ConfigError, FeedError
from logguardd.grammar import endpoint_reference, endpoints
from logguardd.listeners.relp_protocol import RelpProtocol
from logguardd.records import Ban
from tests.property.test_framing import feed, model
from tests.property.test_parsing import LINES, check, read
from tests.servers.daemon import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVED, SKEW = 1_795_168_800_000_000, 300_000_000
_LONGEST_MATCHED = 600


def framing(data: bytes) -> None:
    """A stream, however cut, gives the frames that the plain model says; the first byte says where it is cut."""
    if not data:
        return
    step, stream = data[0] % 37 + 1, data[1:]
    edges = [*range(0, len(stream), step), len(stream)]
    assert feed([stream[a:b] for a, b in pairwise(edges)]) == feed([stream]) == model(stream)


def parsing(data: bytes) -> None:
    """Every frame gives one record that PostgreSQL takes."""
    frames = [frame for frame in data.replace(b"\0", b"#000").split(b"\n") if frame]
    for record, frame in zip(read(frames, RECEIVED, SKEW) if frames else [], frames, strict=True):
        check(record, frame, RECEIVED, SKEW)


def relp(data: bytes) -> None:
    """A session answers or ends with an error; what it gives does not depend on how the bytes are cut."""
    if not data:
        return
    step, stream = data[0] % 37 + 1, data[1:]
    edges = [*range(0, len(stream), step), len(stream)]
    assert _relp([stream[a:b] for a, b in pairwise(edges)]) == _relp([stream])


def _relp(chunks: list[bytes]) -> tuple[bytes, list[bytes], bool]:
    protocol = RelpProtocol(64)
    answers, payloads = b"", []
    for chunk in chunks:
        if protocol.closed:
            break
        for event in protocol.feed(chunk):
            if hasattr(event, "payloads"):
                payloads += event.payloads
                answers += event.answer
            else:
                answers += event.data
    return answers, payloads, protocol.closed


@cache
def _catalogue() -> rules.RuleSet:
    folder = CHECKOUT / "etc" / "rules.d"
    return rules.load([(file.name, file.read_text("utf-8")) for file in sorted(folder.glob("*.toml"))])


def matching(data: bytes) -> None:
    """The compiled matcher and the pyparsing reference find the same in every message."""
    name, _, message = data[:_LONGEST_MATCHED].decode("utf-8", "backslashreplace").replace("\n", " ").partition(" ")
    one = rules.record(name or None, message)
    assert _catalogue().match([one]) == [_catalogue().explain(one).match]


def endpoint(data: bytes) -> None:
    """Both back ends of the endpoint grammar find the same."""
    message = data[:_LONGEST_MATCHED].decode("utf-8", "backslashreplace").replace("\n", " ")
    assert endpoints.endpoints(message) == endpoint_reference.endpoints(message)


def rulefile(data: bytes) -> None:
    """A rule file loads or says in lines what is wrong."""
    _told(ConfigError, lambda: rules.load([("fuzz.toml", data.decode("utf-8", "replace"))]))


def configuration(data: bytes) -> None:
    """A configuration is read or every fault of it is told in a line."""
    _told(ConfigError, lambda: config.parse(data.decode("utf-8", "replace"), "fuzz.toml"))


def _told(error: type[Exception], work: Callable[[], object]) -> None:
    try:
        work()
    except error as told:
        wrong = [line for line in str(told).split("\n") if not line.startswith("fuzz.toml") or not line.isprintable()]
    else:
        wrong = []
    assert not wrong, wrong


def bans(data: bytes) -> None:
    """A feed of bans gives events or a FeedError."""
    with contextlib.suppress(FeedError):
        ban_feed.Decoder().feed(b"".join(ban_feed.hello(0, "x")) + data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (framing, parsing, relp, matching, endpoint, rulefile, configuration, bans)
}


def seeds(target: str) -> list[bytes]:
    """Return inputs to begin with."""
    return _SEEDS[target]()


_LINES = [line.encode() for line in LINES]


def _frames() -> list[bytes]:
    return [b"\x05" + b"\n".join(_LINES), b"\x05" + b"".join(b"%d %s" % (len(line), line) for line in _LINES)]


def _session() -> list[bytes]:
    frames = b"".join(b"%d syslog %d %s\n" % (number, len(line), line) for number, line in enumerate(_LINES, 2))
    return [b"\x051 open 38 relp_version=1\ncommands=syslog,close\n\n" + frames + b"99 close 0\n"]


def _rule_files() -> list[bytes]:
    return [file.read_bytes()[:3000] for file in sorted((CHECKOUT / "etc" / "rules.d").glob("*.toml"))]


def _bans() -> list[bytes]:
    one = Ban(ip_network("203.0.113.5"), 22, "auth", 0, RECEIVED, "6 hits")
    lines = *ban_feed.snapshot([one]), *ban_feed.change([one], [one.key]), *ban_feed.heartbeat(1)
    return [b"".join(lines)]


def _corpus(*, named: bool) -> list[bytes]:
    found = []
    for file in (CHECKOUT / "tests" / "corpus").glob("*.txt"):
        for line in file.read_text("utf-8").splitlines():
            about, bar, message = line.partition(" | ")
            if bar and not line.startswith("#"):
                found.append((f"{about.split()[0]} " if named else "").encode() + message.encode())
    return found


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "framing": _frames,
    "parsing": lambda: _LINES,
    "relp": _session,
    "matching": lambda: _corpus(named=True),
    "endpoint": lambda: _corpus(named=False),
    "rulefile": _rule_files,
    "configuration": lambda: [(CHECKOUT / "etc" / "logguardd.toml").read_bytes()],
    "bans": _bans,
}
