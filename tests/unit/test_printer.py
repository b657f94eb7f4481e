"""The commands of each backend, as they are printed."""

import asyncio
from ipaddress import ip_network

import pytest

from logguardd.errors import FirewallError
from logguardd.firewall.printer import Printer
from logguardd.records import SECOND, Ban


def ban(network, port=0, seconds=300):
    return Ban(ip_network(network), port, "auth", 0, None if seconds is None else seconds * SECOND, "$(reboot)\n")


@pytest.fixture
def printed(tmp_path):
    """Run steps of calls on a printer; return what each printed."""
    file = tmp_path / "out"

    def run(dialect, *steps):
        printer = Printer(str(file), dialect)
        texts = []
        for name, *arguments in steps:
            file.write_text("")
            asyncio.run(getattr(printer, name)(*arguments))
            texts.append(file.read_text())
        return texts

    return run


def test_nftables_one_new_ban_is_one_line(printed):
    _, text = printed("nftables", ("sync", [], 0), ("apply", [ban("203.0.113.5", 22)], [], 0))
    assert text == "nft -f - <<'END'\nadd element inet logguardd banned4_ports { 203.0.113.5 . 22 timeout 300s }\nEND\n"


def test_nftables_the_table_is_replaced_in_one_transaction(printed):
    (text,) = printed("nftables", ("sync", [ban("192.0.2.1"), ban("2001:db8::/64", 443, None)], 0))
    assert text.count("nft -f -") == 1
    lines = text.splitlines()
    assert lines[1:4] == ["add table inet logguardd", "delete table inet logguardd", "add table inet logguardd"]
    assert "add set inet logguardd nets6_64_ports { type ipv6_addr . inet_service; flags timeout; }" in lines
    assert "add rule inet logguardd blocked ip saddr @banned4 counter drop" in lines
    assert (
        "add rule inet logguardd blocked meta l4proto { tcp, udp }"
        " ip6 saddr & ffff:ffff:ffff:ffff:: . th dport @nets6_64_ports counter drop"
    ) in lines
    assert "add element inet logguardd banned4 { 192.0.2.1 timeout 300s }" in lines
    assert "add element inet logguardd nets6_64_ports { 2001:db8:: . 443 }" in lines


def test_nftables_extending_deletes_and_adds(printed):
    steps = ("sync", [ban("192.0.2.1"), ban("192.0.2.2", 0, 5)], 0), ("apply", [ban("192.0.2.1", 0, 600)], [], SECOND)
    _, text, soon = printed("nftables", *steps, ("apply", [ban("192.0.2.2", 0, 60)], [], SECOND))
    assert text.splitlines()[1:-1] == [
        "delete element inet logguardd banned4 { 192.0.2.1 }",
        "add element inet logguardd banned4 { 192.0.2.1 timeout 599s }",
    ]
    # The kernel may have expired it by now, and deleting what is not there fails.
    assert soon.splitlines()[1:-1] == [
        "add element inet logguardd banned4 { 192.0.2.2 }",
        "delete element inet logguardd banned4 { 192.0.2.2 }",
        "add element inet logguardd banned4 { 192.0.2.2 timeout 59s }",
    ]


def test_nftables_large_batches_come_in_chunks(printed):
    bans = [ban(f"10.0.{n >> 8}.{n & 255}") for n in range(7000)]
    (text,) = printed("nftables", ("sync", bans, 0))
    assert text.count("nft -f -") == 3
    assert text.count("timeout 300s") == 7000


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1, "1s"), (0.000001, "1s"), (99_999_999, "99999999s"), (10**8, "1158d"), (10**12, "24856d")]
)
def test_nftables_timeouts_are_rounded_up(printed, seconds, shown):
    one = Ban(ip_network("192.0.2.1"), 0, "auth", 0, round(seconds * SECOND), "")
    assert f"192.0.2.1 timeout {shown} " in printed("nftables", ("sync", [one], 0))[0]


@pytest.mark.parametrize("dialect", ["nftables", "iptables", "iptables-plain"])
def test_nothing_to_do_prints_nothing(printed, dialect):
    gone = ban("192.0.2.1", 0, -1)
    steps = (
        ("sync", [gone], 0),
        ("apply", [gone], [], 0),
        ("apply", [], [], 0),
        ("tick", 10**15),
        ("intact", 10**15),
        ("show",),
    )
    texts = printed(dialect, *steps)
    assert "192.0.2.1" not in texts[0]
    assert " add " not in texts[1]
    assert "-A " not in texts[1]
    assert "".join(texts[2:]) == ""


@pytest.mark.parametrize("dialect", ["nftables", "iptables", "iptables-plain"])
def test_reasons_and_jails_are_never_printed(printed, dialect):
    assert "reboot" not in "".join(
        printed(dialect, ("sync", [ban("192.0.2.1")], 0), ("apply", [ban("192.0.2.2")], [], 0))
    )


def test_ipset_adds_and_removes_with_one_restore(printed):
    remove = [ban("192.0.2.9"), ban("2001:db8::/64", 80)]
    _, text = printed(
        "iptables", ("sync", [], 0), ("apply", [ban("203.0.113.5", 22), ban("10.0.0.0/8", 0, None)], remove, 0)
    )
    assert text.splitlines() == [
        "ipset restore -exist <<'END'",
        "del logguardd_banned4 192.0.2.9",
        "del logguardd_nets6_ports 2001:db8::/64,tcp:80",
        "del logguardd_nets6_ports 2001:db8::/64,udp:80",
        "add logguardd_banned4_ports 203.0.113.5,tcp:22 timeout 300",
        "add logguardd_banned4_ports 203.0.113.5,udp:22 timeout 300",
        "add logguardd_nets4 10.0.0.0/8 timeout 0",
        "END",
    ]


def test_ipset_long_timeouts_are_cut_and_renewed(printed):
    half = 2147483 * SECOND // 2
    steps = (
        ("sync", [ban("192.0.2.1", 0, 4_000_000)], 0),
        ("tick", half - 1),
        ("tick", half),
        ("tick", 2 * half),
        ("tick", 3 * half),
    )
    texts = printed("iptables", *steps)
    assert "add logguardd_banned4 192.0.2.1 timeout 2147483\n" in texts[0]
    assert texts[1] == ""
    assert "add logguardd_banned4 192.0.2.1 timeout 2147483\n" in texts[2]
    assert "add logguardd_banned4 192.0.2.1 timeout 1852517\n" in texts[3]
    assert texts[4] == ""


def test_plain_rules_are_deleted_at_the_bans_end(printed):
    steps = [
        ("sync", [ban("192.0.2.1", 22, 10), ban("192.0.2.2", 0, 20)], 0),
        ("apply", [ban("192.0.2.1", 22, 15)], [], 0),
        ("tick", 10 * SECOND),
        ("tick", 15 * SECOND),
        ("apply", [], [ban("192.0.2.2")], 16 * SECOND),
        ("tick", 20 * SECOND),
    ]
    texts = printed("iptables-plain", *steps)
    assert "-A LOGGUARDD -s 192.0.2.1 -p udp -m udp --dport 22 -j DROP" in texts[0].splitlines()
    assert texts[1:3] == ["", ""]
    assert texts[3].splitlines()[2:-2] == [
        "-D LOGGUARDD -s 192.0.2.1 -p tcp -m tcp --dport 22 -j DROP",
        "-D LOGGUARDD -s 192.0.2.1 -p udp -m udp --dport 22 -j DROP",
    ]
    assert "-D LOGGUARDD -s 192.0.2.2 -j DROP" in texts[4].splitlines()
    assert texts[5] == ""


def test_many_plain_rules_that_end_fill_the_chain_anew(printed):
    bans = [ban(f"192.0.2.{n}", 0, 10) for n in range(100)]
    _, text = printed("iptables-plain", ("sync", [*bans, ban("203.0.113.1")], 0), ("tick", 10 * SECOND))
    assert "-D LOGGUARDD" not in text
    assert text.splitlines()[2:4] == [":LOGGUARDD - [0:0]", "-A LOGGUARDD -s 203.0.113.1 -j DROP"]


def test_a_dash_is_standard_output(capsys):
    asyncio.run(Printer("-").apply([ban("192.0.2.1")], [], 0))
    assert "192.0.2.1 timeout 300s" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FirewallError, match=rf"^{tmp_path}: cannot be written: Is a directory"):
        asyncio.run(Printer(str(tmp_path)).sync([], 0))
