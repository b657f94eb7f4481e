"""The run of ``logguardctl setup``: look, say what would change, then servers, certificates, configuration, units.

Everything that can fail for a reason of the operator's is tried before the configuration is written, and everything
is left alone that is right already: a second run changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd import config as configurations
from logguardd import preflight, urls
from logguardd.client import Client
from logguardd.errors import ConfigError, LogguarddError
from logguardd.setup import certificates, edit, files, machine, plan, postgres, servers, units
from logguardd.setup.plan import Wishes
from logguardd.setup.postgres import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logguardd.config.settings import Config
    from logguardd.records import Network
    from logguardd.setup.plan import Change

#: Seconds until a daemon that was started has to answer.
_START = 30.0
_LOOK = 0.2
_OURS = frozenset({"systemd", "logguardd"})


@dataclass(frozen=True, slots=True)
class Order:
    """What to set up. Passwords stand apart from URLs; ``firewall`` may be "auto"; None leaves what is there.

    ``ssh`` says to allow the administrator's own address. ``names`` are for the server's certificate.
    """

    file: Path
    embedded: bool = False
    postgres: str | None = None
    postgres_admin: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    postgres_password: str = field(default="", repr=False)
    postgres_reset: bool = False
    redis: str | None = None
    redis_password: str = field(default="", repr=False)
    firewall: str | None = None
    allow: tuple[Network, ...] = ()
    ssh: bool = True
    senders: tuple[Network, ...] | None = None
    port: int | None = None
    tls: bool = False
    names: tuple[str, ...] = ()
    tls_port: int | None = None
    follow_port: int | None = None
    force: bool = False
    start: bool = True


@dataclass(frozen=True, slots=True)
class Before:
    """The configuration as it is found: its text (the shipped one where there is none) and what it means."""

    text: str
    config: Config
    exists: bool


def look(file: Path) -> Before:
    """Read the configuration that there is; raise ConfigError with what is wrong in it."""
    exists = file.exists()
    if exists:
        text = configurations.read(str(file))
        return Before(text, configurations.parse(text, str(file)), exists)
    text = resources("logguardd.setup").joinpath("logguardd.toml").read_text(encoding="utf-8")
    return Before(text, replace(configurations.Config(), source=str(file)), exists)


class Setup:
    """One run. ``say`` takes lines for the operator, ``agree`` asks whether to go on (None: nobody can be asked)."""

    def __init__(
        self, order: Order, before: Before, say: Callable[[str], object], agree: Callable[[str], bool] | None = None
    ) -> None:
        self._order = order
        self._before = before
        self._say = say
        self._agree = agree
        self._place = certificates.paths(order.file)
        name = before.config.group or before.config.user
        self._group = files.group_id(name)
        if self._group is None and os.geteuid() == 0:
            say(f"there is no group {name}: what is secret can be read by root only")

    def run(self) -> Config:
        """Set everything up; return the new configuration. Raises LogguarddError; NeedsPasswordError among that."""
        wishes = asyncio.run(self._wishes())
        found = plan.changes(self._before.config, wishes)
        self._check_names()
        self._permit(found)
        new = configurations.parse(edit.put(self._before.text, plan.as_mapping(found)), str(self._order.file))
        self._check_ports(new)
        wishes = asyncio.run(self._servers(wishes))
        renewed = self._certificates(wishes)
        found = plan.changes(self._before.config, wishes)
        text = edit.put(self._before.text, plan.as_mapping(found))
        new = configurations.parse(text, str(self._order.file))
        self._check(new)
        written = self._write(text)
        self._units(new, restart=written, reload=renewed)
        return new

    async def _wishes(self) -> Wishes:
        """Return what the configuration is to say; the daemon's URL of a database that is yet to be made without password."""
        order, config = self._order, self._before.config
        wishes = Wishes(order.embedded, allow=order.allow, senders=order.senders, port=order.port)
        wishes = replace(wishes, postgres=order.postgres, redis=order.redis)
        if order.postgres is not None:
            wishes = replace(wishes, postgres=servers.with_password(order.postgres, order.postgres_password))
        if order.postgres_admin is not None:
            url = postgres.runtime_url(order.postgres_admin, order.wanted, "")
            wishes = replace(wishes, postgres=config.archive.url if postgres.same(config.archive.url, url) else url)
        if order.redis is not None:
            wishes = replace(wishes, redis=servers.with_password(order.redis, order.redis_password))
        if order.ssh:
            wishes = replace(wishes, allow=(*order.allow, *map(plan.network, map(str, machine.ssh_clients()))))
        if order.firewall not in (None, "auto"):
            wishes = replace(wishes, firewall=order.firewall)
        elif order.firewall == "auto" or ("firewall", "backend") not in config.lines:
            backend, reasons = await machine.working_firewall()
            for reason in reasons:
                self._say(reason)
            wishes = replace(wishes, firewall=backend)
        return self._tls_wishes(wishes)

    def _tls_wishes(self, wishes: Wishes) -> Wishes:
        order, config = self._order, self._before.config
        if not order.tls:
            return replace(wishes, tls_port=order.tls_port, follow_port=order.follow_port)
        tls_port = order.tls_port if order.tls_port is not None or config.listen.tls else plan.TLS_PORT
        follow_port = order.follow_port if order.follow_port is not None or config.http.follow else plan.FOLLOW_PORT
        wishes = replace(wishes, tls_port=tls_port, follow_port=follow_port)
        if certificates.own(config.tls, self._place):
            return wishes
        place = self._place
        return replace(wishes, certificates=(str(place.server), str(place.server_key), str(place.ca)))

    def _check_names(self) -> None:
        if self._order.tls and not certificates.own(self._before.config.tls, self._place):
            pki = certificates.library()
            for name in self._order.names:
                pki.canonical(name)

    def _permit(self, found: Sequence[Change]) -> None:
        """Ask, or be told by --force, before what an operator wrote is changed."""
        for change in found:
            self._say(f"{self._order.file}: {change}")
        mine = self._before.exists and not plan.untouched(self._before.config, found)
        if self._agree is not None:
            what = "A copy of the file is kept. Go on?" if mine else "Go on?"
            if not self._agree(what):
                raise LogguarddError("nothing was changed")
        elif mine and not self._order.force:
            raise ConfigError(
                f"{self._order.file}: has these keys already; --force changes them and keeps a copy of the file"
            )

    def _check_ports(self, new: Config) -> None:
        listen = new.listen
        for key, places in (
            ("udp", listen.udp),
            ("tcp", listen.tcp),
            ("tls", listen.tls),
            ("follow", [new.http.follow]),
        ):
            for port in filter(None, map(plan.port_of, places)):
                holders = machine.port_holders(port, "udp" if key == "udp" else "tcp")
                if set(holders) - _OURS:
                    option = {"tls": "--tls-port", "follow": "--follow-port"}.get(key, "--port")
                    kind = "UDP" if key == "udp" else "TCP"
                    raise ConfigError(
                        f"{kind} port {port} is held by {', '.join(holders)}: let it give the port up, or take another one"
                        f" with {option}"
                    )

    async def _servers(self, wishes: Wishes) -> Wishes:
        """Make what is missing in PostgreSQL, and try both servers."""
        order = self._order
        if order.postgres_admin is not None:
            url = await postgres.prepare(
                order.postgres_admin,
                order.wanted,
                current=self._before.config.archive.url,
                password=order.postgres_password,
                reset=order.postgres_reset,
            )
            wishes = replace(wishes, postgres=url)
            self._say(f"PostgreSQL is ready: {urls.redact(url)}")
        elif order.postgres is not None and wishes.postgres:
            await postgres.check(wishes.postgres, self._before.config.user)
            self._say(f"PostgreSQL is ready: {urls.redact(wishes.postgres)}")
        if wishes.redis:
            await servers.check_redis(wishes.redis)
            self._say(f"Redis is ready: {urls.redact(wishes.redis)}")
        return wishes

    def _certificates(self, wishes: Wishes) -> bool:
        if wishes.certificates is None:
            return False
        names = self._order.names or (() if self._place.server.exists() else machine.names())
        done = certificates.ensure(self._place, names, datetime.now(UTC), self._group)
        for line in done:
            self._say(line)
        return bool(done)

    def _check(self, new: Config) -> None:
        """Hold the new configuration against this machine, as check-config does."""
        findings = preflight.check(new)
        for line in findings.warnings:
            self._say(f"warning: {line}")
        if findings.errors:
            raise ConfigError("\n".join(findings.errors))

    def _write(self, text: str) -> bool:
        file, content = self._order.file, text.encode()
        if self._before.exists and text == self._before.text:
            self._say(f"{file} is as it should be")
            return files.write(file, content, files.SHARED, self._group)
        copy = files.back_up(file, datetime.now().astimezone())
        files.write(file, content, files.SHARED, self._group)
        self._say(f"wrote {file}" + (f"; as it was: {copy}" if copy else ""))
        return True

    def _units(self, new: Config, *, restart: bool, reload: bool) -> None:
        wanted = units.units(new)
        default = self._order.file == Path(configurations.DEFAULT_PATH)
        if not default or os.geteuid() != 0:
            self._say(
                f"run it: logguardd run --config {self._order.file}" if not default else "not root: nothing started"
            )
            return
        if not machine.booted_by_systemd():
            self._say("start it: service logguardd restart && service logguardd-firewall restart")
            return
        lines = units.commands(wanted, units.write(wanted), restart=restart, reload=reload)
        if not self._order.start:
            self._say("start it: " + " && ".join(" ".join(line) for line in lines))
            return
        units.carry_out(lines, self._say)
        self._say(wait_until_up(new))


def wait_until_up(config: Config) -> str:
    """Wait until the daemon answers and return how it is; raise LogguarddError if it does not."""
    deadline = time.monotonic() + _START
    while True:
        try:
            content = Client(config.http.control).ask("GET", "status")
        except LogguarddError as error:
            if time.monotonic() > deadline:
                raise LogguarddError(f"{error}; its log: journalctl -u logguardd") from None
            time.sleep(_LOOK)
            continue
        bad = [f"{name}: {c['detail']}" for name, c in content["components"].items() if c["state"] != "up"]
        places = ", ".join(f"{name} {place}" for name, place in content["listening"].items())
        return f"logguardd receives at {places}" + (f"; {'; '.join(bad)}" if bad else "")
