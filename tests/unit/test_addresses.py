from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import pyparsing as pp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logguardd.grammar.addresses import IPV4, IPV6, IPV6_ALONE, ipv4_element, ipv6_element, normal, special

# RFC 4291 section 2.2, RFC 5952, RFC 3986 section 3.2.2.
IPV6_TEXTS = [
    "ABCD:EF01:2345:6789:ABCD:EF01:2345:6789", "2001:DB8:0:0:8:800:200C:417A", "2001:DB8::8:800:200C:417A",
    "FF01::101", "::1", "::", "0:0:0:0:0:0:13.1.68.3", "::13.1.68.3", "::FFFF:129.144.52.38", "1::", "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8", "1::8", "1:2:3:4:5::1.2.3.4", "fe80::1", "2001:db8:0:1:1:1:1:1",
]  # fmt: skip
NOT_IPV6 = [
    "", ":", ":::", "1", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::12345", "g::", ":1", "1:",
    "1:2:3:4:5:6:7::8", "::1.2.3", "::1.2.3.256", "1.2.3.4::", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4:5:6::1.2.3.4", "::01.2.3.4",
]  # fmt: skip
IPV4_TEXTS = ["0.0.0.0", "1.2.3.4", "255.255.255.255", "203.0.113.5", "10.20.30.40", "199.249.100.99"]
NOT_IPV4 = [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "1.2.3.256",
    "01.2.3.4",
    "1.2.3.04",
    "1.2.3.",
    "a.b.c.d",
    "1.2.3.400",
]


def _parses(element: pp.ParserElement, text: str) -> bool:
    try:
        element.parse_string(text, parse_all=True)
    except pp.ParseException:
        return False
    return True


@pytest.mark.parametrize("text", IPV6_TEXTS)
def test_ipv6_texts_of_the_rfcs(text):
    assert re.fullmatch(IPV6, text)
    assert re.fullmatch(IPV6_ALONE, text)
    assert _parses(pp.MatchFirst([form + pp.StringEnd() for form in ipv6_element().exprs]), text)


@pytest.mark.parametrize("text", NOT_IPV6)
def test_texts_that_are_not_ipv6(text):
    assert not re.fullmatch(IPV6, text)
    assert not re.fullmatch(IPV6_ALONE, text)
    assert not _parses(pp.MatchFirst([form + pp.StringEnd() for form in ipv6_element().exprs]), text)


@pytest.mark.parametrize("text", IPV4_TEXTS)
def test_ipv4_texts(text):
    assert re.fullmatch(IPV4, text)
    assert _parses(ipv4_element(), text)


@pytest.mark.parametrize("text", NOT_IPV4)
def test_texts_that_are_not_ipv4(text):
    assert not re.fullmatch(IPV4, text)
    assert not _parses(ipv4_element(), text)


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.sampled_from(["1", "ab", "2001", ":", "::", ":", "1.2.3.4", "0", "12345", "."]), max_size=17).map(
        "".join
    )
)
def test_both_expressions_are_what_the_standard_library_takes(text):
    try:
        IPv6Address(text)
    except ValueError:
        valid = False
    else:
        valid = True
    assert bool(re.fullmatch(IPV6, text)) == bool(re.fullmatch(IPV6_ALONE, text)) == valid


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_taken_long_and_short(address):
    assert re.fullmatch(IPV6_ALONE, str(address))
    assert re.fullmatch(IPV6_ALONE, address.exploded)
    assert normal(address.exploded) == str(address.ipv4_mapped or address)


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_taken(address):
    assert re.fullmatch(IPV4, str(address))
    assert normal(f"::ffff:{address}") == normal(f"[::FFFF:{address}]") == str(address)
    assert normal(str(IPv6Address(f"::ffff:{address}"))) == str(address)


def test_the_longest_address_wins():
    assert re.match(IPV6, "2001:db8::1:443")[0] == "2001:db8::1:443"
    assert re.match(IPV6 + "(?=:)", "2001:db8::1:443:")[0] == "2001:db8::1:443"
    assert re.match(IPV6 + "(?=:443 )", "2001:db8::1:443 ")[0] == "2001:db8::1"
    assert re.match(IPV6, "::1.2.3.4")[0] == "::1.2.3.4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0.100]", "fe80::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("::ffff:cb00:7105", "203.0.113.5"),
        ("::ffff:203.0.113.5%1", "203.0.113.5"),
    ],
)
def test_normal(text, value):
    assert normal(text) == value


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "::", "ff02::1"]
)
def test_special_addresses(address):
    assert special(address)


@pytest.mark.parametrize(
    "address", ["1.0.0.0", "10.0.0.0", "127.0.0.1", "203.0.113.255", "22.4.0.0", "::1", "2001:db8::"]
)
def test_addresses_that_a_peer_may_have(address):
    assert not special(address)
    assert IPv4Address(address) if "." in address else IPv6Address(address)
