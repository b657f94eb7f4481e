"""logguardd-firewall: the privileged program that puts a daemon's bans into the kernel."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logguardd import __version__, config, exits, log, notify
from logguardd.errors import FirewallError
from logguardd.firewall.backends import choose, remove_all, require_privilege, show_all
from logguardd.firewall.follower import Follower
from logguardd.firewall.guard import Guard
from logguardd.firewall.printer import DIALECTS, Printer
from logguardd.firewall.sources import Certificates, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from logguardd.firewall.backends import Backend
    from logguardd.firewall.sources import Source
    from logguardd.records import Network

_log = logging.getLogger(__name__)

_BACKENDS = ("auto", "nftables", "iptables", "print")
_FILES = Certificates()


def _networks(_context: click.Context, _option: click.Parameter, values: Iterable[str]) -> list[Network]:
    networks: list[Network] = []
    for value in values:
        try:
            networks.append(ip_network(value, strict=False))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is not an address or a network; allowed: such as 192.0.2.1 or 2001:db8::/32"
            ) from None
    return networks


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--follow",
    "source",
    metavar="SOURCE",
    envvar="LOGGUARDD_FOLLOW",
    help="unix:PATH of the daemon's control socket, or https://HOST[:9515] of another host's http.follow"
    "  [default: unix: and http.control]",
)
@click.option(
    "--ca",
    metavar="FILE",
    envvar="LOGGUARDD_CA",
    default=_FILES.ca,
    show_default=True,
    help="With https: the authority that signed the server's certificate, PEM.",
)
@click.option(
    "--cert",
    metavar="FILE",
    envvar="LOGGUARDD_CERT",
    default=_FILES.certificate,
    show_default=True,
    help="With https: this host's certificate, PEM.",
)
@click.option(
    "--key",
    metavar="FILE",
    envvar="LOGGUARDD_KEY",
    default=_FILES.private_key,
    show_default=True,
    help="With https: its private key, PEM.",
)
@click.option(
    "--backend",
    type=click.Choice(_BACKENDS),
    envvar="LOGGUARDD_BACKEND",
    help="Where bans go  [default: firewall.backend]",
)
@click.option(
    "--config",
    "file",
    metavar="FILE",
    callback=exits.given,
    help=f"The configuration  [default: {config.DEFAULT_PATH}, if it is there]",
)
@click.option(
    "--output", metavar="FILE", help="Where print writes to, - for standard output  [default: firewall.output]"
)
@click.option(
    "--dialect",
    type=click.Choice(tuple(DIALECTS)),
    default="nftables",
    show_default=True,
    help="Whose commands print writes.",
)
@click.option(
    "--never",
    callback=_networks,
    multiple=True,
    metavar="CIDR",
    envvar="LOGGUARDD_NEVER",
    help="Never ban this network; may be repeated.",
)
@click.option("--once", is_flag=True, help="Bring the kernel in step with the daemon once and end.")
@click.option("--list", "show", is_flag=True, help="Show what is in the kernel and end.")
@click.option("--flush", is_flag=True, help="Remove every ban, table, chain and set of ours from the kernel and end.")
@click.version_option(__version__, prog_name="logguardd-firewall")
def command(ca: str, cert: str, key: str, **options: Any) -> None:
    """Follow the logguardd daemon and keep the kernel's firewall in step with its bans.

    Needs CAP_NET_ADMIN, except to print. Ends on SIGTERM or SIGINT and leaves the bans in the kernel, which ends them
    by itself; without the daemon they stay in force too.

    The options --follow, --ca, --cert, --key, --backend and --never may stand in the environment too, as
    LOGGUARDD_FOLLOW and so on.

    Exit status: 0 ended as asked, 1 failed, 2 wrong usage or configuration.
    """
    settings = _settings(options["file"])
    log.configure(settings.log_level, settings.log_format)
    log.catch()
    _start(settings, certificates=Certificates(ca, cert, key), **options)


def _settings(file: str | None) -> config.Config:
    if file is None and not Path(config.DEFAULT_PATH).exists():
        return config.Config()
    return config.load(file or config.DEFAULT_PATH)


def _start(
    settings: config.Config,
    *,
    source: str | None,
    certificates: Certificates,
    backend: str | None,
    output: str | None,
    dialect: str,
    never: Iterable[Network],
    once: bool,
    show: bool,
    flush: bool,
    file: str | None,  # noqa: ARG001 - read already
) -> None:
    output = output or settings.firewall.output
    if flush and backend == "print":
        _run(Printer(output, dialect).flush())
        return
    if show or flush:
        require_privilege()
        _run(_list() if show else _flush())
        return
    backend = backend or settings.firewall.backend
    feed = parse_source(source or f"unix:{settings.http.control}", certificates)
    if backend != "print":
        require_privilege()
    _run(_follow(feed, lambda: _firewall(backend, output, dialect), Guard(never), once=once))


async def _firewall(backend: str, output: str, dialect: str) -> Backend | Printer:
    if backend == "print":
        return Printer(output, dialect)
    chosen = await choose(backend)
    for problem in await remove_all(keep=chosen):
        _log.warning("removing what another backend left behind: %s", problem)
    return chosen


async def _follow(
    source: Source,
    firewall: Callable[[], Coroutine[None, None, Backend | Printer]],
    guard: Guard,
    *,
    once: bool,
) -> None:
    chosen = await firewall()
    follower = Follower(source, chosen, guard, lambda: time.time_ns() // 1000, notify.status)
    if once:
        await follower.once()
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, follower.stop)
    # By their default, they would end us, and systemd would not start us again.
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, _log.info, "%s: there is nothing to reload", number.name)
    watching = asyncio.create_task(notify.watch())
    notify.ready(f"waiting for {source}")
    try:
        await follower.run()
    finally:
        watching.cancel()
        notify.stopping()
        await chosen.close()
    _log.info("ended; bans stay in the kernel until they expire")


async def _list() -> None:
    click.echo(await show_all(), nl=False)


async def _flush() -> None:
    problems = await remove_all()
    if problems:
        raise FirewallError("; ".join(problems))


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 - faster, but not needed
    except ImportError:
        asyncio.run(coroutine)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(exits.run(command, "logguardd-firewall", argv))


if __name__ == "__main__":
    main()
