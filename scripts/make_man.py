#!/usr/bin/env python3
r"""Bring the man pages in docs/man in step with the command lines, the configuration and the rule language.

What stands there between ``.\" BEGIN kind name`` and ``.\" END`` is written here: options from the click commands, keys from
the settings' dataclasses and their descriptions in docs/configuration.md. The rest is written by hand.

    make_man.py            rewrite the pages
    make_man.py --check    only say whether they are up to date; exit status 1 if not
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import mdoc

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = CHECKOUT / "docs" / "man"
sys.path.insert(0, str(CHECKOUT))

from logguardd import cli, ctl  # noqa: E402 - found through the line above
from logguardd.config import settings, toml_text  # noqa: E402 - found through the line above
from logguardd.firewall import service  # noqa: E402
from logguardd.grammar.patterns import KINDS  # noqa: E402
from logguardd.rules.services import SERVICES  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: dict[str, click.Command] = {
    "logguardd": cli.command,
    "logguardctl": ctl.command,
    "logguardd-firewall": service.command,
}
_BLOCK = re.compile(r'^\.\\" BEGIN (\w+) (\S+)\n(.*?)^\.\\" END\n', re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(\w+)` \| .*? \| (.*) \|$", re.MULTILINE)
_DEFAULT = re.compile(r"\s*\[(default: .*|with .*)\]$")


def commands(program: str) -> Iterator[tuple[str, click.Command]]:
    """Give every command of a program with its name: the program's own, then its subcommands'."""
    command = PROGRAMS[program]
    yield "", command
    if isinstance(command, click.Group):
        yield from ((name, each) for name, each in command.commands.items() if not each.hidden)


def options(command: click.Command) -> list[click.Option]:
    """Return the options of a command, --help among them."""
    found = command.get_params(click.Context(command, help_option_names=["-h", "--help"]))
    return [each for each in found if isinstance(each, click.Option) and not each.hidden]


def arguments(command: click.Command) -> list[click.Argument]:
    """Return the arguments of a command."""
    return [each for each in command.params if isinstance(each, click.Argument)]


def value(option: click.Option) -> str:
    """Return how the option's value is called, "" for a flag."""
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.metavar or (option.name or "").upper()


def _flag(name: str, metavar: str) -> str:
    return " ".join(
        ["Fl", mdoc.escape(name.removeprefix("-")), *([rf"Ar {mdoc.argument(metavar)}"] if metavar else [])]
    )


def _synopsis(program: str) -> Iterator[str]:
    for name, command in commands(program):
        if isinstance(command, click.Group):
            continue
        yield ".Nm"
        if name:
            yield f".Cm {mdoc.escape(name)}"
        for option in options(command):
            if "--help" in option.opts or "--version" in option.opts:
                continue
            longest = max(option.opts, key=len)
            repeated = r" ..." if option.multiple else ""
            yield f".Op {_flag(longest, value(option))}{repeated}"
        for argument in arguments(command):
            shown = mdoc.argument(_called(argument)) + (" ..." if argument.nargs < 0 else "")
            yield f".Ar {shown}" if argument.required else f".Op Ar {shown}"


def _called(argument: click.Argument) -> str:
    return re.sub(r"[][.]", "", argument.metavar or "") or (argument.name or "").upper()


def _commands(program: str) -> Iterator[str]:
    for name, command in commands(program):
        if not name:
            continue
        yield f".It Cm {mdoc.escape(name)}" + "".join(
            f" {'Ar' if each.required else 'Op Ar'} {mdoc.argument(_called(each))}{' ...' if each.nargs < 0 else ''}"
            for each in arguments(command)
        )
        yield from _help(command)
        mine = [each for each in options(command) if "--help" not in each.opts]
        if mine:
            yield ".Bl -tag -width Ds"
            for option in mine:
                yield from _option(option)
            yield ".El"


def _help(command: click.Command) -> Iterator[str]:
    names = {_called(each) for each in arguments(command)}
    parts = [part for part in mdoc.paragraphs(command.help or "") if not part.startswith("Exit status:")]
    for number, part in enumerate(parts):
        if number:
            yield ".Pp"
        yield from mdoc.prose(part, emphasis=names | {f"{name}s" for name in names})


def _option(option: click.Option) -> Iterator[str]:
    names = sorted(option.opts + option.secondary_opts, key=len)
    yield ".It " + " , ".join(_flag(name, value(option)) for name in names)
    text = (option.help or "").strip()
    note = _DEFAULT.search(text)
    text = _DEFAULT.sub("", text)
    yield from mdoc.prose(text if text.endswith(".") else f"{text}.", emphasis=[value(option)] if value(option) else [])
    if note:
        said = note[1] if note[1].startswith("default") else f"default {note[1]}"
        yield from mdoc.prose(f"D{said[1:]}.")
    elif option.show_default and option.default is not None:
        yield from mdoc.prose(f"Default: {option.default}.")


def _options(program: str) -> Iterator[str]:
    for option in options(PROGRAMS[program]):
        yield from _option(option)


def described(section: str) -> dict[str, str]:
    """Return the meaning of each key of a section ("" for the top level) as docs/configuration.md has it."""
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    parts = {part.partition("\n")[0].strip(" `[]"): part for part in text.split("\n## ")}
    return dict(_ROW.findall(parts[section or "Top level"]))


def _keys(section: str) -> Iterator[str]:
    """Give the items of the keys of ``section``: "top", one of SECTIONS, or jail.NAME."""
    classes = {"top": settings.Config, "jail.NAME": settings.Jail} | settings.SECTIONS
    meanings = described("" if section == "top" else section)
    for key in settings.keys(classes[section]):
        yield f".It Ic {key.name} No = Ic {mdoc.argument(toml_text.value(key.default))}"
        yield from mdoc.prose(meanings[key.name])
        yield from mdoc.prose(f"Allowed: {key.kind.allowed}.")


def _tokens(_: str) -> Iterator[str]:
    for kind in KINDS.values():
        yield rf".It Ic <{kind.name}>"
        field = f" It becomes the match's {kind.field}." if kind.field else ""
        most = f"; up to {kind.most} characters" if kind.most else ""
        yield from mdoc.prose(f"{kind.meaning[0].upper()}{kind.meaning[1:]}{most}.{field}")


def _services(_: str) -> Iterator[str]:
    yield from mdoc.prose(", ".join(f"{name} ({port})" for name, port in SERVICES.items()) + ".")


_KINDS: dict[str, Callable[[str], Iterator[str]]] = {
    "synopsis": _synopsis,
    "commands": _commands,
    "options": _options,
    "keys": _keys,
    "tokens": _tokens,
    "services": _services,
}


def page(text: str) -> str:
    """Return a page with its generated parts written anew."""

    def block(found: re.Match[str]) -> str:
        kind, name, _ = found.groups()
        return "\n".join([rf".\" BEGIN {kind} {name}", *_KINDS[kind](name), r".\" END", ""])

    return _BLOCK.sub(block, text)


def main() -> int:
    """Rewrite or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = 0
    for path in sorted(PAGES.iterdir()):
        text = path.read_text()
        new = page(text)
        if new != text:
            stale += 1
            print(f"{path.relative_to(CHECKOUT)}: {'out of date: run scripts/make_man.py' if check else 'rewritten'}")
            if not check:
                path.write_text(new)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
