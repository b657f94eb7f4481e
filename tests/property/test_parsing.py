"""Every frame gives exactly one record; the one-regex way and the slow way read the same."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

from hypothesis import assume, example, given
from hypothesis import strategies as st

from logguardd.parsing import _unusual, parse
from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND, Batch, Origin, Record

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
ORIGIN = Origin("192.0.2.9", "udp")
BERLIN = ZoneInfo("Europe/Berlin")

LINES = [
    "<34>Nov 20 11:00:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
    "<34>Nov 20 11:00:15 su: 'su root' failed",
    "<38>Nov  2 11:00:15 web1 sshd[1234]: Failed password for root from 203.0.113.5 port 40022 ssh2",
    "<38>2026-11-20T11:00:15.123456+01:00 web1 sshd[1234]: Failed password for root from 203.0.113.5 port 40022 ssh2",
    "<38>1 2026-11-20T11:00:15.123456+01:00 web1 sshd 1234 - -  Failed password for root from 203.0.113.5",
    '<13>1 2026-11-20T10:00:15Z web1 app 12 ID [timeQuality tzKnown="1"][a x="\\"\\\\\\]" x="2"] \ufeffhello',
    "<4>Nov 20 11:00:15 web1 kernel: [   12.345678] IN=eth0 OUT= SRC=203.0.113.5 DST=192.0.2.1 PROTO=TCP SPT=4 DPT=22",
    "<13>Nov 20 11:00:15 web1 last message repeated 3 times",
    "<134>Nov 20 11:00:15 haproxy[1234]: Connect from 203.0.113.5:40022 to 192.0.2.1:80 (www/HTTP)",
    "<30>Nov 20 11:00:15 nginx:1.27/web[1234]: hello",
    "<22>Nov 20 2026 11:00:15 2001:db8::1 postfix/smtpd[12]: connect from unknown[203.0.113.5]",
    "<13>Nov 20 11:00:15 2026 haproxy[12]: text",
    "<13>Nov 20 10:00:15 UTC haproxy[12]: text",
    "<166>%ASA-6-302013: Built outbound TCP connection",
    "<189>45: 000123: *Nov 20 11:00:15.123 UTC: %SYS-5-CONFIG_I: Configured from console",
    "<166>Nov 20 2026 11:00:15 fw1 : %ASA-6-302013: Built outbound TCP connection",
    '<189>date=2026-11-20 time=11:00:15 devname="fw1" tz="+0100" msg="text"',
    "<134>Nov 20 11:00:15 CET lb1 notice tmm[12]: text",
    "<38>Nov 20 11:00:15 sun1 sshd[12]: [ID 800047 auth.info] text",
    "<14>Nov 20 11:00:15 win1\tMSWinEventLog\t1\tSecurity\t12",
    "<189>3164: RP/0/RSP0/CPU0:Nov 20 11:00:15.500 : config[65741]: %MGBL-CONFIG-6-DB_COMMIT : text",
    "<30>2026:11:20-11:00:15 utm ulogd[12]: id=2001",
    '<13>Nov 20 11:00:15 web1 app: @cee: {"a": 1}',
    "<13>Use the BFG!",
]
TOKENS = ["<13>", "1 ", "-", "- ", " ", ":", ": ", "[", "]", "[1]", '"', "\\", "=", "\ufeff", "2026 ", "CET ", "\t", "[ID 8 a.b] ", "@", "\n", "\0", "é", "\U0001f600"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a real line with pieces cut out, doubled or put in."""
    line = draw(st.sampled_from(LINES))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(line)))
        end = min(len(line), start + draw(st.integers(0, 8)))
        line = line[:start] + draw(st.sampled_from(["", line[start:end] * 2, *TOKENS])) + line[end:]
    return line.replace("\n", "")


def read(frames: list[bytes], received: int = RECEIVED, skew: int = 300 * SECOND) -> list[Record]:
    batch = Batch(1, received, ORIGIN, b"\n".join(frames), len(frames))
    return parse(batch, timezone=BERLIN, max_clock_skew=skew)


def check(record: Record, frame: bytes, received: int, skew: int) -> None:
    """Check what holds for every record, and that PostgreSQL would take it."""
    assert type(record) is Record
    assert 0 <= record.facility <= 23
    assert 0 <= record.severity <= 7
    assert abs(record.timestamp - received) <= skew
    assert record.raw == frame.decode("utf-8", "backslashreplace").replace("\0", "#000")
    assert record.msg in record.raw
    for text in record[3:]:
        assert text is None or isinstance(text, str)
        assert text is None or "\0" not in text
        assert text is None or text.encode().decode() == text  # no lone surrogate
    for name in record[3:7]:
        assert name is None or len(name) <= 255
    if record.structured_data is not None:
        data = json.loads(record.structured_data)
        assert all(isinstance(params, dict) for params in data.values())
        assert "\0" not in json.dumps(data, ensure_ascii=False)
        assert "\\u0000" not in record.structured_data.replace("\\\\", "")


frames = st.lists(
    st.one_of(
        st.binary(max_size=60).map(lambda frame: frame.replace(b"\n", b"")),
        st.binary(max_size=60).map(lambda frame: b"<13>" + frame.replace(b"\n", b"")),
        mutated().map(lambda line: line.encode()),
    ),
    min_size=1,
    max_size=8,
)


@given(frames, st.integers(0, 2**41 * 1000), st.sampled_from([0, 300 * SECOND, 10**18]))
@example([line.encode() for line in LINES], RECEIVED, 300 * SECOND)
@example([b""], 0, 0)
def test_one_record_a_frame(frames: list[bytes], received: int, skew: int) -> None:
    records = read(frames, received, skew)
    assert len(records) == len(frames)
    for record, frame in zip(records, frames, strict=True):
        check(record, frame, received, skew)


@given(mutated())
def test_both_ways_read_the_same(line: str) -> None:
    assume("%" not in line)  # Cisco's forms are looked for only the slow way
    [record] = read([line.encode()])
    assert _unusual(record.raw, Clock(RECEIVED, BERLIN, 300 * SECOND), ORIGIN.peer) == record


@given(st.lists(mutated(), min_size=2, max_size=6))
def test_a_frame_is_read_alone_as_among_others(lines: list[str]) -> None:
    assert read([line.encode() for line in lines]) == [read([line.encode()])[0] for line in lines]


@given(st.dictionaries(
    st.text(st.characters(blacklist_characters='= ]"\n\0', blacklist_categories=["Cs"]), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["x", "y", "é"]), st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=["Cs"]))), max_size=4),
    min_size=1, max_size=3,
))  # fmt: skip
def test_structured_data_comes_back(elements: dict[str, list[tuple[str, str]]]) -> None:
    def param(name: str, value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
        return f' {name}="{escaped}"'

    text = "".join(f"[{sd_id}{''.join(param(*pair) for pair in params)}]" for sd_id, params in elements.items())
    [record] = read([f"<13>1 - - - - - {text} msg".encode()])
    expected: dict[str, dict[str, object]] = {}
    for name, params in elements.items():
        values = {n: [v for m, v in params if m == n] for n, _ in params}
        expected[name] = {n: v[0] if len(v) == 1 else v for n, v in values.items()}
    assert (record.msg, record.parse_error) == ("msg", None)
    assert json.loads(record.structured_data or "") == expected
