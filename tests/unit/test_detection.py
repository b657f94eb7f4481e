from __future__ import annotations

import pytest

from logguardd.detection import ENDPOINT, Detector
from logguardd.records import SECOND, Batch, Match, Origin, Record, Rule

T = 1_790_000_000 * SECOND
FAILED = Rule("sshd-failed-password", ("sshd",), frozenset({"auth-failure"}), "medium", "ssh", 22)
ACCEPTED = Rule("sshd-accepted", ("sshd",), frozenset({"auth-success"}), "info", "ssh", 22)
PASSWORD = "Failed password for root from 203.0.113.5 port 40022 ssh2"
REPEATED = "last message repeated 4 times"


def everything(rule: str, tags: frozenset[str], severity: str) -> bool:
    return severity != "info"


def record(msg: str, hostname: str | None = "web1", app_name: str | None = "sshd") -> Record:
    return Record(4, 6, T, hostname, app_name, None, None, None, msg, None, msg)


def repeat(hostname: str | None = "web1", text: str = REPEATED) -> Record:
    return record(text, hostname, None)


def match(rule: Rule | None = FAILED, address: str | None = "203.0.113.5", **changes) -> Match:
    return Match(rule, address, 40022, 22 if rule else 0, "tcp", "root", countable=True)._replace(**changes)


def batch(records: list[Record], peer: str = "192.0.2.1", offset: int = 100, time: int = T) -> Batch:
    frames = "\n".join(one.msg for one in records).encode()
    return Batch(offset, time, Origin(peer, "tcp"), frames, len(records))


def hits(detector: Detector, *lines: tuple[Record, Match | None], **options):
    records = [one for one, _ in lines]
    return detector.hits(batch(records, **options), records, [found for _, found in lines])


def test_a_hit_says_what_where_and_when():
    found = hits(Detector(everything), (record("hello"), None), (record(PASSWORD), match(times=3)))
    assert len(found) == 1
    hit = found[0]
    assert (hit.rule, hit.tags, hit.severity) == (FAILED.name, FAILED.tags, "medium")
    assert (hit.address, hit.port) == ("203.0.113.5", 22)
    assert (hit.time, hit.position, hit.times) == (T, 101, 3)
    assert (hit.sender, hit.message) == ("web1", PASSWORD)


def test_a_sender_without_hostname_is_its_address():
    assert hits(Detector(everything), (record(PASSWORD, None), match()))[0].sender == "192.0.2.1"


@pytest.mark.parametrize(
    "found", [match(countable=False), match(address=None), None], ids=["countable", "address", "no"]
)
def test_what_cannot_count_is_no_hit(found):
    assert hits(Detector(everything), (record(PASSWORD), found), (record("x"), match(countable=False))) == []


def test_only_what_some_jail_counts_is_a_hit():
    asked = []

    def auth_only(rule: str, tags: frozenset[str], severity: str) -> bool:
        asked.append((rule, tags, severity))
        return "auth-failure" in tags

    detector = Detector(auth_only)
    lines = [(record("in"), match(ACCEPTED)), (record(PASSWORD), match()), (record("x"), match(None))]
    assert [hit.rule for hit in hits(detector, *lines, *lines)] == [FAILED.name, FAILED.name]
    # The jails are asked once a rule and batch, not once a message.
    assert sorted(rule for rule, _, _ in asked) == sorted([FAILED.name, ACCEPTED.name, ENDPOINT])


def test_rules_read_anew_are_asked_about_again():
    detector = Detector(lambda _rule, tags, _severity: "auth-failure" in tags)
    assert hits(detector, (record(PASSWORD), match()))
    untagged = Rule(FAILED.name, FAILED.app_name, frozenset(), "medium")
    assert hits(detector, (record(PASSWORD), match(untagged))) == []
    detector.use(everything)
    assert hits(detector, (record(PASSWORD), match(untagged)))


def test_the_endpoint_grammar_counts_under_a_name_of_its_own():
    hit = hits(Detector(everything), (record("scan from 203.0.113.9"), match(None, "203.0.113.9")))[0]
    assert (hit.rule, hit.tags, hit.severity, hit.port) == (ENDPOINT, frozenset(), "low", 0)


@pytest.mark.parametrize(
    ("text", "times"),
    [
        # syslogd of FreeBSD and NetBSD, sysklogd, OpenBSD; Darwin frames it.
        ("last message repeated 4 times", 4),
        ("last message repeated 1 time", 1),
        (" last message repeated 12 times", 12),
        ("--- last message repeated 7 times ---", 7),
        # syslog-ng when told to suppress them
        (f"Last message '{PASSWORD[:20]}' repeated 7 times, suppressed by syslog-ng on web1", 7),
        (f"Last message '{PASSWORD[:18]}' repeated 7 times, suppressed by syslog-ng on web1", 7),
    ],
)
@pytest.mark.parametrize("app_name", [None, "syslogd"])
def test_last_message_repeated_counts_n_times(text, times, app_name):
    found = hits(Detector(everything), (record(PASSWORD), match()), (record(text, app_name=app_name), None))
    assert [(hit.position, hit.times, hit.address) for hit in found] == [
        (100, 1, "203.0.113.5"),
        (101, times, "203.0.113.5"),
    ]
    assert found[1].message == PASSWORD


@pytest.mark.parametrize(
    "text",
    [
        "last message repeated times",
        "last message repeated 0 times",
        "last message repeated 4 times ",  # nothing is lost by accepting this
        "user said: last message repeated 4 times",
        "last message repeated 4 times by eve",
        "last message repeated -4 times",
        "last message repeated 9999999999999 times",
        "Last message '' repeated 4 times, suppressed by syslog-ng on web1",
        "Last message 'Failed' repeated 4 times, suppressed by syslog-ng on web1",
        "Last message 'session opened' repeated 4 times, suppressed by syslog-ng on web1",
        "Last message 'Failed' repeated 4 times, suppressed by syslog-ng on web1, says eve",
        "last message repeated \u0664 times",
    ],
)
def test_nothing_else_repeats(text):
    found = hits(Detector(everything), (record(PASSWORD), match()), (repeat(text=text), None))
    assert sum(hit.times for hit in found) == (5 if text.endswith("4 times ") else 1)


@pytest.mark.parametrize("app_name", ["sshd", "myapp", "last", ""])
def test_programs_that_log_what_clients_say_repeat_nothing(app_name):
    found = hits(Detector(everything), (record(PASSWORD), match()), (record(REPEATED, app_name=app_name), None))
    assert [hit.times for hit in found] == [1]


def test_repeats_across_batches_add_up():
    # syslogd reports the same message again after 30, 120, 600 seconds.
    detector = Detector(everything)
    assert len(hits(detector, (record("hello"), None), (record(PASSWORD), match()))) == 1
    for offset in (200, 201, 202):
        found = hits(detector, (repeat(), None), offset=offset, time=T + 30 * SECOND)
        assert [(hit.time, hit.position, hit.times) for hit in found] == [(T + 30 * SECOND, offset, 4)]


@pytest.mark.parametrize("apart", [True, False])
def test_a_message_in_between_is_the_one_that_repeats(apart):
    detector = Detector(everything)
    lines = [(record(PASSWORD), match()), (record("session opened"), None), (repeat(), None)]
    parts = [[line] for line in lines] if apart else [lines]
    assert sum(len(hits(detector, *part)) for part in parts) == 1


@pytest.mark.parametrize("between", [match(countable=False), match(ACCEPTED), None])
def test_a_match_that_does_not_count_does_not_count_repeated(between):
    detector = Detector(everything)
    hits(detector, (record(PASSWORD), match()), (record(PASSWORD, "web2"), match(address="203.0.113.6")))
    hits(detector, (record("x"), between), (record("y", "web3"), match()))
    assert hits(detector, (repeat(), None)) == []
    assert hits(detector, (repeat("web2"), None))[0].address == "203.0.113.6"


def test_repeats_belong_to_their_sender():
    detector = Detector(everything)
    hits(detector, (record(PASSWORD, "web1"), match()), (record(PASSWORD, "web2"), match(address="203.0.113.6")))
    found = hits(detector, (repeat("web2"), None), (repeat("web1"), None))
    assert [hit.address for hit in found] == ["203.0.113.6", "203.0.113.5"]
    # The same name behind another peer is another host.
    assert hits(detector, (repeat("web1"), None), peer="192.0.2.99") == []


@pytest.mark.parametrize("apart", [True, False])
def test_a_repeat_without_a_hostname_is_of_what_the_peer_sent_last(apart):
    """As sysklogd sends it: "<38>last message repeated 4 times"; parsing puts the peer for the hostname."""
    detector = Detector(everything)
    other = (record(PASSWORD, "web2"), match(address="203.0.113.6"))
    lines = [other, (record(PASSWORD, "web1"), match()), (repeat("192.0.2.1"), None)]
    parts = [[line] for line in lines] if apart else [lines]
    found = [hit for part in parts for hit in hits(detector, *part)]
    assert [(hit.address, hit.times) for hit in found][2:] == [("203.0.113.5", 4)]
    parts = [(record("bye", "web1"), None), (repeat("192.0.2.1"), None)]
    found = [hit for part in ([[line] for line in parts] if apart else [parts]) for hit in hits(detector, *part)]
    assert found == []
    assert [hit.address for hit in hits(detector, (repeat("web2"), None))] == ["203.0.113.6"]


def test_senders_remembered_are_bounded():
    detector = Detector(everything, memory=3)
    for number in range(10):
        hits(detector, (record(PASSWORD, f"web{number}"), match()), peer=f"192.0.2.{number % 2}")
    known = [
        number for number in range(10) if hits(detector, (repeat(f"web{number}"), None), peer=f"192.0.2.{number % 2}")
    ]
    assert known == [7, 8, 9]
    assert len(detector._last) == sum(detector._peers.values()) == 3


def test_what_is_remembered_of_a_message_is_bounded():
    detector = Detector(everything)
    hits(detector, (record("x" * 60_000), match()))
    assert len(hits(detector, (repeat(), None))[0].message) == 512


def test_peers_without_remembered_hits_cost_nothing():
    detector = Detector(everything)
    hits(detector, (record(PASSWORD), match()))
    hits(detector, (record("bye"), None))
    assert not detector._last
    assert not detector._peers
    assert not detector._latest
