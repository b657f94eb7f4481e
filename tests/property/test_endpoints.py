"""The endpoint grammar's regular expressions equal its pyparsing parser."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from logguardd.grammar import endpoint_reference, endpoints

_PIECES = st.sampled_from(
    [
        "1.2.3.4", "203.0.113.5", "203.0.113.0", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%eth0", "0.0.0.0", "ff02::1",
        "[", "]", "(", ")", "<", ":", "22", "/", "8", "24", "64", "65536", "#", " port ", " Port: ", "from ", "src=", "dst ",
        "to", "-> ", "client:", "rhost=", "user=", "helo ", "x", "version ", "proto", "PROTO=", "tcp", "UDP", "SPT=", "DPT=", "dst_port",
        " ", " ", " ", ".", '"', "'", "=", ",", "-", "%", "::", "1", "aa:bb:cc:dd:ee:ff", ":00:11", "é", "\t", "unknown",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=700)
@given(st.lists(_PIECES | st.text(max_size=3), max_size=14).map("".join))
@example("\u017fpt=1 1.2.3.4 \u212a")
@example("x" * 200 + ":1.2.3.4 [1.2.3.4")
@example("1.2.3.4:802#3")
@example("[::1]:802(3)")
@example("a" * 64 + ":1.2.3.4 " + "a" * 65 + ":5.6.7.8")
def test_equal(message):
    assert endpoints.endpoints(message) == endpoint_reference.endpoints(message)
