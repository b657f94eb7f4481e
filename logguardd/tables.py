"""What logguardctl shows to people: tables, on a terminal in colour. Texts come from the wire, so none is markup."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from logguardd.notation import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_COLORS = {"up": "green", "degraded": "yellow", "down": "red"}
# So that what stands in one row stays in one line: who reads a pipe looks for lines.
_PIPE_WIDTH = 2000
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def console() -> Console:
    """Return a console for standard output; into a pipe it writes lines as long as they come."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def span(seconds: float) -> str:
    """Return a length of time in its two largest units, for example ``4m 12s``."""
    left = int(seconds)
    parts = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2]) or "0s"


def moment(stamp: object) -> str:
    """Return an RFC 3339 stamp in local time, to the second."""
    try:
        return datetime.fromisoformat(str(stamp)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return str(stamp)


def table(
    columns: Iterable[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    header: bool = True,
    whole: Sequence[str] = (),
) -> Table:
    """Return a table of texts; what stands in the columns ``whole`` is not broken on a narrow terminal."""
    made = Table(
        box=SIMPLE_HEAD if header else None,
        show_header=header,
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        made.add_row(*(_cell(each) for each in row))
    return made


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, float):
        return Text(f"{value:,.1f}")
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(f"{value:,}")
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return Text(printable(str(value)))


def bans(items: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of ``logguardctl bans``."""
    rows = []
    for item in items:
        left = "for ever" if item["until"] is None else span(item["remaining_seconds"])
        rows.append(
            (
                item["network"],
                "all" if item["port"] == 0 else str(item["port"]),
                item["jail"],
                moment(item["since"]),
                left if item["active"] else f"ended {moment(item['until'])}",
                item["count"],
                item["reason"],
            )
        )
    return table(("address", "port", "jail", "since", "left", "count", "reason"), rows, whole=("address", "port"))


def why(content: Mapping[str, Any]) -> list[str | Table]:
    """Return what ``logguardctl why`` shows: a sentence, its reason, and tables of bans, counts and messages."""
    address, found = content["address"], content["bans"]
    if content["banned"]:
        ban = next(item for item in found if item["active"])
        where = f"port {ban['port']}" if ban["port"] else "all ports"
        left = "for ever" if ban["until"] is None else f"for {span(ban['remaining_seconds'])} more"
        first = f"{address} is banned on {where}, {left}: {ban['reason']}"
    elif content["protected"]:
        first = f"{address} is never banned: {content['protected']}"
    else:
        first = f"{address} is not banned."
    shown: list[str | Table] = [printable(first)]
    if content["archive"]:
        shown.append(printable(f"The archive does not tell its messages: {content['archive']}"))
    if found:
        shown.append(bans(found))
    counting = [
        (
            item["jail"],
            item["network"],
            str(item["port"] or "all"),
            item["hits"],
            f"{item['threshold']:,} in {span(item['window_seconds'])}",
        )
        for item in content["counting"]
    ]
    shown.append(table(("jail", "counts together", "port", "hits now", "allowed"), counting))
    if content["messages"]:
        columns = ("received", "host", "program", "rule", "message")
        lines = [
            (moment(item["received"]), item["sender"], item["program"] or "-", item["rule"] or "-", item["message"])
            for item in content["messages"]
        ]
        shown.append(table(columns, lines))
    return shown


def status(content: Mapping[str, Any]) -> list[Table]:
    """Return the tables of ``logguardctl status``: the components, the plain values, and one for each mapping."""
    shown: list[Table] = []
    components = content.get("components")
    if isinstance(components, dict):
        rows = [
            (name, Text(str(c.get("state")), style=_COLORS.get(str(c.get("state")), "")), c.get("detail", ""))
            for name, c in components.items()
        ]
        shown.append(table(("component", "state", ""), rows))
    plain = []
    for name, value in content.items():
        if name == "uptime_seconds":
            plain.append(("uptime", span(value)))
        elif name == "pid":
            plain.append((name, str(value)))
        elif name == "started":
            plain.append((name, moment(value)))
        elif not isinstance(value, dict):
            plain.append((_words(name), value))
    if plain:
        shown.insert(0, table(("logguardd", ""), plain))
    for name, value in content.items():
        if isinstance(value, dict) and value and name != "components":
            shown.append(_mapping(_words(name), value))
    return shown


def _mapping(name: str, content: Mapping[str, Any]) -> Table:
    """Return a table of a mapping: of its values, or where these are mappings alike, a row each."""
    if all(isinstance(value, dict) for value in content.values()):
        columns = list(dict.fromkeys(key for value in content.values() for key in value))
        rows = [(key, *(value.get(column, "") for column in columns)) for key, value in content.items()]
        return table((name, *map(_words, columns)), rows)
    return table((name, ""), [(_words(key), value) for key, value in content.items()])


def _words(name: str) -> str:
    return name.replace("_", " ")
