from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from logguardd.errors import ConfigError
from logguardd.evidence import Evidence
from logguardd.jails import DAY, Jail, ban, counts, hits_key, keys_of, tally
from logguardd.records import SECOND, Ban, Hit, Verdict

T = 1_790_000_000 * SECOND
FLOOD = Jail("flood", ("*",), ("address", "port"), 60 * SECOND, 100, 300 * SECOND)
AUTH = Jail("auth", ("auth-failure",), ("address",), 300 * SECOND, 5, 600 * SECOND, 2, 7 * DAY, 64)


def hit(position: int = 1, address: str = "203.0.113.5", **changes) -> Hit:
    made = Hit(
        "sshd-failed-password", frozenset({"auth-failure"}), "medium", address, 22, T, position, 1, "web1", "Failed"
    )
    return made._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": ""}, "not a name"),
        ({"name": "a:b"}, "not a name"),
        ({"name": "x" * 33}, "not a name"),
        ({"hits": ()}, "jail.auth.hits"),
        ({"hits": ("",)}, "jail.auth.hits"),
        ({"group_by": ()}, "jail.auth.group_by"),
        ({"group_by": ("port",)}, "jail.auth.group_by"),
        ({"group_by": ("address", "user")}, "jail.auth.group_by"),
        ({"window": 0}, "jail.auth.window"),
        ({"threshold": -1}, "jail.auth.threshold"),
        ({"threshold": 1_000_000}, "jail.auth.threshold"),
        ({"ban": 0}, "jail.auth.ban"),
        ({"escalation": 0.5}, "jail.auth.escalation"),
        ({"escalation": float("inf")}, "jail.auth.escalation"),
        ({"escalation": float("nan")}, "jail.auth.escalation"),
        ({"max_ban": SECOND}, "jail.auth.max_ban"),
        ({"ipv6_prefix": 8}, "jail.auth.ipv6_prefix"),
        ({"ipv6_prefix": 129}, "jail.auth.ipv6_prefix"),
        ({"group_by": ("address", "port"), "ipv6_prefix": 64}, "jail.auth.ipv6_prefix"),
    ],
)
def test_a_jail_that_cannot_be_says_which_key_is_wrong_and_what_is_allowed(changes, key):
    given = {name: getattr(AUTH, name) for name in Jail.__slots__} | changes
    with pytest.raises(ConfigError) as error:
        Jail(**given)
    assert key in str(error.value)
    assert "allowed: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hits", "severity", "expected"),
    [
        (("*",), "low", True),
        (("*",), "info", False),
        (("auth-failure",), "info", True),
        (("sshd-failed-password",), "info", True),
        (("*", "auth-failure"), "info", True),
        (("scan", "sshd"), "critical", False),
    ],
)
def test_what_a_jail_counts(hits, severity, expected):
    jail = Jail("j", hits, ("address",), SECOND, 1, SECOND)
    kind = ("sshd-failed-password", frozenset({"auth-failure", "ssh"}), severity)
    assert jail.counts(*kind) is expected
    assert counts([AUTH])("x", frozenset(), severity) is False
    assert counts([AUTH, jail])("x", frozenset({"auth-failure"}), severity) is True


def test_tallies_are_by_jail_address_and_port():
    found = tally([FLOOD, AUTH], [hit(7), hit(8, port=80), hit(9), hit(10, "203.0.113.6", severity="info")], "j")
    assert [(group.jail.name, str(group.network), group.port) for group in found] == [
        ("flood", "203.0.113.5/32", 22),
        ("flood", "203.0.113.5/32", 80),
        ("auth", "203.0.113.5/32", 0),
        ("auth", "203.0.113.6/32", 0),
    ]
    flood, _, auth, _ = found
    assert flood.tally == ("logguardd:hits:flood:203.0.113.5:22", 60 * SECOND, 100, [(T, "j:7"), (T, "j:9")])
    assert auth.tally.key == "logguardd:hits:auth:203.0.113.5:0" == hits_key("auth", "203.0.113.5", 0)
    assert [mark for _, mark in auth.tally.marks] == ["j:7", "j:8", "j:9"]
    assert [one.position for one in auth.hits] == [7, 8, 9]


def test_ipv6_addresses_are_taken_together_by_prefix():
    hits = [hit(1, "2001:db8::1"), hit(2, "2001:db8::ffff"), hit(3, "2001:db8:0:1::1")]
    found = tally([FLOOD, AUTH], hits, "j")
    assert [(group.jail.name, str(group.network)) for group in found] == [
        ("flood", "2001:db8::1/128"),
        ("flood", "2001:db8::ffff/128"),
        ("flood", "2001:db8:0:1::1/128"),
        ("auth", "2001:db8::/64"),
        ("auth", "2001:db8:0:1::/64"),
    ]
    assert found[3].tally.key == "logguardd:hits:auth:2001:db8::/64:0"
    assert len(found[3].tally.marks) == 2


def test_repeated_messages_are_as_many_marks():
    group = tally([AUTH], [hit(7, times=3), hit(8)], "j")[0]
    assert [member for _, member in group.tally.marks] == ["j:7", "j:7:1", "j:7:2", "j:8"]


def test_marks_of_one_time_are_no_more_than_it_takes_to_exceed():
    flood = [hit(n) for n in range(50)] + [hit(99, time=T + 1, times=10**9)]
    group = tally([AUTH], flood, "j")[0]
    assert [time for time, _ in group.tally.marks] == [T] * 6 + [T + 1] * 6
    assert len(group.hits) == 51


def test_marks_are_in_order_of_time():
    group = tally([AUTH], [hit(1, time=T + 5), hit(2, time=T), hit(3, time=T + 7)], "j")[0]
    assert group.tally.marks == [(T, "j:2"), (T + 5, "j:1"), (T + 7, "j:3")]


def test_a_ban_begins_with_the_hit_that_exceeded():
    hits = [hit(n, time=T + n, sender=f"web{n % 2}", message="m" * 1000) for n in range(6)]
    group = tally([AUTH], hits, "j")[0]
    made = ban(group, Verdict(5, 6), 0)
    assert (made.network, made.port, made.jail) == (ip_network("203.0.113.5/32"), 0, "auth")
    assert (made.since, made.until, made.count) == (T + 5, T + 5 + 600 * SECOND, 1)
    assert made.reason == "6 hits of sshd-failed-password within 300 s (threshold 5), reported by web0, web1"
    assert made.evidence == {
        "rules": {"sshd-failed-password": 6},
        "senders": ["web0", "web1"],
        "message": "m" * 512,
        "hits": 6,
        "window_seconds": 300,
        "threshold": 5,
    }
    json.dumps(made.evidence)
    assert group.tally.key in keys_of(made, [])


def test_a_ban_of_a_port_and_a_ban_of_a_prefix():
    flood = tally([FLOOD], [hit(1)], "j")[0]
    assert ban(flood, Verdict(0, 101), 0).port == 22
    prefix = tally([AUTH], [hit(1, "2001:db8::5")], "j")[0]
    made = ban(prefix, Verdict(0, 6), 0)
    assert (str(made.network), made.port) == ("2001:db8::/64", 0)
    assert prefix.tally.key in keys_of(made, [])


def test_what_counted_against_a_network_that_is_let_go():
    by_hand = Ban(ip_network("203.0.113.5"), 22, "manual", T, None, "by hand")
    assert keys_of(by_hand, [FLOOD, AUTH]) == [
        hits_key("manual", "203.0.113.5", 22), hits_key("flood", "203.0.113.5", 22), hits_key("auth", "203.0.113.5", 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("previous", "seconds"), [(0, 600), (1, 1200), (2, 2400), (9, 307_200), (10, 604_800), (10**9, 604_800)]
)
def test_every_further_ban_is_longer(previous, seconds):
    made = ban(tally([AUTH], [hit(1)], "j")[0], Verdict(0, 6), previous)
    assert made.count == previous + 1
    assert made.until - made.since == seconds * SECOND


def test_without_escalation_bans_stay_as_long():
    assert FLOOD.ban_time(1) == FLOOD.ban_time(10**12) == 300 * SECOND


def test_a_reason_is_short_and_printable_whatever_hosts_call_themselves():
    hits = [hit(n, sender=f"evil\x1b[2J{n}" + "x" * 300, rule=f"rule{n}") for n in range(20)]
    made = ban(tally([AUTH], hits, "j")[0], Verdict(0, 6), 0)
    assert made.reason.isprintable()
    assert len(made.reason) < 512
    assert "rule2 and 17 others" in made.reason
    assert len(made.evidence["senders"]) == 10


class TestEvidence:
    def test_a_ban_names_the_hosts_of_earlier_batches(self):
        evidence = Evidence()
        for number in range(6):
            one = hit(number, time=T + number * SECOND, sender=f"web{number}", rule=f"r{number % 2}")
            group = tally([AUTH], [one], "j")[0]
            evidence.note([group])
        made = ban(group, Verdict(0, 6), 0, evidence.of(group))
        assert made.evidence["senders"] == [f"web{n}" for n in range(6)]
        assert made.evidence["rules"] == {"r0": 3, "r1": 3}
        assert made.reason == "6 hits of r0, r1 within 300 s (threshold 5), reported by web0, web1, web2 and 3 others"

    def test_hits_before_the_window_are_no_evidence(self):
        evidence = Evidence()
        for time in (T, T + AUTH.window - 1, T + AUTH.window):
            group = tally([AUTH], [hit(time, time=time)], "j")[0]
            evidence.note([group])
        assert [seen.time for seen in evidence.of(group)] == [T + AUTH.window - 1, T + AUTH.window]

    def test_hits_counted_again_are_there_once(self):
        evidence = Evidence()
        group = tally([AUTH], [hit(1), hit(2)], "j")[0]
        evidence.note([group])
        evidence.note([group])
        assert [seen.position for seen in evidence.of(group)] == [1, 2]

    def test_it_is_bounded(self):
        evidence = Evidence(groups=10, hits=5)
        for number in range(50):
            groups = tally([AUTH], [hit(n, f"203.0.113.{number}", sender="h" * 70_000) for n in range(20)], "j")
            evidence.note(groups)
        assert len(evidence) == 10
        assert [seen.position for seen in evidence.of(groups[0])] == [15, 16, 17, 18, 19]
        assert len(evidence.of(groups[0])[0].sender) == 255

    def test_forget(self):
        evidence = Evidence()
        group = tally([AUTH], [hit(1)], "j")[0]
        evidence.note([group])
        evidence.forget([group.tally.key, "unknown"])
        assert evidence.of(group) == []
