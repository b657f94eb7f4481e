"""Lines of keys, and values written as TOML."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from logguardd.config import toml_text

TEXT = '''# a comment with [brackets] and "quotes"
level = "x"

[listen]  # comment = 1
udp = [
  "[::]:514",  # with ] in a comment
  "}",
]
text = """
[not.a.table]
not = "a key"
"""
raw = \'\'\'
also = 1\'\'\'
dotted.inner.key = {inline = 1, other = [1, 2]}
"quoted key" = 1
'single' = ''
empty = ""

[jail.flood]
ban = "5m"
[ jail . "a.b" ]
hits = []
[[rule]]
name = "x"
'''


def test_lines():
    tomllib.loads(TEXT)
    found = toml_text.lines(TEXT)
    expected = TEXT.split("\n")
    places = {
        ("level",): "level =",
        ("listen",): "[listen]",
        ("listen", "udp"): "udp =",
        ("listen", "text"): "text =",
        ("listen", "raw"): "raw =",
        ("listen", "dotted"): "dotted.",
        ("listen", "dotted", "inner"): "dotted.",
        ("listen", "dotted", "inner", "key"): "dotted.",
        ("listen", "quoted key"): '"quoted key"',
        ("listen", "single"): "'single'",
        ("listen", "empty"): "empty",
        ("jail", "flood"): "[jail.flood]",
        ("jail", "flood", "ban"): "ban =",
        ("jail", "a.b"): '[ jail . "a.b" ]',
        ("jail", "a.b", "hits"): "hits",
        ("rule",): "[[rule]]",
        ("rule", "name"): "name",
    }
    assert set(found) == set(places)
    for path, start in places.items():
        assert expected[found[path] - 1].startswith(start), path


def test_windows_line_ends_and_no_last_line_end():
    assert toml_text.lines('a = 1\r\n\r\n[b]\r\nc = "x"') == {("a",): 1, ("b",): 3, ("b", "c"): 4}


def test_long_files_take_linear_time():
    text = "a = [\n" + '"x", # "\n' * 100_000 + "]\nb = 1\n"
    assert toml_text.lines(text)[("b",)] == 100_003


LEAVES = st.booleans() | st.integers(-(10**12), 10**12) | st.text()
ITEMS = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc \"'.\n"), inner), max_leaves=8
)


@given(st.dictionaries(st.text("abcé_- .\"'\n\\", min_size=0), ITEMS))
def test_written_values_read_back(items):
    assert tomllib.loads(toml_text.table("a.b", items)) == {"a": {"b": items}}
