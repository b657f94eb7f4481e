"""What `logguardd run --embedded` tells who started it: what to put into rsyslog, where everything is."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd import network, urls
from logguardd.notation import endpoint

if TYPE_CHECKING:
    from logguardd.config.settings import Config


def welcome(settings: Config) -> str:
    """Return the text for an embedded configuration."""
    _, port = endpoint(settings.listen.tcp[0])
    programs = Path(sys.argv[0]).parent
    control = programs / "logguardctl" if (programs / "logguardctl").exists() else Path("logguardctl")
    ctl = f"{shlex.quote(str(control))} --socket {shlex.quote(settings.http.control)}"
    archive = shlex.quote(urls.sqlite_path(settings.archive.url))
    query = "SELECT client_id, service_name, message FROM logs ORDER BY id DESC LIMIT 10"
    return f"""
logguardd is running on its embedded defaults; Ctrl-C ends it.

On every host that is to be protected, put this line into /etc/rsyslog.d/90-logguardd.conf and restart rsyslog:

    *.* action(type="omfwd" target="{_myself()}" port="{port}" protocol="tcp" template="RSYSLOG_SyslogProtocol23Format")

    data        {settings.embedded}
    messages    sqlite3 {archive} "{query}"
    state       {ctl} status
    bans        {ctl} bans
    unban       {ctl} unban ADDRESS
    metrics     http://{settings.http.listen}/metrics and /readyz

Nothing is blocked: what nftables would be told is written to {settings.firewall.output}
"""


def _myself() -> str:
    """Return what other hosts reach this one by: its name where that leads here, else its address."""
    name, address = socket.gethostname(), network.outward_address()
    addresses, _ = network.resolve([name])
    return name if address is None or address in addresses else str(address)
