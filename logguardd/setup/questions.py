"""What ``logguardctl setup`` asks at a terminal: a few questions, each with an answer to accept by Enter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import click

from logguardd import urls
from logguardd.errors import LogguarddError
from logguardd.setup import certificates, machine, plan, postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.config.settings import Config
    from logguardd.records import Network
    from logguardd.setup.run import Order


_T = TypeVar("_T")


def ask(order: Order, config: Config) -> Order:
    """Return the order completed by answers; what flags have said already is not asked."""
    click.echo("Enter accepts the answer in brackets. Nothing is changed before you have seen what.\n")
    order = _databases(order, config)
    order = _detection(order)
    order = _senders(order, config)
    return _tls(order, config)


def password(what: str) -> str:
    """Ask for a password without showing it."""
    text: str = click.prompt(what, hide_input=True, default="", show_default=False)
    return text


def _databases(order: Order, config: Config) -> Order:
    if not (order.embedded or order.postgres or order.postgres_admin):
        click.echo("Messages can be kept in an embedded database, which is enough for a few hosts, or in PostgreSQL.")
        now = "postgresql" if config.archive.url.startswith("postgres") else "embedded"
        if _choice("Where are they kept?", ("embedded", "postgresql"), now) == "postgresql":
            order = _postgres(order, config)
        elif now == "postgresql":
            order = replace(order, postgres=_default().archive.url)
    if not (order.embedded or order.redis):
        click.echo("Attackers are counted in memory, or, where several logguardd count together, in Redis.")
        now = "memory" if config.limiter.url.startswith("memory:") else "redis"
        if _choice("Where are they counted?", ("memory", "redis"), now) == "redis":
            order = _redis(order, config)
        elif now == "redis":
            order = replace(order, redis=_default().limiter.url)
    return order


def _default() -> Config:
    from logguardd.config.settings import Config  # noqa: PLC0415 - a name for types elsewhere

    return Config()


def _postgres(order: Order, config: Config) -> Order:
    if config.archive.url.startswith("postgres") and click.confirm(
        f"Keep {urls.redact(config.archive.url)}?", default=True
    ):
        return order
    click.echo("I can make role and database, given the URL of an administrator; `local` is this machine's server.")
    if click.confirm("Shall I make them?", default=True):
        admin = _until(_postgres_url, "Administrator's URL (postgresql://USER[:PASSWORD]@HOST/postgres)", "local")
        return replace(order, postgres_admin=admin)
    url = _until(_postgres_url, "URL of the database (postgresql://USER@HOST/DATABASE)", None)
    return replace(order, postgres=url, postgres_password=password("Its password (empty: none, or in the URL)"))


def _postgres_url(text: str) -> str:
    if text == "local":
        return postgres.LOCAL
    urls.check(text, ("postgresql", "postgres"))
    return text


def _redis(order: Order, config: Config) -> Order:
    if not config.limiter.url.startswith("memory:") and click.confirm(
        f"Keep {urls.redact(config.limiter.url)}?", default=True
    ):
        return order
    url = _until(_redis_url, "URL of Redis", "redis://127.0.0.1:6379/0")
    return replace(order, redis=url, redis_password=password("Its password (empty: none)"))


def _redis_url(text: str) -> str:
    urls.check(text, ("redis", "rediss", "unix"))
    return text


def _detection(order: Order) -> Order:
    if order.ssh:
        if clients := machine.ssh_clients():
            click.echo(f"You are logged in from {', '.join(map(str, clients))}: that is never banned.")
        else:
            click.echo("Where you are logged in from cannot be told; are you at the console?")
    more = _until(_networks, "Other networks that are never banned, such as your office's", "")
    return replace(order, allow=(*order.allow, *more))


def _senders(order: Order, config: Config) -> Order:
    if order.senders is None:
        now = " ".join(map(str, config.listen.allowed_senders))
        click.echo("Whoever may send can also write lines that get others banned: name your hosts' networks.")
        senders = _until(_networks, "Who may send (empty: everyone who reaches the port)", now)
        if senders != config.listen.allowed_senders:
            order = replace(order, senders=senders)
    return order


def _tls(order: Order, config: Config) -> Order:
    if not order.tls:
        click.echo("With TLS nobody in between reads or forges messages; I make the certificates, your hosts' too.")
        if not click.confirm("Receive over TLS?", default=bool(config.listen.tls)):
            return order
        order = replace(order, tls=True)
    place = certificates.paths(order.file)
    if not (order.names or place.server.exists() or certificates.own(config.tls, place)):
        pki = certificates.library()
        found = " ".join(machine.names())
        names = _until(
            lambda text: [pki.canonical(name) for name in text.split()], "Names and addresses of this server", found
        )
        order = replace(order, names=tuple(names))
    if order.follow_port is None and not config.http.follow:
        click.echo("Other hosts can block whom this one bans: their logguardd-firewall follows over HTTPS.")
        if not click.confirm(f"Let hosts with a certificate follow, at port {plan.FOLLOW_PORT}?", default=True):
            order = replace(order, follow_port=0)
    return order


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(plan.network(word) for word in text.replace(",", " ").split())


def _choice(text: str, words: tuple[str, ...], default: str) -> str:
    found: str = click.prompt(text, type=click.Choice(words), default=default)
    return found


def _until(read: Callable[[str], _T], text: str, default: str | None) -> _T:
    """Ask until the answer can be read."""
    while True:
        answer = click.prompt(text, default=default, show_default=bool(default))
        try:
            return read(answer)
        except (ValueError, LogguarddError) as error:
            click.echo(f"  {error}")
