from __future__ import annotations

import pytest

from logguardd.errors import RuleError
from logguardd.grammar import parse
from logguardd.grammar.patterns import KINDS, Choice, Literal, Optional, Token, Until


def kinds(tree):
    return [node.kind.name if isinstance(node, Token) else type(node).__name__ for node in tree]


def test_a_pattern_becomes_a_tree():
    tree = parse("Failed <word> for [invalid user ]<user> from <ip> port <port>[ ssh2]")
    assert kinds(tree) == [
        "Literal",
        "word",
        "Literal",
        "Optional",
        "user",
        "Literal",
        "ip",
        "Literal",
        "port",
        "Optional",
    ]
    assert tree[3] == Optional((Literal("invalid user ", 20),), 19)
    assert tree[6].column == 46


def test_escapes_and_other_characters_are_literal():
    (literal,) = parse(r"\[a\] \(b\) \<c\> \| \\ {}*.?+^$ é")
    assert literal == Literal(r"[a] (b) <c> | \ {}*.?+^$ é", 1)


def test_parts_nest():
    (outer,) = parse("[a[b(c|d[e])]]")
    inner = outer.body[1]
    assert isinstance(inner, Optional)
    assert isinstance(inner.body[1], Choice)
    assert len(inner.body[1].alternatives) == 2


@pytest.mark.parametrize("name", KINDS)
def test_every_token_can_be_written(name):
    (_, token, _) = parse(f"a <{name}> b")
    assert token.kind.name == name


def test_what_may_follow_a_token():
    token = parse("x <word>[, y](; z|. a)")[1]
    assert token.follow.literals == {", y", "; z", ". a"}
    assert not token.follow.end
    token = parse("x <word>[, y]")[1]
    assert token.follow.end


def test_free_text_before_free_text_ends_at_the_first_place():
    tree = parse("PAM: <text> for <user> from <ip>")
    assert isinstance(tree[1], Until)
    assert tree[1].token.kind.name == "text"
    assert tree[1].body == (Literal(" for ", 12),)


@pytest.mark.parametrize(
    ("pattern", "column", "part"),
    [
        ("", 1, "0 characters"),
        ("x" * 2049, 1, "2049 characters"),
        ("a\tb", 2, "control character"),
        ("a [b", 5, "ends before"),
        ("a (b|c", 7, "ends before"),
        ("a ] b", 3, "] stands where it cannot"),
        ("a ) b", 3, ") stands where it cannot"),
        ("a > b", 3, "> stands where it cannot"),
        ("a|b", 2, "| stands where it cannot"),
        ("[a)", 3, ") stands where it cannot"),
        ("[]", 2, "leave a part empty"),
        ("(a|)", 4, "leave a part empty"),
        ("(|a)", 2, "leave a part empty"),
        (r"a\b", 3, "a backslash stands only before one of [ ] ( ) < > | \\"),
        ("a\\", 3, "a backslash stands only"),
        ("a <adress> b", 3, "no token is called <adress>"),
        ("a <use> b", 3, "did you mean <user>?"),
        ("a <word b", 3, "no token is called <word b>"),
        ("a <", 3, "no token is called <>"),
        ("a <word", 8, "the pattern ends before <word is closed by >"),
        ("a [<ip", 7, "the pattern ends before <ip is closed by >"),
        ("[" * 17 + "a" + "]" * 17, 17, "nested deeper than 16"),
        ("<host>[<ip>]", 1, "<host> is directly followed by <ip>; literal text must stand between them; a literal bracket is written \\["),
        ("<word><int>", 1, "<word> is directly followed by <int>"),
        ("a <int>(<word>|b)", 3, "<int> is directly followed by <word>"),
        ("<ip>x", 1, "directly followed by a letter or digit"),
        ("<ip>[ a]_", 1, "directly followed by a letter or digit"),
        ("<prefix>=1", 1, "directly followed by ="),
        ("<user><ip>", 1, "free text needs literal text"),
        ("<text><user>", 1, "free text needs literal text"),
        ("<ip> <ip>", 6, "a second time"),
        ("[<ip> ]a (<ip>|<host>)", 11, "a second time"),
        ("<user> a <name>", 10, "fill user a second time"),
        ("<port> <port>", 8, "fill source port a second time"),
        ("<user> from <ip> <text>", 18, "stands after <ip>, and free text stands before it"),
        ("[<text> ]<ip>[ <user>]", 16, "stands after <ip>, and free text stands before it"),
        ("<user>[ (<text>)] <ip>", 1, "free text that may be missing"),
        ("<ip> <user> x[ <text>]", 6, "free text that may be missing"),
        ("<text> <fields>", 8, "stands after free text"),
        ("[<text>] <user> x", 2, "no literal text between them in the same part"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(pattern, column, part):
    with pytest.raises(RuleError) as error:
        parse(pattern, "FILE: rule x, match 2")
    assert str(error.value).startswith(f"FILE: rule x, match 2, column {column}: ")
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "(<ip>|<host>) x",
        "(a <user>|b <name>) from <ip>",
        "<int> <quoted><time><text>",
        "<word> <word>: [<word> ]at (<ip>|<host>)[, <word>]",
        "<ip>:<port>",
        "<ip>: <text>",
        "a <text> b <text> c <user> d <ip>",
        "<prefix>IN=[<word>] SRC=<ip> DST=<dip> <fields>PROTO=<proto>[ <fields>]",
    ],
)
def test_what_loads(pattern):
    parse(pattern)
