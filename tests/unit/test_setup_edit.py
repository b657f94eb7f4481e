"""Keys are set in a file that an operator wrote, and nothing else in it changes."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logguardd import config
from logguardd.errors import ConfigError
from logguardd.setup.edit import put
from tests.servers.daemon import CHECKOUT

SHIPPED = (CHECKOUT / "etc" / "logguardd.toml").read_text()
CHANGES = {
    ("listen", "tls"): ["[::]:6514"],
    ("tls", "certificate"): "/etc/logguardd/tls/server.pem",
    ("tls", "client_ca"): "/etc/logguardd/tls/ca.pem",
    ("archive", "url"): "postgresql://logguardd:p%23w@db/logs",
    ("detection", "allowlist"): ("127.0.0.0/8", "::1", "192.0.2.7"),
    ("firewall", "backend"): "nftables",
    ("http", "follow"): "[::]:9515",
}


def test_the_shipped_file_keeps_its_comments():
    text = put(SHIPPED, CHANGES)
    assert [line for line in text.split("\n") if line.startswith("# ")] == [
        line for line in SHIPPED.split("\n") if line.startswith("# ")
    ]
    assert len(text.split("\n")) == len(SHIPPED.split("\n"))
    assert '\ntls = ["[::]:6514"]\n' in text
    assert "\n#tls = " not in text
    read = config.parse(text)
    assert read.listen.tls == ("[::]:6514",)
    assert read.firewall.backend == "nftables"
    assert read.jail == config.Config().jail


def test_twice_is_once():
    once = put(SHIPPED, CHANGES)
    assert put(once, CHANGES) == once
    assert put(SHIPPED, {}) == SHIPPED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[http]\nfollow = 1\n"),
        ("a = 1", "a = 1\n\n[http]\nfollow = 1\n"),
        ("a = 1\n", "a = 1\n\n[http]\nfollow = 1\n"),
        ("[http]", "[http]\nfollow = 1\n"),
        ("[http]\n", "[http]\nfollow = 1\n"),
        ("[http] # ours\nlisten = 2\n[z]\n", "[http] # ours\nlisten = 2\nfollow = 1\n[z]\n"),
        ("[http]\nlisten = [\n2,\n]", "[http]\nlisten = [\n2,\n]\nfollow = 1\n"),
        ("[http]\nlisten = 2\n\n# of z\n[z]\n", "[http]\nlisten = 2\nfollow = 1\n\n# of z\n[z]\n"),
        ("[http]\nfollow = 3", "[http]\nfollow = 1"),
        ("[http]\nfollow = 3 # why\n", "[http]\nfollow = 1 # why\n"),
        ("[http]\n  follow=3\nlisten = 2\n", "[http]\n  follow= 1\nlisten = 2\n"),
        ('[http]\nfollow = "#x" # "why"\n', "[http]\nfollow = 1\n"),
        ("[http]\nfollow = [\n  1, # one\n  2,\n]\nlisten = 2\n", "[http]\nfollow = 1\nlisten = 2\n"),
        ('[http]\nfollow = """\n#follow = 2\n"""\n', "[http]\nfollow = 1\n"),
        ('["http"]\n"follow" = 3\n', '["http"]\n"follow" = 1\n'),
        ("http.follow = 3\n", "http.follow = 1\n"),
        ("[a]\n#follow = 2\n[http]\n#follow = 3\n#listen = 4\n", "[a]\n#follow = 2\n[http]\nfollow = 1\n#listen = 4\n"),
        ("[http]\n# follow = text\n#follow = 3\n", "[http]\n# follow = text\nfollow = 1\n"),
        ("[a]\n[http]\n[b]\n#follow = 2\n", "[a]\n[http]\nfollow = 1\n[b]\n#follow = 2\n"),
        ("[http]\n[http.x]\n#follow = 2\n", "[http]\nfollow = 1\n[http.x]\n#follow = 2\n"),
    ],
)
def test_where_a_key_goes(before, after):
    assert put(before, {("http", "follow"): 1}) == after


@pytest.mark.parametrize("text", ["http = {listen = 2}\n", "http.listen = 2\n"])
def test_what_cannot_be_changed_is_said(text):
    with pytest.raises(ConfigError, match=r"cannot be changed here; set by hand: http\.follow"):
        put(text, {("http", "follow"): 1})


@pytest.mark.parametrize("text", ["http = 3\n", "[[http]]\nfollow = 1\n"])
def test_what_is_no_section_is_said(text):
    with pytest.raises(ConfigError, match=r"http is not a table; allowed: \[http\]"):
        put(text, {("http", "follow"): 1})


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])),
        st.one_of(st.text(), st.integers(-5, 5), st.booleans(), st.lists(st.text(), max_size=3)),
    ),
    st.sampled_from(["", "[a]\nx = 1\n", "[a]\n#x = 1\n\n[b]\ny = [\n'#',\n] # z", "k = 1\n[b]\n[c]\n"]),
)
def test_whatever_is_set_is_read_back(changes, text):
    read = tomllib.loads(put(text, changes))
    for (section, key), value in changes.items():
        assert read[section][key] == value
    for name, table in tomllib.loads(text).items():
        if isinstance(table, dict):
            for key, value in table.items():
                assert (name, key) in changes or read[name][key] == value
