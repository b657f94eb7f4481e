"""The man pages name every command, option and key there is, and are well formed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest

from logguardd.config import settings, toml_text
from logguardd.grammar.patterns import KINDS
from logguardd.rules import rulefile
from logguardd.severity import RULE_SEVERITIES
from tests.servers.daemon import CHECKOUT
from tests.servers.process import need

MAN = CHECKOUT / "docs" / "man"
PAGES = ("logguardd.8", "logguardd-firewall.8", "logguardctl.8", "logguardd.toml.5", "logguardd-rules.5")


@pytest.fixture(scope="module")
def make_man():
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    try:
        return importlib.import_module("make_man")
    finally:
        sys.path.remove(str(CHECKOUT / "scripts"))


def text(name):
    return (MAN / name).read_text()


def test_these_pages_are_there():
    assert {path.name for path in MAN.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_generated_parts_are_up_to_date(make_man, name):
    assert make_man.page(text(name)) == text(name), "run scripts/make_man.py"


@pytest.mark.parametrize("program", ["logguardd", "logguardctl", "logguardd-firewall"])
def test_every_command_and_option_is_named_and_described(make_man, program):
    page = text(f"{program}.8")
    for name, command in make_man.commands(program):
        assert command.help, name
        if name:
            assert f"\n.It Cm {name.replace('-', chr(92) + '-')}" in page
            assert f"\n.Cm {name.replace('-', chr(92) + '-')}\n" in page.partition(".Sh DESCRIPTION")[0]
        for option in make_man.options(command):
            assert option.help, f"{program} {name} {option.opts}"
            for spelling in option.opts:
                flag = spelling.removeprefix("-").replace("-", r"\-")
                assert re.search(rf"^\.It .*Fl {re.escape(flag)}( |$)", page, re.MULTILINE), f"{name} {spelling}"


def test_every_key_is_named_with_its_default():
    page = text("logguardd.toml.5").replace(r"\&", "").replace(r"\-", "-").replace(r"\(dq", '"')
    parts = dict(
        re.findall(r"^\.Sh (?:THE \[)?([\w. ]+?)(?:\] SECTION)?\n(.*?)(?=^\.Sh )", page, re.MULTILINE | re.DOTALL)
    )
    for section, cls in ({"TOP LEVEL": settings.Config, "jail.NAME": settings.Jail} | settings.SECTIONS).items():
        part = parts[section]
        for key in settings.keys(cls):
            assert f"\n.It Ic {key.name} No = Ic {toml_text.value(key.default)}\n" in part, f"{section}.{key.name}"


def test_every_key_and_token_of_rules_is_named():
    page = text("logguardd-rules.5")
    keys = page.partition(".Sh KEYS")[2].partition(".Sh PATTERNS")[0]
    assert tuple(re.findall(r"^\.It Ic (\w+)$", keys, re.MULTILINE)) == rulefile.KEYS
    for name in rulefile.EXPECTED:
        assert re.search(rf"^\.Ic.*\b{name}\b", keys, re.MULTILINE), name
    for name in RULE_SEVERITIES:
        assert f"\n.Ql {name}" in keys
    for name in KINDS:
        assert f"\n.It Ic <{name}>\n" in page


def test_a_missing_option_is_found(make_man, monkeypatch):
    extra = click.Option(["--brand-new"], help="Not in any page.")
    command = make_man.PROGRAMS["logguardd-firewall"]
    monkeypatch.setattr(command, "params", [*command.params, extra])
    assert make_man.page(text("logguardd-firewall.8")) != text("logguardd-firewall.8")


def test_the_example_rule_and_configuration_load():
    from logguardd import config, rules

    def example(name, begin):
        block = text(name).partition(begin)[2].partition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0]
        return block.replace(r"\-", "-")

    assert len(rules.load([("page", example("logguardd-rules.5", ".Sh DESCRIPTION"))]).rules) == 1
    assert config.parse(example("logguardd.toml.5", ".Sh EXAMPLES")).firewall.backend == "nftables"


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_wrong(name):
    (mandoc,) = need("mandoc")
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "style", str(MAN / name)], capture_output=True, text=True, timeout=30, check=False
    )
    # Which manuals this machine has is not the page's business.
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if "mandoc.db" not in line]
    assert [line for line in wrong if "referenced manual not found" not in line] == []


def test_lines_are_readable_on_a_terminal_of_80_columns():
    (mandoc,) = need("mandoc")
    for name in PAGES:
        done = subprocess.run(
            [mandoc, "-Tutf8", "-O", "width=78", str(MAN / name)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        shown = re.sub(".\b", "", done.stdout).splitlines()
        # Examples stand as they are.
        assert [line for line in shown if len(line) > 100] == [], name
