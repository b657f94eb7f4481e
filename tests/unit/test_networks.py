from ipaddress import ip_network

import pytest

from logguardd.networks import network_text, parse_network

CANONICAL = [
    "192.0.2.1",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "::/0",
    "::",
    "2001:db8::1",
    "2001:db8::/64",
    "2001:db8:0:1:1:1:1:1",
    "fe80::1",
    "::102:304",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_text_is_read_and_written_the_same(text):
    assert parse_network(text) == ip_network(text)
    assert network_text(parse_network(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 192.0.2.1",
        "192.0.2.1 ",
        "192.0.2.1/32",
        "192.0.2.1/24",
        "192.0.2.0/024",
        "192.0.2.0/255.255.255.0",
        "192.0.2.0/",
        "192.0.2.0/-1",
        "192.0.2.0/33",
        "192.0.2.0/٢٤",
        "192.0.2.0/" + "9" * 5000,
        "192.0.2.01",
        "192.0.2",
        "3221225985",
        "192.0.2.1\n",
        "2001:DB8::1",
        "2001:db8::1/128",
        "2001:db8::1/64",
        "2001:db8:0:0:0:0:0:1",
        "2001:db8::/129",
        "::ffff:192.0.2.1",
        "::ffff:c000:201",
        "::1.2.3.4",
        "fe80::1%eth0",
        "fe80::%1/64",
        "[2001:db8::1]",
        "localhost",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        parse_network(text)
