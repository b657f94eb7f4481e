"""What tomllib does not give: the line on which a key stands, and values written as TOML."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_KEY})[ \t]*\]")
_PAIR = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
# The pieces of a value: strings whole, since brackets and line ends inside them mean nothing.
_PIECE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[{\]}\n]"
    r"|[^\[{\]}\n#\"']+",
    re.DOTALL,
)


class Entry(NamedTuple):
    """A table header or a key: its whole path, its line from 1, where what follows it begins and where that ends."""

    path: tuple[str, ...]
    header: bool
    line: int
    start: int
    end: int


def entries(text: str) -> Iterator[Entry]:
    """Yield every table header and key of ``text``, which tomllib has accepted; none of those inside inline tables.

    What follows a key is its value, with the rest of the last line of that, its end included.
    """
    table: tuple[str, ...] = ()
    position = 0
    line = 1
    while position < len(text):
        start = position
        path = None
        header = _HEADER.match(text, position)
        if header:
            path = table = _path(header[1])
            start = header.end()
        elif pair := _PAIR.match(text, position):
            path = table + _path(pair[1])
            start = pair.end()
        end = _end_of_value(text, start)
        if path is not None:
            yield Entry(path, bool(header), line, start, end)
        line += text.count("\n", position, end)
        position = end


def lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line, from 1, of every table header and key of ``text``, which tomllib has accepted.

    Keys inside inline tables are left out: a reader falls back to the key that holds the table.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for entry in entries(text):
        if entry.header:
            table = entry.path
            found.setdefault(entry.path, entry.line)
        else:
            # A dotted key makes the tables on its way.
            for depth in range(len(table) + 1, len(entry.path) + 1):
                found.setdefault(entry.path[:depth], entry.line)
    return found


def twice(error: str, line: str) -> str | None:
    """Return the key or table of a line if tomllib's ``error`` says that it stands there for the second time."""
    if not error.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate", "Cannot redefine")):
        return None
    found = _HEADER.match(line) or _PAIR.match(line)
    return found[1] if found else None


def _path(key: str) -> tuple[str, ...]:
    """Split a dotted key, by letting tomllib read it."""
    found: list[str] = []
    table: object = tomllib.loads(f"{key} = 0")
    while isinstance(table, dict):
        name, table = next(iter(table.items()))
        found.append(name)
    return tuple(found)


def _end_of_value(text: str, position: int) -> int:
    """Return where the line that ``position`` is on ends, brackets closed."""
    depth = 0
    while piece := _PIECE.match(text, position):
        position = piece.end()
        match piece[0][0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth <= 0:
                return position
    return len(text)


def value(item: object) -> str:
    """Return ``item`` (str, bool, int, float, list, tuple, mapping) as a TOML value on one line."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int | float):
        return str(item)
    if isinstance(item, str):
        # JSON's escapes are a subset of TOML's, except that TOML wants DEL escaped too.
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(item, list | tuple):
        return "[" + ", ".join(value(each) for each in item) + "]"
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key_text(key)} = {value(each)}" for key, each in item.items()) + "}"
    raise TypeError(f"TOML has no {type(item).__name__}")


def key_text(key: str) -> str:
    """Return ``key`` as it is written in TOML: bare where that is possible, else quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value(key)


def table(header: str, items: Mapping[str, object]) -> str:
    """Return a table with its header (none for the top level) and a key on every line."""
    head = f"[{header}]\n" if header else ""
    return head + "".join(f"{key_text(key)} = {value(item)}\n" for key, item in items.items())
