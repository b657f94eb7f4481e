"""``logguardctl setup`` and ``logguardctl client-config``: their options."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logguardd import config
from logguardd.notation import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logguardd.records import Network
    from logguardd.setup.run import Order

_DRIVERS = ("ossl", "gtls")
_FORMATS = ("rainerscript", "legacy")
_file = click.option("--config", "file", metavar="FILE", help=f"The configuration  [default: {config.DEFAULT_PATH}]")


def _networks(_context: click.Context, _option: click.Parameter, values: Iterable[str]) -> tuple[Network, ...]:
    from logguardd.setup import plan  # noqa: PLC0415 - other commands need none of this

    found = []
    for value in values:
        try:
            found.append(plan.network(value))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is not an address or a network; allowed: such as 192.0.2.1 or 2001:db8::/32"
            ) from None
    return tuple(found)


@click.command()
@click.option("--embedded", is_flag=True, help="Keep messages in SQLite and count in memory: nothing else is needed.")
@click.option("--postgres", metavar="URL", help="Keep messages in this database, postgresql://ROLE@HOST/DATABASE.")
@click.option(
    "--postgres-admin",
    metavar="URL",
    help="Make role, database and schema with this login, postgresql://USER[:PASSWORD]@HOST/postgres, and use them; "
    "`local` is this machine's server, as its user postgres.",
)
@click.option(
    "--database", metavar="NAME", default="logs", show_default=True, help="With --postgres-admin: the database."
)
@click.option(
    "--role", metavar="NAME", default="logguardd", show_default=True, help="With --postgres-admin: the daemon's role."
)
@click.option(
    "--postgres-password-file",
    metavar="FILE",
    help="The role's password, - for standard input  [default: a random one]",
)
@click.option(
    "--postgres-reset-password", is_flag=True, help="With --postgres-admin: give an existing role a new password."
)
@click.option("--redis", metavar="URL", help="Count in this Redis, redis://HOST[:PORT]/DATABASE, rediss:// or unix://.")
@click.option("--redis-password-file", metavar="FILE", help="Its password, - for standard input.")
@click.option(
    "--firewall",
    type=click.Choice(["auto", "nftables", "iptables", "print"]),
    help="Where bans go  [default: as it is configured, else auto: what works here]",
)
@click.option(
    "--allow", callback=_networks, multiple=True, metavar="CIDR", help="Never ban this network; may be repeated."
)
@click.option(
    "--ssh-client/--no-ssh-client", "ssh", default=True, help="Never ban where you are logged in from  [default: yes]"
)
@click.option(
    "--senders",
    callback=_networks,
    multiple=True,
    metavar="CIDR",
    help="Only these networks may send; may be repeated.",
)
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    help="The port of UDP and TCP, 0 for neither  [default: as configured, 514]",
)
@click.option(
    "--tls", is_flag=True, help="Receive over TLS: make an authority and a certificate, ask hosts for theirs."
)
@click.option(
    "--tls-name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name or address of this server, for its certificate; may be repeated  [default: those that it has]",
)
@click.option("--tls-port", type=click.IntRange(0, MAX_PORT), help="The port of TLS  [default: 6514 with --tls]")
@click.option(
    "--follow-port",
    type=click.IntRange(0, MAX_PORT),
    help="Where other hosts' logguardd-firewall follows the bans, 0 for nowhere  [default: 9515 with --tls]",
)
@_file
@click.option("--yes", is_flag=True, help="Ask nothing, as without a terminal.")
@click.option("--force", is_flag=True, help="Change keys that stand in the configuration; a copy of it is kept.")
@click.option("--no-start", is_flag=True, help="Enable and start nothing.")
@click.pass_obj
def setup(options: Any, /, *, yes: bool, file: str | None, **flags: Any) -> None:
    """Set logguardd up on this machine: databases, firewall, certificates, configuration, units.

    At a terminal it asks what flags do not say; without one, or with --yes, flags say everything. It makes what is
    missing, tries everything, and only then writes the configuration; run again, it changes only what it is told to.
    """
    from logguardd.setup import questions, run  # noqa: PLC0415 - as above

    path = Path(file or options.file or config.DEFAULT_PATH).absolute()
    order = _order(path, **flags)
    before = run.look(path)
    ask = sys.stdin.isatty() and not yes
    if ask:
        order = questions.ask(order, before.config)
        click.echo()
    agree = (lambda what: click.confirm(what, default=True)) if ask else None
    _run(order, before, agree, ask=ask)
    click.echo("Done.")
    if order.tls:
        click.echo("For each host that sends: logguardctl client-config HOST | ssh root@HOST sh")


def _run(order: Order, before: Any, agree: Any, *, ask: bool) -> None:
    from logguardd.setup import postgres, questions, run  # noqa: PLC0415 - as above

    try:
        run.Setup(order, before, click.echo, agree).run()
    except postgres.NeedsPasswordError as error:
        if not ask:
            raise
        click.echo(str(error))
        password = questions.password(
            "Its password (empty: give it a new one, which others that use the role then need)"
        )
        order = replace(order, postgres_password=password, postgres_reset=not password)
        run.Setup(order, before, click.echo).run()


def _order(
    path: Path,
    *,
    postgres_admin: str | None,
    database: str,
    role: str,
    postgres_password_file: str | None,
    postgres_reset_password: bool,
    redis_password_file: str | None,
    senders: tuple[Network, ...],
    no_start: bool,
    **flags: Any,
) -> Order:
    from logguardd.setup import postgres, run, servers  # noqa: PLC0415 - as above

    for one, other in (("embedded", "postgres"), ("embedded", "redis")):
        if flags[one] and flags[other]:
            raise click.UsageError(f"--{one} and --{other} exclude each other")
    if postgres_admin and (flags["embedded"] or flags["postgres"]):
        raise click.UsageError("--postgres-admin excludes --embedded and --postgres")
    return run.Order(
        file=path,
        postgres_admin=postgres.LOCAL if postgres_admin == "local" else postgres_admin,
        wanted=postgres.Wanted(database, role),
        postgres_password=servers.password_from(postgres_password_file),
        postgres_reset=postgres_reset_password,
        redis_password=servers.password_from(redis_password_file),
        senders=senders or None,
        start=not no_start,
        **flags,
    )


@click.command("client-config")
@click.argument("host")
@click.option(
    "--server",
    metavar="NAME",
    default="",
    help="How the host calls this server: a name in its certificate  [default: the first one]",
)
@click.option(
    "--driver", type=click.Choice(_DRIVERS), default="ossl", show_default=True, help="rsyslog's TLS driver on the host."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="rainerscript",
    show_default=True,
    help="The snippet's syntax; legacy is that of rsyslog before 7.",
)
@click.option(
    "--output", metavar="DIR", help="Write a folder of files, with an install.sh, instead of printing a script."
)
@_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs that set hosts up.")
@click.pass_obj
def client_config(
    options: Any, /, *, host: str, file: str | None, output: str | None, as_json: bool, **more: Any
) -> None:
    """Make a certificate for HOST, and print what lets it send here over TLS.

    What is printed is the snippet for its rsyslog, the authority's certificate, its own with the private key, where
    each goes, and the two lines that let it follow the bans; and it is a shell script that puts all that into place:
    logguardctl client-config HOST | ssh root@HOST sh
    """
    from logguardd.setup import client  # noqa: PLC0415 - as above

    settings = config.find(file or options.file)
    made = client.make(settings, host, datetime.now(UTC), **more)
    if output:
        folder = Path(output)
        client.write(made, folder)
        click.echo(client.advice(made, folder), nl=False)
    elif as_json:
        click.echo(json.dumps(client.as_json(made), indent=2))
    else:
        click.echo(client.script(made), nl=False)
