"""logguardd: run the daemon, check and print its configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logguardd import __version__, config, exits, log, preflight
from logguardd.errors import ConfigError
from logguardd.welcome import welcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logguardd.config.settings import Config

_file = click.option(
    "--config",
    "file",
    metavar="FILE",
    callback=exits.given,
    help=f"The configuration  [default: {config.DEFAULT_PATH}, if it is there]",
)
_embedded = click.option(
    "--embedded",
    metavar="DIR",
    callback=exits.given,
    help="Run without a configuration, as an ordinary user: ports 5514, everything that is written in DIR.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="logguardd")
def command() -> None:
    """Receive syslog, keep every message, and ban who attacks.

    Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
    """


@command.command()
@_file
@_embedded
@click.option("--daemonize", is_flag=True, help="Go to the background once everything is up.")
@click.option(
    "--pidfile",
    metavar="FILE",
    callback=exits.given,
    help="With --daemonize: a file for the process id; no second daemon starts on it.",
)
@click.option("--user", metavar="USER", help="Become this user after the ports are open  [with --daemonize: user]")
@click.option("--group", metavar="GROUP", help="Become this group, too  [default: group, or the user's own]")
def run(
    file: str | None, embedded: str | None, *, daemonize: bool, pidfile: str | None, user: str | None, group: str | None
) -> int:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration and the rules."""
    if pidfile and not daemonize:
        raise click.UsageError(
            "--pidfile goes with --daemonize; in the foreground the service manager knows the process"
        )
    settings = _load(file, embedded)
    if embedded:
        _make(Path(settings.embedded))
    log.configure(settings.log_level, settings.log_format)
    if not (daemonize or user or group):
        greeting = welcome(settings) if embedded else ""  # beforehand, as it may wait for the resolver
        return _main(settings, lambda: click.echo(greeting) if greeting else None)

    # The daemon is loaded now, while we may still read its files wherever they are.
    from logguardd import app  # noqa: F401, PLC0415 - checking a configuration needs neither
    from logguardd import daemonize as daemons  # noqa: PLC0415

    stay = os.geteuid() != 0 and not (user or group)
    owner = daemons.myself() if stay else daemons.account(settings, user, group)
    if daemonize:
        pidfile = str(Path(pidfile).absolute()) if pidfile else None
        return daemons.detached(settings, owner, pidfile, _main)
    return daemons.foreground(settings, owner, _main)


@command.command("check-config")
@_file
@_embedded
def check_config(file: str | None, embedded: str | None) -> int:
    """Find every error of the configuration, the rules and the certificates, without starting anything."""
    _exclude(file, embedded)
    if embedded and Path(embedded).exists() and not Path(embedded).is_dir():
        raise ConfigError(_no_folder(embedded, "not a folder"))
    settings, problems = (config.embedded(embedded), []) if embedded else config.examine(_path(file))
    errors = [str(problem) for problem in problems]
    findings = preflight.check(settings, problems)
    for line in findings.warnings:
        exits.complain("warning", line)
    if errors or findings.errors:
        exits.complain("logguardd", "\n".join(errors + findings.errors))
        return exits.WRONG
    listen, rules = settings.listen, findings.rules.texts if findings.rules else ()
    listeners = len(listen.udp) + len(listen.tcp) + len(listen.tls) + len(listen.relp)
    jails = sum(jail.enabled for jail in settings.jail.values())
    examples = sum(len(rule.examples) + len(rule.ignores) for rule in rules)
    source = settings.source or "built-in defaults"
    click.echo(f"OK: {source}: {listeners} listeners, {len(rules)} rules with {examples} examples, {jails} jails")
    return exits.DONE


@command.command("print-config")
@_file
@_embedded
def print_config(file: str | None, embedded: str | None) -> None:
    """Print the configuration in force as TOML: the file's values and all defaults; passwords are shown as ***."""
    click.echo(config.show(_load(file, embedded)), nl=False)


def _load(file: str | None, embedded: str | None) -> Config:
    _exclude(file, embedded)
    return config.embedded(embedded) if embedded else config.find(_path(file))


def _exclude(file: str | None, embedded: str | None) -> None:
    if file and embedded:
        raise click.UsageError("--config and --embedded exclude each other")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        what = "not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise ConfigError(_no_folder(str(folder), what or str(error))) from None


def _no_folder(path: str, what: str) -> str:
    return f"--embedded: {path}: {what}; allowed: a folder, or the path of a new one"


def _path(file: str | None) -> str | None:
    # Absolute, since a daemon reads it again from elsewhere.
    return str(Path(file).absolute()) if file else None


def _main(settings: Config, on_ready: Callable[[], None]) -> int:
    from logguardd import app  # noqa: PLC0415 - as above

    log.catch()
    return app.run(settings, on_ready=on_ready)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(exits.run(command, "logguardd", argv))


if __name__ == "__main__":
    main()
