"""Matches to hits: which of them may count toward a jail, and what "repeated n times" adds to them."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING

from logguardd.records import Hit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logguardd.records import Batch, Match, Record, Rule

    # Rule, tags, severity.
    Counts = Callable[[str, frozenset[str], str], bool]

#: What a hit's rule is called where no rule claimed the message and the endpoint grammar found its one address.
ENDPOINT = "endpoint"
_ENDPOINT_SEVERITY = "low"

# syslogd(8) of the BSDs and sysklogd write the first, Darwin's the second, without a program's name, or FreeBSD's with its own;
# syslog-ng's suppress() the third, under the name of the program and with the first 20 octets of what it repeats. Nothing
# else may stand in the message: a program that logs what others send it must not multiply a hit.
_REPEATED = re.compile(
    r"last message repeated ([0-9]{1,9}) times?|--- last message repeated ([0-9]{1,9}) times? ---"
    r"|Last message '(?P<begins>.{0,20})' repeated ([0-9]{1,9}) times, suppressed by syslog-ng on [^ ]{1,255}"
)
_REPEATED_MARK = b"ast message "
_SYSLOGD = frozenset({None, "syslogd"})

#: Characters kept of a message that may be repeated.
_MESSAGE = 512

_NO_TAGS: frozenset[str] = frozenset()


def _begins(message: str, beginning: str | None) -> bool:
    """Whether these are the message's first 20 octets, but for a character that was cut; None: nobody said."""
    if beginning is None or beginning == message:
        return True
    return message.startswith(beginning) and len(beginning.encode("utf-8", "replace")) >= 20 - 3


class Detector:
    """Makes hits, batch by batch, in journal order. Remembers each sender's last hit for "last message repeated".

    A sender is a peer and the hostname it gave; where that line gives none (sysklogd's), the one that the peer gave last.
    At most ``memory`` senders are remembered; those not heard of for the longest go first, and what they repeat after that does
    not count.
    """

    def __init__(self, counts: Counts, memory: int = 65_536) -> None:
        """Ask ``counts`` whether some jail counts hits of a rule, given its name, tags and severity (jails.counts)."""
        self._memory = memory
        self._last: OrderedDict[tuple[str, str | None], Hit] = OrderedDict()
        # How many of the remembered senders stand behind a peer.
        self._peers: dict[str, int] = {}
        # The hostname that each of these peers gave last.
        self._latest: dict[str, str | None] = {}
        self.use(counts)

    def use(self, counts: Counts) -> None:
        """Ask other jails from now on; what is remembered of senders stays."""
        self._counts = counts
        # By name, together with the rule that bears the name now: rules can be read anew.
        self._rules: dict[str, tuple[Rule, bool]] = {}

    def hits(self, batch: Batch, records: Sequence[Record], matches: Sequence[Match | None]) -> list[Hit]:
        """Return a hit for every match that some jail could count; one record and one match, or None, a frame.

        A match counts if it is countable, has an address, and comes from a rule that some jail counts; matches of the
        endpoint grammar count as rule ENDPOINT, severity low. "last message repeated n times" (of BSD, Darwin and
        syslog-ng; nothing else in the message) gives a hit with ``times`` n of the message that this sender sent before it, in this batch
        or an earlier one.
        """
        repeats = _REPEATED_MARK in batch.frames
        peer = batch.origin.peer
        if not repeats and matches.count(None) == len(matches):
            if peer in self._peers:
                for hostname in {record.hostname for record in records}:
                    self._forget(peer, hostname)
                self._gave(peer, records)
            return []
        found = self._direct(batch, records, matches)
        if repeats:
            return self._with_repeats(batch, records, found)
        if found or peer in self._peers:
            latest = {record.hostname: index for index, record in enumerate(records)}
            for hostname, index in latest.items():
                self._remember(peer, hostname, found.get(index))
            self._gave(peer, records)
        return list(found.values())

    def _direct(self, batch: Batch, records: Sequence[Record], matches: Sequence[Match | None]) -> dict[int, Hit]:
        """Return the hits of the matches by index."""
        found = {}
        rules = self._rules
        endpoint = self._counts(ENDPOINT, _NO_TAGS, _ENDPOINT_SEVERITY)
        received_at, peer = batch.received_at, batch.origin.peer
        for index, match in enumerate(matches):
            if match is None or not match.countable or match.address is None:
                continue
            rule = match.rule
            if rule is None:
                if not endpoint:
                    continue
                name, tags, severity = ENDPOINT, _NO_TAGS, _ENDPOINT_SEVERITY
            else:
                name, tags, severity = rule.name, rule.tags, rule.severity
                known = rules.get(name)
                if known is None or known[0] is not rule:
                    known = rules[name] = (rule, self._counts(name, tags, severity))
                if not known[1]:
                    continue
            record = records[index]
            found[index] = Hit(
                name,
                tags,
                severity,
                match.address,
                match.port,
                received_at,
                batch.offset + index,
                match.times,
                record.hostname or peer,
                record.msg,
            )
        return found

    def _with_repeats(self, batch: Batch, records: Sequence[Record], found: dict[int, Hit]) -> list[Hit]:
        """Add the hits of "last message repeated"; they leave what they repeat remembered, for the next such line."""
        peer = batch.origin.peer
        latest = self._latest.get(peer)
        hits = []
        for index, record in enumerate(records):
            repeated = _REPEATED.fullmatch(record.msg.strip())
            if repeated is not None and repeated["begins"] is None and record.app_name not in _SYSLOGD:
                repeated = None
            if repeated is None:
                hit = found.get(index)
                if hit is not None:
                    hits.append(hit)
                self._remember(peer, record.hostname, hit)
                latest = record.hostname
                continue
            hit = self._last.get((peer, record.hostname))
            if hit is None and record.hostname in (peer, None):
                hit = self._last.get((peer, latest))
            times = int(repeated[1] or repeated[2] or repeated[4])
            if hit is not None and times and _begins(hit.message, repeated["begins"]):
                hits.append(hit._replace(time=batch.received_at, position=batch.offset + index, times=times))
        if peer in self._peers:
            self._latest[peer] = latest
        return hits

    def _gave(self, peer: str, records: Sequence[Record]) -> None:
        """Note the hostname that a remembered peer gave last."""
        if peer in self._peers:
            self._latest[peer] = records[-1].hostname

    def _remember(self, peer: str, hostname: str | None, hit: Hit | None) -> None:
        """Remember the sender's last message if it was a hit, forget the one before it if not."""
        key = (peer, hostname)
        if hit is None:
            self._forget(peer, hostname)
            return
        if key not in self._last:
            self._peers[peer] = self._peers.get(peer, 0) + 1
        self._last[key] = hit if len(hit.message) <= _MESSAGE else hit._replace(message=hit.message[:_MESSAGE])
        self._last.move_to_end(key)
        if len(self._last) > self._memory:
            self._forget(*next(iter(self._last)))

    def _forget(self, peer: str, hostname: str | None) -> None:
        if self._last.pop((peer, hostname), None) is not None:
            left = self._peers[peer] - 1
            if left:
                self._peers[peer] = left
            else:
                del self._peers[peer]
                self._latest.pop(peer, None)
