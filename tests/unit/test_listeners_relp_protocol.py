from __future__ import annotations

import pytest

from logguardd.listeners.relp_protocol import Answer, Messages, RelpProtocol

# As librelp 1.11.0 sends them.
OPEN = b"1 open 86 relp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n"
OPENED = b"1 rsp 61 200 OK\nrelp_version=0\nrelp_software=logguardd\ncommands=syslog\n"
GOODBYE = b"0 serverclose 0\n"


def talk(*chunks: bytes, max_message: int = 1000) -> tuple[RelpProtocol, bytes, list[bytes]]:
    """Feed the chunks; return the protocol, all answers joined (messages are durable at once), and the messages."""
    protocol = RelpProtocol(max_message)
    answers, messages = b"", []
    for chunk in chunks:
        for step in protocol.feed(chunk):
            if isinstance(step, Messages):
                assert len(step.payloads) == len(step.numbers) > 0
                messages += step.payloads
                answers += step.answer
            else:
                answers += step.data
    return protocol, answers, messages


def each_way(data: bytes, **more):
    """The result of data whole, byte by byte, and cut in two at every place; they must be the same."""
    whole = talk(data, **more)
    ways = [[data[n : n + 1] for n in range(len(data))]]
    ways += [[data[:n], data[n:]] for n in range(len(data))]
    for way in ways:
        protocol, answers, messages = talk(*way, **more)
        assert (protocol.closed, protocol.error, protocol.partial) == (
            whole[0].closed, whole[0].error, whole[0].partial,
        )  # fmt: skip
        assert answers == whole[1]
        assert messages == whole[2]
    return whole


def test_a_whole_session():
    protocol, answers, messages = each_way(
        OPEN + b"2 syslog 8 <13>1 ab\n3 syslog 9 <13>line\n\n999999999 syslog 3 x\0y\n5 close 0\n"
    )
    assert answers == (OPENED + b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n999999999 rsp 6 200 OK\n5 rsp 0\n" + GOODBYE)
    assert messages == [b"<13>1 ab", b"<13>line\n", b"x\0y"]
    assert protocol.closed
    assert not protocol.error


def test_messages_of_one_read_come_together():
    protocol = RelpProtocol(1000)
    steps = protocol.feed(OPEN + b"2 syslog 1 a\n3 syslog 1 b\n4 close 0\n")
    assert steps == [
        Answer(OPENED),
        Messages([b"a", b"b"], [2, 3]),
        Answer(b"4 rsp 0\n" + GOODBYE),
    ]


def test_an_empty_message_is_a_message():
    for frame in (b"2 syslog 0\n", b"2 syslog 0 \n"):
        _, answers, messages = each_way(OPEN + frame)
        assert messages == [b""]
        assert answers == OPENED + b"2 rsp 6 200 OK\n"


def test_close_with_a_space():
    protocol, answers, _ = each_way(OPEN + b"2 close 0 \n")
    assert protocol.closed
    assert answers == OPENED + b"2 rsp 0\n" + GOODBYE


def test_nothing_after_close_is_taken():
    _, answers, messages = each_way(OPEN + b"2 close 0\n3 syslog 1 a\nrubbish")
    assert messages == []
    assert answers == OPENED + b"2 rsp 0\n" + GOODBYE


def test_a_message_that_is_too_long_is_cut_and_the_rest_skipped():
    long = b"x" * 5000
    for way in ([OPEN + b"2 syslog 5000 " + long + b"\n3 syslog 1 y\n"],
                [OPEN, b"2 syslog 5000 ", long[:10], long[10:4000], long[4000:], b"\n", b"3 syslog 1 y\n"]):  # fmt: skip
        protocol, answers, messages = talk(*way, max_message=100)
        assert messages == [b"x" * 103, b"y"]  # so that framing sees that more than a CRLF follows
        assert answers.endswith(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n")
        assert not protocol.closed


def test_an_announced_length_allocates_nothing():
    protocol, _, messages = talk(OPEN, b"2 syslog 999999999 ", *[b"x" * 1000] * 1000, max_message=100)
    assert messages == []
    assert protocol.partial
    assert len(protocol._data) <= 103


@pytest.mark.parametrize("version", [b"0", b"1", b"2"])
def test_versions(version):
    data = b"relp_version=" + version + b"\ncommands=foo,syslog"
    _, answers, _ = each_way(b"1 open %d %s\n" % (len(data), data))
    assert answers.startswith(b"1 rsp 61 200 OK\nrelp_version=%d\n" % min(int(version), 1))


@pytest.mark.parametrize(
    ("offers", "status"),
    [
        (b"", b"500 relp_version is missing or not a number"),
        (b"relp_version=x\ncommands=syslog", b"500 relp_version is missing or not a number"),
        (b"relp_version=" + b"1" * 5000, b"500 data too long for this command"),
        (b"relp_version=0", b"500 command syslog was not offered"),
        (b"relp_version=0\ncommands=syslogs,x", b"500 command syslog was not offered"),
        (b"\xff\n=\n==\0", b"500 relp_version is missing or not a number"),
    ],
)
def test_bad_offers(offers, status):
    _, answers, _ = talk(b"1 open %d %s\n" % (len(offers), offers))
    assert answers == b"1 rsp %d %s\n" % (len(status), status) + GOODBYE


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"<13>plain syslog\n", "not a RELP frame"),
        (b"12 <13>counted.", "not a RELP frame"),
        (b"GET / HTTP/1.0\r\n\r\n", "not a RELP frame"),
        (b"\x16\x03\x01\x02\x00", "not a RELP frame"),
        (b"\0", "not a RELP frame"),
        (b"1\n", "not a RELP frame"),
        (b"-1 open 0\n", "not a RELP frame"),
        (b"1  open 0\n", "not a RELP frame"),
        (b"1 open x\n", "not a RELP frame"),
        (b"1 open -1\n", "not a RELP frame"),
        (b"1000000000 open 0\n", "not a RELP frame"),
        (b"1 " + b"a" * 33 + b" 0\n", "not a RELP frame"),
        (b"1 open 1000000000 ", "not a RELP frame"),
        (b"0 open 0\n", "transaction number 0"),
        (b"000 open 0\n", "transaction number 0"),
        (b"1 syslog 1 x\n", "no session is open"),
        (b"1 rsp 6 200 OK\n", "unknown command"),
        (b"1 starttls 0\n", "unknown command"),
        (OPEN + b"2 open 0\n", "the session is open already"),
        (OPEN + b"2 syslog 5\n", "no data"),
        (OPEN + b"2 syslog 1 ab\n", "no LF after the data"),
        (OPEN + b"2 syslog 2 a\nb\n", "no LF after the data"),
        (OPEN + b"2 syslog 1 x\n<13>plain\n", "not a RELP frame"),
    ],
)
def test_protocol_errors_close_the_session(data, error):
    protocol, answers, _ = each_way(data)
    assert protocol.closed
    assert protocol.error == error
    assert answers.endswith(GOODBYE)
    assert not protocol.partial


def test_what_came_before_an_error_is_acknowledged():
    _, answers, messages = each_way(OPEN + b"2 syslog 1 x\n3 what 0\n")
    assert messages == [b"x"]
    assert answers == OPENED + b"2 rsp 6 200 OK\n3 rsp 19 500 unknown command\n" + GOODBYE


def test_a_message_cut_by_the_end():
    assert each_way(OPEN + b"2 syslog 5 abc")[0].partial
    assert each_way(OPEN + b"2 syslog 5 abcde")[0].partial
    assert not each_way(OPEN + b"2 sysl")[0].partial
    assert not each_way(OPEN + b"2 syslog 1 a\n")[0].partial
    assert not each_way(b"1 open 50 relp")[0].partial
