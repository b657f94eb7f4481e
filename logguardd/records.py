"""The nouns that travel: origins, batches, records, matches, hits, bans.

Times are integers, microseconds since 1970-01-01T00:00:00Z, everywhere in logguardd; durations are microseconds too
unless a name says otherwise. Record and Match are made once a message, on the hot path: they are named tuples, which
cost a third of a frozen dataclass to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: One second, in the unit of all times.
SECOND = 1_000_000

Network = IPv4Network | IPv6Network


class Origin(NamedTuple):
    """Where a batch came from.

    ``peer`` is the sender's address as text (IPv4-mapped IPv6 already unmapped), ``transport`` one of "udp", "tcp",
    "tls", "relp", ``tls_identity`` the name in the peer's certificate or "".
    """

    peer: str
    transport: str
    tls_identity: str = ""

    def __str__(self) -> str:
        """Show the origin as the archive and the log do, for example ``tls://192.0.2.1 (web1.example)``."""
        host = f"[{self.peer}]" if ":" in self.peer else self.peer
        name = f" ({self.tls_identity})" if self.tls_identity else ""
        return f"{self.transport}://{host}{name}"


class Framed(NamedTuple):
    """What framing gives for some bytes: ``number`` frames, joined with LF (a frame never contains an LF or a NUL).

    ``truncated`` frames were cut at max_message and kept; ``dropped`` frames are not in ``frames`` (reason to count).
    """

    frames: bytes
    number: int
    truncated: int = 0
    dropped: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames from one origin that were received together: one row of the journal.

    ``offset`` is the journal position of the first frame (the next ones follow by one each; 0 until the journal sets
    it), ``received_at`` the receive time, ``frames`` ``count`` frames joined with LF.
    """

    offset: int
    received_at: int
    origin: Origin
    frames: bytes
    count: int


class Record(NamedTuple):
    r"""One message, with RFC 5424's field names (section 6); None is the NILVALUE or a field the format lacks.

    ``timestamp`` is the sender's time, or the receive time where that is missing or off by more than the allowed
    skew. ``structured_data`` is a JSON object as text. ``raw`` is the whole frame as text (invalid UTF-8 as
    ``\xNN``). ``parse_error`` is None or says what did not parse; then ``msg`` holds all text that was not understood.
    """

    facility: int
    severity: int
    timestamp: int
    hostname: str | None
    app_name: str | None
    procid: str | None
    msgid: str | None
    structured_data: str | None
    msg: str
    parse_error: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says of a message that it claims (its patterns live in rules.py).

    ``port`` is the destination port of the rule's service, 0 for unknown. ``severity`` is one of
    severity.RULE_SEVERITIES, ``attack`` names MITRE ATT&CK techniques.
    """

    name: str
    app_name: tuple[str, ...]
    tags: frozenset[str]
    severity: str
    service: str | None = None
    port: int = 0
    attack: tuple[str, ...] = ()


class Match(NamedTuple):
    """What the rules or, where no rule claims a message, the endpoint grammar found in it.

    ``rule`` is None for the endpoint grammar. ``address`` is the remote address, normalised (IPv4-mapped unmapped, no
    zone) or None for a rule without an address. ``port`` is the destination port, 0 for unknown. ``source_port`` 0 is
    unknown. ``countable`` is False where the endpoint grammar saw more than one distinct address, and for rules whose
    pattern has no address. ``times`` is the n of "message repeated n times".
    """

    rule: Rule | None
    address: str | None
    source_port: int
    port: int
    protocol: str | None
    user: str | None
    countable: bool
    times: int = 1


class Hit(NamedTuple):
    """A match that may count toward a jail.

    ``time`` is the batch's receive time and ``position`` the message's journal position: together with the journal's
    id the hit's identity, so that counting it twice changes nothing. ``sender`` is the host that reported it.
    """

    rule: str
    tags: frozenset[str]
    severity: str
    address: str
    port: int
    time: int
    position: int
    times: int
    sender: str
    message: str


class Tally(NamedTuple):
    """Marks to count under one key: the exact sliding-window log of one jail and one group.

    ``marks`` are (time in microseconds, member) in order of time; a member names a hit for ever, so counting it again
    changes nothing. A mark at time t exceeds when more than ``threshold`` members lie in (t - window, t].
    """

    key: str
    window: int
    threshold: int
    marks: Sequence[tuple[int, str]]


class Verdict(NamedTuple):
    """The outcome of a tally.

    ``exceeded_at`` indexes the first mark that exceeded, -1 for none: all marks of one time count together, so it is
    the first one of its time. ``hits`` is the number of members newer than a window before the last mark (at most
    threshold + 1).
    """

    exceeded_at: int
    hits: int


@dataclass(frozen=True, slots=True)
class Ban:
    """One network, and with ``port`` one destination port (0: all ports), kept out from ``since`` until ``until``.

    ``until`` None is for ever (only an operator bans so). ``count`` is how many times it has been banned so far, this
    time included. ``evidence`` is a JSON-serialisable mapping: rules, senders, the last message, hits in the window.
    """

    network: Network
    port: int
    jail: str
    since: int
    until: int | None
    reason: str
    count: int = 1
    evidence: Mapping[str, object] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Network, int]:
        """What makes a ban one of a kind: a network and a port."""
        return (self.network, self.port)

    def active(self, now: int) -> bool:
        """Whether the ban is in force at ``now``."""
        return self.until is None or self.until > now
