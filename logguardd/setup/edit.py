"""Set keys in a configuration file and leave everything else in it as it is, comments and all; pure."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import TYPE_CHECKING, Any

from logguardd.config import toml_text
from logguardd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Section and key.
Place = tuple[str, str]

_COMMENT = re.compile(r"[ \t]*#[^\n]*$")


def put(text: str, changes: Mapping[Place, object]) -> str:
    """Return ``text``, TOML, with these keys set to these values.

    A key that stands there gets its new value in place; one that is commented out as ``#key = ...`` loses the mark; else
    it is added to its section. Raises ConfigError if the file is written in a way that this cannot change.
    """
    wanted: dict[str, Any] = copy.deepcopy(tomllib.loads(text))
    new = text
    for (section, key), value in changes.items():
        if not isinstance(wanted.setdefault(section, {}), dict):
            raise ConfigError(f"{section} is not a table; allowed: [{section}]")
        wanted[section][key] = list(value) if isinstance(value, tuple) else value
        new = _put(new, section, key, value)
    try:
        reached = tomllib.loads(new)
    except tomllib.TOMLDecodeError:
        reached = {}
    if reached != wanted:
        names = ", ".join(f"{section}.{key}" for section, key in changes)
        raise ConfigError(f"the file is written in a way that cannot be changed here; set by hand: {names}")
    return new


def _put(text: str, section: str, key: str, value: object) -> str:
    written = toml_text.value(value)
    found = list(toml_text.entries(text))
    for entry in found:
        if entry.path == (section, key) and not entry.header:
            old = text[entry.start : entry.end]
            end = "\n" if old.endswith("\n") else ""
            remark = _COMMENT.search(old.removesuffix("\n")) if _plain(old) else None
            return text[: entry.start] + f" {written}{remark[0] if remark else ''}{end}" + text[entry.end :]
    line = f"{toml_text.key_text(key)} = {written}\n"
    header = next((entry for entry in found if entry.header and entry.path == (section,)), None)
    if header is None:
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{section}]\n{line}"
    # The section goes on until the next header.
    stop = next((text.rfind("\n", 0, e.start) + 1 for e in found if e.header and e.start > header.start), len(text))
    body = text[header.end : stop]
    if commented := re.search(rf"^#{re.escape(key)} = .*\n?", body, re.MULTILINE):
        return text[: header.end + commented.start()] + line + text[header.end + commented.end() :]
    last = max([header.end, *(entry.end for entry in found if not entry.header and header.end <= entry.start < stop)])
    before = text[:last]
    return before + ("" if before.endswith("\n") else "\n") + line + text[last:]


def _plain(value: str) -> bool:
    """Whether a # in this value begins a comment for sure."""
    return value.count("\n") <= 1 and '"' not in value.partition("#")[2] and "'" not in value.partition("#")[2]
