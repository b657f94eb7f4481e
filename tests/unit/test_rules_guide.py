"""docs/rules.md: its rules load, its tables are complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from logguardd.grammar.patterns import KINDS
from logguardd.rules import load
from logguardd.rules.rulefile import EXPECTED, KEYS

GUIDE = Path(__file__).parents[2] / "docs" / "rules.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def test_the_rules_in_the_guide_load():
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if "[[rule]]" in block]
    assert len(blocks) >= 2
    assert load([(f"block {number}", block) for number, block in enumerate(blocks, 1)]).rules


def test_all_toml_in_the_guide_is_toml():
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL):
        tomllib.loads(block)


def test_every_token_is_in_the_guide():
    assert set(re.findall(r"^\| `<(\w+)>` \|", TEXT, re.MULTILINE)) == set(KINDS)


def test_every_key_is_in_the_guide():
    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) >= set(KEYS)
    assert all(name in TEXT for name in EXPECTED)
