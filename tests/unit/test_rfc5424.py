"""RFC 5424: its own examples, and what rsyslog, logger(1), syslog-ng, Docker and Fluent Bit send."""

from __future__ import annotations

import json
from datetime import UTC

import pytest

from logguardd.parsing.fields import Fields
from logguardd.parsing.rfc5424 import BROKEN, intended, parse, structured_data
from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
TIME = RECEIVED - 2 * SECOND + 3


def read(text: str) -> Fields | None:
    return parse(text, Clock(RECEIVED, UTC, 300 * SECOND))


def test_header() -> None:
    assert read("1 2026-11-20T09:59:58.000003Z web1.example.com su - ID47 - 'su root' failed") == Fields(
        TIME, "web1.example.com", "su", None, "ID47", "'su root' failed"
    )


def test_nilvalues() -> None:
    assert read("1 - - - - - -") == Fields(RECEIVED, None, None, None, None, "")


@pytest.mark.parametrize(
    ("rest", "msg"),
    [
        ("-", ""),
        ("- ", ""),
        ("- text", "text"),
        ("- \ufefftext", "text"),  # BOM (section 6.4), Fluent Bit
        ("-  text", "text"),  # rsyslog's RSYSLOG_SyslogProtocol23Format
        ("-   text", " text"),
        ("- [text", "[text"),
        ('- @cee: {"a": 1}', '@cee: {"a": 1}'),
        ("[a] text", "text"),
        ("[a]", ""),
        ("[a] \ufefftext", "text"),
        ("[a] [b] text", "[b] text"),
    ],
)
def test_msg(rest: str, msg: str) -> None:
    fields = read(f"1 2026-11-20T09:59:58Z host app 1 - {rest}")
    assert fields is not None
    assert (fields.msg, fields.parse_error) == (msg, None)


@pytest.mark.parametrize(
    "rest",
    [
        "", "text", "-text", "[", "[] text", "[a text", '[a x="1" text', '[a x="1]', "[a x=1] text", "[a][b text",
        '[a x="y"z="1"] text', '[a x="say "hi""] text', "[a]text", '[a ="1"] text', '[=a x="1"] text',
    ],
)  # fmt: skip
def test_broken_structured_data_stays_in_the_message(rest: str) -> None:
    assert read(f"1 2026-11-20T09:59:58.000003Z host app 1 id {rest}") == Fields(
        TIME, "host", "app", "1", "id", rest, parse_error="invalid structured data"
    )


def test_missing_structured_data() -> None:
    assert read("1 2026-11-20T09:59:58.000003Z host app 1 id") == Fields(
        TIME, "host", "app", "1", "id", "", parse_error="invalid structured data"
    )


@pytest.mark.parametrize(
    ("text", "data"),
    [
        # section 6.3.5
        (
            '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]',
            {"exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"}},
        ),
        (
            '[exampleSDID@32473 iut="3"][examplePriority@32473 class="high"]',
            {"exampleSDID@32473": {"iut": "3"}, "examplePriority@32473": {"class": "high"}},
        ),
        # logger
        (
            '[timeQuality tzKnown="1" isSynced="1" syncAccuracy="123456"]',
            {"timeQuality": {"tzKnown": "1", "isSynced": "1", "syncAccuracy": "123456"}},
        ),
        ('[origin ip="192.0.2.1" ip="192.0.2.129"]', {"origin": {"ip": ["192.0.2.1", "192.0.2.129"]}}),
        ("[a]", {"a": {}}),
        ('[a x="1"][a x="2" y="3"]', {"a": {"x": ["1", "2"], "y": "3"}}),
        (r'[a x="\"\\\]"]', {"a": {"x": '"\\]'}}),
        (r'[a x="C:\temp\new"]', {"a": {"x": r"C:\temp\new"}}),  # a backslash before anything else is itself (6.3.3)
        (r'[a x="\\\\"]', {"a": {"x": r"\\"}}),
        ('[a x="]"]', {"a": {"x": "]"}}),
        ('[a x="[b y=z]"]', {"a": {"x": "[b y=z]"}}),
        ('[a x=""]', {"a": {"x": ""}}),
        ('[a  x="1" ]', {"a": {"x": "1"}}),
        ('[a x="ü\t\x01\u2028"]', {"a": {"x": "ü\t\x01\u2028"}}),
        (r'[a x="\u0000"]', {"a": {"x": r"\u0000"}}),
    ],
)
def test_structured_data_to_json(text: str, data: object) -> None:
    result = structured_data(text)
    assert result is not None
    assert json.loads(result) == data
    assert read(f"1 - - - - - {text} msg") == Fields(RECEIVED, None, None, None, None, "msg", result)


def test_structured_data_nil_and_broken() -> None:
    assert structured_data("-") is None
    assert structured_data("[a b]") == BROKEN


@pytest.mark.parametrize(
    "text",
    [
        "2 2026-11-20T10:00:00Z host app - - - text",
        "1 2026-13-20T10:00:00Z host app - - - text",
        "1 2026-11-20t10:00:00z host app - - - text",  # section 6.2.3: T and Z are upper case
        "1 2026-11-20T10:00:00Z host app - ",
        "1 2026-11-20T10:00:00Z  app - - - text",
        "1 - host",
        f"1 2026-11-20T10:00:00Z {'h' * 256} app - - - text",
        # no RFC 3339 stamp at all, but structured data where it belongs
        "1 yesterday host app - - - text",
        "1 20261120T100000Z host app 1 id -",
        '1 1795168800 host app - - [a x="1"] text',
        "1 x host app - - [a]",
    ],
)
def test_header_that_does_not_parse(text: str) -> None:
    assert read(text) is None
    assert intended(text)


@pytest.mark.parametrize(
    "text",
    [
        "1 of 3 disks failed",
        "",
        "1",
        "Nov 20 10:00:00 host app: text",
        "1 1795168800.1 MX84 flows",
        "1 of 3 disks has [a failure] again",
    ],
)
def test_what_is_not_rfc5424_at_all(text: str) -> None:
    assert read(text) is None
    assert not intended(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # rsyslog, RSYSLOG_SyslogProtocol23Format
        (
            "1 2026-11-20T10:59:58.000003+01:00 web1 sshd 1234 - -  Failed password for root",
            Fields(TIME, "web1", "sshd", "1234", None, "Failed password for root"),
        ),
        # logger --rfc5424
        (
            '1 2026-11-20T09:59:58.000003+00:00 web1 root - - [timeQuality tzKnown="1" isSynced="0"] hello',
            Fields(TIME, "web1", "root", None, None, "hello", '{"timeQuality": {"tzKnown": "1", "isSynced": "0"}}'),
        ),
        # the syslog driver of syslog-ng
        (
            '1 2026-11-20T09:59:58.000003+00:00 web1 sshd 1234 - [meta sequenceId="1"] Failed password for root',
            Fields(TIME, "web1", "sshd", "1234", None, "Failed password for root", '{"meta": {"sequenceId": "1"}}'),
        ),
        # Docker, syslog-format=rfc5424micro: the tag is APP-NAME and MSGID
        (
            "1 2026-11-20T09:59:58.000003Z dockerhost 0d1f2e3a4b5c 1234 0d1f2e3a4b5c - GET / 200",
            Fields(TIME, "dockerhost", "0d1f2e3a4b5c", "1234", "0d1f2e3a4b5c", "GET / 200"),
        ),
        # Fluent Bit
        (
            '1 2026-11-20T09:59:58.000003Z - app - - [kube pod="web\\]"] \ufeffhello',
            Fields(TIME, None, "app", None, None, "hello", '{"kube": {"pod": "web]"}}'),
        ),
    ],
)
def test_real_senders(text: str, expected: Fields) -> None:
    assert read(text) == expected
