"""Batches to records: PRI, what stands for missing fields, encodings, and that both ways read the same."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest

from logguardd.parsing import parse
from logguardd.records import SECOND, Batch, Origin, Record

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
PEER = "192.0.2.9"


def read(*frames: str | bytes, zone: str = "UTC", skew: int = 300 * SECOND) -> list[Record]:
    lines = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    batch = Batch(1, RECEIVED, Origin(PEER, "tcp"), b"\n".join(lines), len(lines))
    return parse(batch, timezone=ZoneInfo(zone), max_clock_skew=skew)


def test_all_fields_of_rfc5424() -> None:
    text = '<165>1 2026-11-20T10:00:01.5Z web1 su 12 ID47 [a x="1"] hello'
    assert read(text) == [
        Record(20, 5, RECEIVED + 3 * SECOND // 2, "web1", "su", "12", "ID47", '{"a": {"x": "1"}}', "hello", None, text)
    ]


def test_all_fields_of_rfc3164() -> None:
    text = "<38>Nov 20 10:00:15 web1 sshd[1234]: Failed password for root from 203.0.113.5 port 40022 ssh2"
    msg = "Failed password for root from 203.0.113.5 port 40022 ssh2"
    assert read(text) == [Record(4, 6, RECEIVED + 15 * SECOND, "web1", "sshd", "1234", None, None, msg, None, text)]


def test_records_are_in_order_and_of_the_class() -> None:
    records = read("<13>one", "<14>1 - - - - - - two", "<15>Nov 20 10:00:00 h t: three", "four")
    assert [record.msg for record in records] == ["one", "two", "three", "four"]
    assert [record.severity for record in records] == [5, 6, 7, 5]
    assert all(type(record) is Record for record in records)


def test_nothing() -> None:
    assert parse(Batch(1, RECEIVED, Origin(PEER, "udp"), b"", 0), timezone=ZoneInfo("UTC"), max_clock_skew=0) == []


@pytest.mark.parametrize("pri", [0, 7, 8, 13, 99, 100, 191])
@pytest.mark.parametrize("rest", ["text", "1 - - - - - - text", "Nov 20 10:00:00 web1 app: text", "1 - - broken"])
def test_pri(pri: int, rest: str) -> None:
    [record] = read(f"<{pri}>{rest}")
    assert (record.facility, record.severity) == divmod(pri, 8)


@pytest.mark.parametrize(
    "head",
    ["<192>", "<999>", "<1000>", "<00>", "<013>", "<>", "<-1>", "<+1>", "< 1>", "<1 >", "<1", "<", "<a>", "<\u0661>"],
)
@pytest.mark.parametrize(
    "rest", ["text", "1 2026-11-20T10:00:00Z h a - - - text", "Nov 20 10:00:00 web1 app: text", ""]
)
def test_malformed_pri_leaves_everything_in_the_message(head: str, rest: str) -> None:
    text = head + rest
    assert read(text) == [Record(1, 5, RECEIVED, PEER, None, None, None, None, text, "invalid PRI", text)]


@pytest.mark.parametrize(
    ("text", "msg", "app_name"),
    [("Nov 20 10:00:00 web1 sshd[12]: text", "text", "sshd"), ("just text", "just text", None), ("", "", None)],
)
def test_no_pri_is_user_notice(text: str, msg: str, app_name: str | None) -> None:
    [record] = read(text)
    assert (record.facility, record.severity, record.msg, record.app_name) == (1, 5, msg, app_name)
    assert record.parse_error is None


@pytest.mark.parametrize("start", ["%d", "[ID 8 auth.info] ", "[ID"])
def test_byte_order_mark_before_what_looks_like_another_format(start: str) -> None:
    [record] = read(f"<13>Nov 20 10:00:00 web1 app: \ufeff{start}text")
    assert (record.app_name, record.msg) == ("app", "text" if "auth" in start else f"{start}text")


@pytest.mark.parametrize(
    ("text", "hostname"),
    [
        ("<13>Nov 20 10:00:00 haproxy[12]: text", PEER),
        ("<13>Nov 20 10:00:00 - haproxy[12]: text", PEER),
        ("<13>text", PEER),
        ("<166>%ASA-6-302013: text", PEER),
        ("<13>action=block", PEER),
        ("<13>1 2026-11-20T10:00:00Z web1", PEER),  # a header that does not parse
        ("<13>1 2026-11-20T10:00:00Z - app - - - text", None),  # NILVALUE
        ("<13>1 2026-11-20T10:00:00Z - app - - broken", None),
        ("<189>date=2026-11-20 time=10:00:00 devname=fw1", "fw1"),
    ],
)
def test_hostname(text: str, hostname: str | None) -> None:
    assert read(text)[0].hostname == hostname


def test_header_that_does_not_parse() -> None:
    text = "<165>1 2026-11-31T10:00:00Z web1 app - - - text"
    assert read(text) == [
        Record(20, 5, RECEIVED, PEER, None, None, None, None, text[5:], "invalid RFC 5424 header", text)
    ]


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("<13>Nov 20 09:55:00 h t: m", RECEIVED - 300 * SECOND),
        ("<13>Nov 20 09:54:59 h t: m", RECEIVED),
        ("<13>Dec 31 23:59:59 h t: m", RECEIVED),
        ("<13>1 2026-11-20T10:05:00Z h t - - - m", RECEIVED + 300 * SECOND),
        ("<13>1 2026-11-20T10:05:00.000001Z h t - - - m", RECEIVED),
        ("<13>1 - h t - - - m", RECEIVED),
        ("<13>m", RECEIVED),
    ],
)
def test_timestamp_within_skew(text: str, timestamp: int) -> None:
    assert read(text)[0].timestamp == timestamp


def test_timezone_is_for_stamps_without_zone() -> None:
    texts = ["<13>Nov 20 11:00:00 h t: m", "<13>2026-11-20T11:00:00 h t: m", "<13>1 2026-11-20T10:00:00Z h t - - - m"]
    assert [record.timestamp for record in read(*texts, zone="Europe/Berlin")] == [RECEIVED] * 3


def test_byte_order_mark_before_the_pri() -> None:
    """As of the first line of a file that is sent line by line."""
    text = "\ufeff<38>Nov 20 10:00:15 web1 sshd[12]: text"
    assert read(text) == [Record(4, 6, RECEIVED + 15 * SECOND, "web1", "sshd", "12", None, None, "text", None, text)]
    assert read("\ufeff<999>text")[0][8:] == ("\ufeff<999>text", "invalid PRI", "\ufeff<999>text")


def test_invalid_utf8_is_kept_readable() -> None:
    caf = b"<13>Nov 20 10:00:00 h t: caf\xe9 \xed\xa0\x80 \xf0\x9f\x98\x80"
    [record] = read(caf)
    assert record.msg == "caf\\xe9 \\xed\\xa0\\x80 \U0001f600"
    assert record.raw == "<13>Nov 20 10:00:00 h t: caf\\xe9 \\xed\\xa0\\x80 \U0001f600"


def test_line_separators_of_unicode_do_not_split() -> None:
    text = "<13>Nov 20 10:00:00 h t: a\x0b\x0c\r\x1c\x85\u2028\u2029b"
    assert read(text, "<13>next")[0].msg == "a\x0b\x0c\r\x1c\x85\u2028\u2029b"


def test_nul_never_reaches_a_record() -> None:
    [record] = read(b'<13>1 - - - - - [a x="\0"] \0')
    assert "\0" not in "".join(str(field) for field in record)
    assert json.loads(record.structured_data or "") == {"a": {"x": "#000"}}
