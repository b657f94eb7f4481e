"""Records and matches to rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logguardd.archive.rows import COLUMNS, CREATED_AT, Row, harmless, rows
from logguardd.records import SECOND, Batch, Match, Origin, Record, Rule
from logguardd.severity import SEVERITIES

AT = 1_767_225_600 * SECOND
RULE = Rule("sshd-failed-password", ("sshd",), frozenset({"ssh", "auth-failure"}), "medium", "ssh", 22)
RECORD = Record(
    4, 6, AT - 5, "web1", "sshd", "4242", "ID47", '{"a@1": {"b": "c"}}', "Failed password", None, "<38>1 - Failed password"
)  # fmt: skip


def batch(count: int, origin: Origin | None = None) -> Batch:
    return Batch(7, AT, origin or Origin("192.0.2.1", "tls", "web1.example"), b"\n".join([b"x"] * count), count)


def row(record: Record = RECORD, match: Match | None = None, origin: Origin | None = None) -> dict[str, object]:
    (found,) = rows(batch(1, origin), [record], [match])
    return dict(zip(COLUMNS, found, strict=True))


def test_a_record_without_a_match() -> None:
    assert row() == {
        "timestamp": AT - 5, "source_ip": None, "source_port": None, "destination_port": None, "protocol": None,
        "action": None, "message": "Failed password", "client_id": "web1", "log_level": "info", "service_name": "sshd",
        "raw_log": "<38>1 - Failed password", "created_at": AT, "facility": 4, "procid": "4242", "msgid": "ID47",
        "structured_data": '{"a@1": {"b": "c"}}', "origin": "tls://192.0.2.1 (web1.example)", "rule": None,
        "parse_error": None,
    }  # fmt: skip


def test_what_a_rule_found() -> None:
    found = row(match=Match(RULE, "2001:db8::5", 40022, 22, "tcp", "root", True))
    assert {key: found[key] for key in ("source_ip", "source_port", "destination_port", "protocol", "action", "rule")} == {
        "source_ip": "2001:db8::5", "source_port": 40022, "destination_port": 22, "protocol": "tcp",
        "action": "auth-failure,ssh", "rule": "sshd-failed-password",
    }  # fmt: skip


def test_what_the_endpoint_grammar_found() -> None:
    found = row(match=Match(None, "203.0.113.5", 0, 0, None, None, False))
    assert [found[key] for key in ("source_ip", "source_port", "destination_port", "action", "rule")] == [
        "203.0.113.5", None, None, None, None,
    ]  # fmt: skip


def test_a_rule_without_tags_and_address() -> None:
    rule = Rule("quiet", (), frozenset(), "info")
    found = row(match=Match(rule, None, 0, 0, None, None, False))
    assert (found["action"], found["rule"], found["source_ip"]) == (None, "quiet", None)


@pytest.mark.parametrize("hostname", [None, ""])
def test_the_peer_stands_in_for_a_missing_hostname(hostname: str | None) -> None:
    assert row(RECORD._replace(hostname=hostname))["client_id"] == "192.0.2.1"
    assert row(RECORD._replace(hostname=hostname), origin=Origin("2001:db8::1", "udp"))["client_id"] == "2001:db8::1"


def test_every_severity_has_its_keyword() -> None:
    assert [row(RECORD._replace(severity=n))["log_level"] for n in range(8)] == list(SEVERITIES)


def test_rows_keep_their_order_and_share_the_batch() -> None:
    records = [RECORD._replace(msg=str(n)) for n in range(5)]
    other = Rule("other", (), frozenset({"scan"}), "low")
    matches = [None, Match(RULE, "192.0.2.9", 1, 22, None, None, True), Match(other, None, 0, 0, None, None, True)] + [
        None
    ] * 2
    found = rows(batch(5), records, matches)
    assert [r[COLUMNS.index("message")] for r in found] == list("01234")
    assert [r[COLUMNS.index("action")] for r in found] == [None, "auth-failure,ssh", "scan", None, None]
    assert {r[CREATED_AT] for r in found} == {AT}
    assert rows(batch(0), [], []) == []


def test_records_and_matches_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rows(batch(2), [RECORD, RECORD], [None])


def test_positions_of_columns() -> None:
    assert COLUMNS[0] == "timestamp"
    assert COLUMNS[CREATED_AT] == "created_at"


HOSTILE = st.text(alphabet=st.characters())


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_the_harmless_form_is_ascii_without_nul(msg: str, raw: str, host: str, reason: str) -> None:
    record = RECORD._replace(msg=msg, raw=raw, hostname=host, timestamp=1 << 80, structured_data="{", facility=3)
    (found,) = rows(batch(1), [record], [Match(RULE, "not an address", 1 << 40, -1, "\0", "", True)])
    safe: Row = harmless(found, reason)
    assert len(safe) == len(COLUMNS)
    for value in safe:
        assert value is None or isinstance(value, int) or (value.isascii() and "\0" not in value)
    by_name = dict(zip(COLUMNS, safe, strict=True))
    assert by_name["timestamp"] == by_name["created_at"] == AT
    assert str(by_name["parse_error"]).startswith("not stored as it was: ")


def test_the_harmless_form_keeps_what_can_be_read() -> None:
    record = RECORD._replace(msg="é\0\udc00 😀 plain", parse_error="PRI over 191")
    (found,) = rows(batch(1), [record], [None])
    by_name = dict(zip(COLUMNS, harmless(found, "NUL in text"), strict=True))
    assert by_name["message"] == "\\xe9\\x00\\udc00 \\U0001f600 plain"
    assert by_name["parse_error"] == "not stored as it was: NUL in text; PRI over 191"
    assert (by_name["client_id"], by_name["origin"]) == ("web1", "tls://192.0.2.1 (web1.example)")
