"""What the configuration asks of systemd's units: drop-ins, and which units to enable and start.

Sockets are systemd's where it can open them (systemd.socket(5)): they stay open while the daemon restarts. What it
cannot, names of hosts, the daemon opens itself.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd.errors import LogguarddError
from logguardd.notation import endpoint
from logguardd.setup import files
from logguardd.setup.plan import TLS_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from logguardd.config.settings import Config

SERVICE, SOCKET, TLS_SOCKET = "logguardd.service", "logguardd.socket", "logguardd-tls.socket"
FIREWALL = "logguardd-firewall.service"
#: Where an administrator's units are.
FOLDER = Path("/etc/systemd/system")

_SYSLOG_PORT = 514
_HEAD = "# Written by `logguardctl setup`, after {file}; the next run may write it anew.\n"
# As systemd/logguardd-firewall-iptables.conf, which says why.
_IPTABLES = """[Service]
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
"""
_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class Units:
    """``drop_ins`` are texts by unit ("" for none); the others are names of units; masked ones must not be started."""

    drop_ins: Mapping[str, str]
    enabled: tuple[str, ...]
    disabled: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


def units(config: Config) -> Units:
    """Return what a configuration asks for."""
    listen = config.listen
    enabled, disabled, masked = [SERVICE], [], []
    drop_ins = dict.fromkeys((SOCKET, TLS_SOCKET, FIREWALL), "")
    udp, tcp = _lines("ListenDatagram", listen.udp), _lines("ListenStream", listen.tcp)
    if udp is None or tcp is None or not (udp or tcp):
        masked.append(SOCKET)
    else:
        enabled.append(SOCKET)
        drop_ins[SOCKET] = _socket(config, ["ListenDatagram=", "ListenStream=", *udp, *tcp], _SYSLOG_PORT)
    tls = _lines("ListenStream", listen.tls)
    if tls:
        enabled.append(TLS_SOCKET)
        drop_ins[TLS_SOCKET] = _socket(config, ["ListenStream=", *tls], TLS_PORT)
    else:
        disabled.append(TLS_SOCKET)
    if config.firewall.backend != "print":
        enabled.append(FIREWALL)
    if config.firewall.backend == "iptables":
        drop_ins[FIREWALL] = _HEAD.format(file=config.source) + _IPTABLES
    return Units(drop_ins, tuple(enabled), tuple(disabled), tuple(masked))


def _lines(directive: str, places: Iterable[str]) -> list[str] | None:
    """Return the lines of a socket unit for places to listen at; None if systemd cannot open one of them.

    A socket that is named as systemd's stands in the unit already: its line is the bare directive's default.
    """
    found = []
    for place in places:
        if place.startswith("systemd:"):
            found.append("")
            continue
        host, port = endpoint(place)
        if host == "::":
            found.append(f"{directive}={port}")  # every address, whatever the kernel has
        elif _is_address(host):
            found.append(f"{directive}=[{host}]:{port}" if ":" in host else f"{directive}={host}:{port}")
        else:
            return None
    return found


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def _socket(config: Config, lines: list[str], port: int) -> str:
    """Return a drop-in with these lines; none where they are what the unit has anyway."""
    given = [line for line in lines if not line.endswith("=")]
    resets = [line for line in lines if line.endswith("=") and line]
    usual = [f"{reset}{port}" for reset in resets]
    if "" in given or given == usual:
        return ""
    return _HEAD.format(file=config.source) + "[Socket]\n" + "".join(f"{line}\n" for line in lines)


def write(wanted: Units, folder: Path = FOLDER) -> list[str]:
    """Write drop-ins, and remove those of ours that are not wanted any more; return the units that have changed."""
    changed = []
    for unit, text in wanted.drop_ins.items():
        path = folder / f"{unit}.d" / "logguardctl-setup.conf"
        if text:
            if files.write(path, text.encode(), files.PUBLIC):
                changed.append(unit)
        elif path.exists():
            path.unlink()
            changed.append(unit)
    return changed


def commands(wanted: Units, changed: Iterable[str], *, restart: bool, reload: bool = False) -> list[list[str]]:
    """Return systemctl's command lines that put ``wanted`` into force.

    ``changed`` are units whose drop-ins were written; ``restart`` says that the configuration is another, ``reload`` that
    certificates are.
    """
    changed = set(changed)
    found = [["daemon-reload"]] if changed else []
    sockets = [unit for unit in (SOCKET, TLS_SOCKET) if unit in changed]
    if SOCKET not in wanted.masked:
        found.append(["unmask", "--quiet", SOCKET])
    if sockets or wanted.masked or restart:
        # A socket is opened anew only while its service is stopped.
        stopped = [unit for unit in (SOCKET, TLS_SOCKET) if unit in {*sockets, *wanted.masked, *wanted.disabled}]
        if stopped:
            found.append(["stop", SERVICE, *stopped])
    if wanted.disabled:
        found.append(["disable", "--quiet", *wanted.disabled])
    if wanted.masked:
        found.append(["mask", "--quiet", *wanted.masked])
    found.append(["enable", "--quiet", *wanted.enabled])
    restart = restart or bool(changed)
    found.append(["restart" if restart else "reload-or-restart" if reload else "start", SERVICE])
    if FIREWALL in wanted.enabled:
        found.append(["restart" if restart else "start", FIREWALL])
    return [["systemctl", *words] for words in found]


def carry_out(lines: Iterable[list[str]], said: Callable[[str], object]) -> None:
    """Run commands; raise LogguarddError with what the first one that fails says."""
    for argv in lines:
        said(" ".join(argv))
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LogguarddError(f"{' '.join(argv)}: {error}") from None
        if done.returncode:
            what = "; ".join(line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip())
            raise LogguarddError(f"{' '.join(argv)}: {what or f'exit status {done.returncode}'}")
