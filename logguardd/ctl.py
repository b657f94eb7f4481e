"""logguardctl: ask the running daemon, ban and unban; try rules without it."""

from __future__ import annotations

import getpass
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from logguardd import __version__, config, exits, tables
from logguardd.client import Client
from logguardd.config.settings import Http
from logguardd.errors import ConfigError
from logguardd.notation import LONGEST_BAN, UNITS, duration, printable
from logguardd.setup.commands import client_config, setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from logguardd.config.settings import Config

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def _length(_context: click.Context, _option: click.Parameter, value: str) -> str | None:
    """Check a length of time; None is for ever."""
    if value == "forever":
        return None
    try:
        length = duration(value)
    except ValueError:
        raise click.BadParameter(f"{printable(value)} is not a duration; allowed: 10m, 1h30m, 7d, or forever") from None
    if not UNITS["s"] <= length <= LONGEST_BAN:
        raise click.BadParameter(f"{value} is out of range; allowed: 1s to {LONGEST_BAN // UNITS['d']}d, or forever")
    return value


class _Options:
    """The options before the subcommand."""

    def __init__(self, socket: str | None, file: str | None) -> None:
        self._socket = socket
        self.file = file

    def config(self) -> Config:
        """Return the configuration; errors in it that do not matter here are the daemon's business."""
        try:
            return config.examine(self.file)[0]
        except ConfigError:
            # The default file may be for the daemon's group only.
            if self.file is not None:
                raise
            return config.Config()

    def client(self) -> Client:
        """Return a client of the daemon."""
        return Client(self._socket or self.config().http.control)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    metavar="PATH",
    callback=exits.given,
    help=f"The daemon's control socket  [default: http.control, {Http().control}]",
)
@click.option(
    "--config",
    "file",
    metavar="FILE",
    callback=exits.given,
    help=f"The daemon's configuration  [default: {config.DEFAULT_PATH}, if it is there]",
)
@click.version_option(__version__, prog_name="logguardctl")
@click.pass_context
def command(context: click.Context, socket: str | None, file: str | None) -> None:
    """Look into a running logguardd, ban and unban, and try rules.

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    context.obj = _Options(socket, file)


@command.command()
@_json
@click.pass_obj
def status(options: _Options, *, as_json: bool) -> None:
    """Show what the daemon is doing: components, rates, lag, bans."""
    content = options.client().ask("GET", "status")
    _show(content, as_json, lambda: tables.status(content))


@command.command()
@click.argument("address", required=False)
@click.option("--all", "past", is_flag=True, help="Bans that have ended, too.")
@_json
@click.pass_obj
def bans(options: _Options, address: str | None, *, past: bool, as_json: bool) -> None:
    """List the bans in force, or those that cover ADDRESS (or lie in that network)."""
    query = ({"address": address} if address else {}) | ({"all": "true"} if past else {})
    content = options.client().ask("GET", "bans", query=query)
    found = content["bans"]
    if found or as_json:
        _show(content, as_json, lambda: [tables.bans(found)])
    else:
        click.echo(f"{printable(address)} is not banned." if address else "Nobody is banned.")


@command.command()
@click.argument("address")
@click.option("--port", type=click.IntRange(0, 65535), help="Only what concerns this destination port.")
@_json
@click.pass_obj
def why(options: _Options, address: str, port: int | None, *, as_json: bool) -> None:
    """Say why ADDRESS is banned, or why not.

    Shown are its bans, in force and past; how many hits each jail has counted within its window, and how many it allows;
    what protects it from bans; and the messages that came last about it.
    """
    query = {} if port is None else {"port": str(port)}
    content = options.client().ask("GET", "why", address, query=query)
    _show(content, as_json, lambda: tables.why(content))


@command.command()
@click.argument("address")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Only this destination port  [default: all]")
@click.option(
    "--for",
    "length",
    callback=_length,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="10m, 1h30m, 7d, or forever.",
)
@click.option("--reason", help="Why  [default: banned by USER]")
@_json
@click.pass_obj
def ban(options: _Options, address: str, port: int, length: str | None, reason: str | None, *, as_json: bool) -> None:
    """Ban ADDRESS, or a network.

    What the daemon protects (the allowlist, its own addresses, senders of logs, gateways, its databases) cannot be
    banned, not even so; it says which of these it is.
    """
    body: Mapping[str, object] = {
        "network": address,
        "port": port,
        "duration": length,
        "reason": reason or f"banned by {_who()}",
    }
    content = options.client().ask("POST", "bans", body=body)
    _show(content, as_json, lambda: [tables.bans([content["ban"]])])


@command.command()
@click.argument("address")
@click.option("--port", type=click.IntRange(0, 65535), help="Only the ban of this destination port.")
@_json
@click.pass_obj
def unban(options: _Options, address: str, port: int | None, *, as_json: bool) -> None:
    """End the bans that cover ADDRESS, those within a network, or `all`."""
    query = {} if port is None else {"port": str(port)}
    target = ("bans",) if address == "all" else ("bans", address)
    content = options.client().ask("DELETE", *target, query=query)
    _show(
        content, as_json, lambda: map(_unbanned, content["unbanned"]) if content["unbanned"] else ["Nobody is banned."]
    )


def _unbanned(item: Mapping[str, Any]) -> str:
    where = f"port {item['port']}" if item["port"] else "all ports"
    return printable(f"unbanned {item['network']} on {where}")


@command.command()
@_json
@click.pass_obj
def reload(options: _Options, *, as_json: bool) -> None:
    """Let the daemon read its configuration, rules and certificates again; on an error it keeps what it has."""
    content = options.client().ask("POST", "reload")
    _show(content, as_json, lambda: [printable(content["message"])])


@command.command()
@click.argument("message", required=False)
@click.option("--app-name", metavar="NAME", help="The program; MESSAGE is then what it says, without a syslog header.")
@click.option("--rules", "files", multiple=True, metavar="PATH", help="Rules to try instead of the configured ones.")
@_json
@click.pass_obj
def explain(
    options: _Options, message: str | None, app_name: str | None, files: tuple[str, ...], *, as_json: bool
) -> None:
    """Say which rule claims MESSAGE, what it finds in it, and which jails count that.

    MESSAGE is a whole syslog line, as it is sent or as it stands in a log file; without it every line of standard
    input is explained.
    """
    if app_name is not None and message is None:
        raise click.UsageError("--app-name needs a MESSAGE; on standard input stand whole syslog lines")
    from logguardd import rule_commands  # noqa: PLC0415 - asking a daemon needs no grammar

    rule_commands.explain(options.config(), files, app_name, message, as_json=as_json)


@command.command("test-rules")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--verbose", "-v", is_flag=True, help="Show what was found in each example.")
@_json
@click.pass_obj
def test_rules(options: _Options, files: tuple[str, ...], *, verbose: bool, as_json: bool) -> None:
    """Run the examples of the configured rules, or of those in FILEs and folders."""
    from logguardd import rule_commands  # noqa: PLC0415 - as above

    rule_commands.test_rules(options.config(), files, verbose=verbose, as_json=as_json)


@command.command()
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="2h (that long ago), 2026-11-20 or 2026-11-20T14:00.",
)
@click.option("--until", metavar="TIME", help="The end, likewise  [default: now]")
@click.option(
    "--from", "source", type=click.Choice(["journal", "archive"]), default="journal", show_default=True,
    help="Where the messages are; the archive keeps them for longer.",
)  # fmt: skip
@click.option("--rules", "files", multiple=True, metavar="PATH", help="Rules to try instead of the configured ones.")
@_json
@click.pass_obj
def replay(
    options: _Options, since: str, until: str | None, source: str, files: tuple[str, ...], *, as_json: bool
) -> None:
    """Show whom these rules and jails would have banned.

    What was received is read again from the journal or the archive and judged with the configured rules, jails and
    allowlist (those of another --config, to try jails), on the time of receipt. The daemon is not asked, and nobody is
    banned.
    """
    from logguardd import replay_command  # noqa: PLC0415 - as above

    replay_command.replay(options.config(), files, source, since=since, until=until, as_json=as_json)


command.add_command(setup)
command.add_command(client_config)


def _show(content: Mapping[str, Any], as_json: bool, render: Callable[[], Iterable[object]]) -> None:  # noqa: FBT001 - an option
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    console = tables.console()
    for number, each in enumerate(render()):
        if number and not isinstance(each, str):
            console.print()
        console.print(each)


def _who() -> str:
    with suppress(OSError, KeyError):
        return printable(os.environ.get("SUDO_USER") or getpass.getuser())
    return f"user {os.getuid()}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(exits.run(command, "logguardctl", argv))


if __name__ == "__main__":
    main()
