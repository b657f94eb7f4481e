"""logguardctl replay: what these rules and jails would have made of what the journal or the archive holds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from logguardd import build, preflight, rule_commands, tables, urls
from logguardd.allowlist import Allowlist
from logguardd.archive import history as archived
from logguardd.errors import ConfigError
from logguardd.journal import history as journaled
from logguardd.notation import duration, printable, zone
from logguardd.records import SECOND
from logguardd.replay import Replay
from logguardd.web.control import ban_json, stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from logguardd.config.settings import Config
    from logguardd.records import Ban, Batch

#: Bans that a person is shown.
_SHOWN = 50
#: Seconds between two looks at how far it is.
_PROGRESS = 0.2


def moment(text: str, now: int) -> int:
    """Return the time of ``2h`` (before ``now``), ``2026-11-20`` or ``2026-11-20T14:00`` (local, or with a zone).

    Raises ConfigError for anything else.
    """
    try:
        return now - duration(text)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * SECOND)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f'"{printable(text)}" is no time; allowed: 2h (that long ago), 2026-11-20T14:00, or 2026-11-20T14:00:00Z'
        ) from None


def replay(
    settings: Config, files: Sequence[str], source: str, *, since: str, until: str | None, as_json: bool
) -> None:
    """Replay what was received from ``since`` until ``until`` (None: now) with the rules in ``files``, or configured."""
    now = time.time_ns() // 1000
    first, last = moment(since, now), now if until is None else moment(until, now)
    if first >= last:
        raise ConfigError("--since is not before --until")
    rules = rule_commands.load(settings, files)
    judged = Replay(
        rules,
        preflight.jails(settings),
        Allowlist(**build.protected(settings)),
        timezone=zone(settings.listen.timezone),
        max_clock_skew=settings.detection.max_clock_skew,
    )
    begun = time.monotonic()
    asyncio.run(_run(judged, settings, source, first, last))
    content = _content(judged, source, first, last, time.monotonic() - begun)
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        _show(judged, content)


async def _run(judged: Replay, settings: Config, source: str, first: int, last: int) -> None:
    shown = time.monotonic()
    console = Console(stderr=True) if sys.stderr.isatty() else None
    async for batch in _batches(settings, source, first, last):
        await judged.take(batch)
        if console is not None and time.monotonic() - shown > _PROGRESS:
            shown = time.monotonic()
            console.print(f"{judged.messages:,} messages, {tables.moment(stamp(judged.last))}", end="\r")
    if console is not None:
        console.print(" " * (console.width - 1), end="\r")


async def _batches(settings: Config, source: str, first: int, last: int) -> AsyncIterator[Batch]:
    if source == "journal":
        async for batch in journaled.batches(Path(urls.sqlite_path(settings.journal.url)), first, last):
            yield batch
        return
    archive = build.archive(settings)
    try:
        await archive.look()
        async for batch in archived.batches(archive, first, last):
            yield batch
    finally:
        await archive.close()


def _content(judged: Replay, source: str, first: int, last: int, seconds: float) -> dict[str, Any]:
    return {
        "source": source,
        "since": stamp(first),
        "until": stamp(last),
        "seconds": round(seconds, 3),
        "messages": judged.messages,
        "parse_errors": judged.unparsed,
        "first_received": stamp(judged.first) if judged.messages else None,
        "last_received": stamp(judged.last) if judged.messages else None,
        "claimed": dict(judged.claimed.most_common()),
        "hits": judged.hits,
        "bans_made": judged.made,
        "bans": [_ban(ban) for ban in judged.bans],
        "prevented": [{**_ban(ban), "protected": reason} for ban, reason in judged.prevented.values()],
    }


def _ban(ban: Ban) -> dict[str, object]:
    """Return a ban as the control socket shows it, but for what only one in force has."""
    shown = ban_json(ban, ban.since)
    del shown["active"], shown["remaining_seconds"]
    return shown


def _show(judged: Replay, content: dict[str, Any]) -> None:
    console = tables.console()
    console.print(
        f"{judged.messages:,} messages from the {content['source']}, received from {tables.moment(content['since'])} to "
        f"{tables.moment(content['until'])}, replayed in {content['seconds']:.1f} s. Nobody was banned for it.",
        soft_wrap=True,
    )
    hits = content["hits"]
    if judged.claimed or hits:
        names = sorted({*judged.claimed, *hits}, key=lambda name: (-hits.get(name, 0), -judged.claimed[name], name))
        rows = [(name, judged.claimed[name] or "-", hits.get(name, 0) or "-") for name in names]
        console.print(tables.table(("rule", "messages", "hits"), rows))
    if judged.bans:
        console.print(tables.table(_COLUMNS, map(_row, content["bans"][:_SHOWN])))
    if judged.prevented:
        kept = [{**item, "reason": f"{item['protected']}: {item['reason']}"} for item in content["prevented"][:_SHOWN]]
        console.print(tables.table(_COLUMNS, map(_row, kept), title="Not banned, as something protects them:"))
    more = max(judged.made - _SHOWN, 0) + max(len(judged.prevented) - _SHOWN, 0)
    console.print(
        f"{judged.made:,} bans would have been made." + (f" {more:,} are not shown; --json has them." if more else "")
    )


_COLUMNS = ("since", "until", "address", "port", "jail", "count", "reason")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    port = "all" if item["port"] == 0 else str(item["port"])
    times = (tables.moment(item["since"]), tables.moment(item["until"]))
    return (*times, item["network"], port, item["jail"], item["count"], item["reason"])
