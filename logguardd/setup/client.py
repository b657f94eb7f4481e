"""What a host of the fleet gets: a certificate, the snippet for its rsyslog, and the way to the server's bans."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError
from logguardd.firewall.sources import CLIENT_FOLDER, PORT
from logguardd.setup import certificates
from logguardd.setup.files import PRIVATE, PUBLIC
from logguardd.setup.files import folder as make_folder
from logguardd.setup.files import write as write_file
from logguardd.setup.plan import TLS_PORT, port_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from logguardd.config.settings import Config

#: Where the snippet goes on the host.
SNIPPET = "/etc/rsyslog.d/60-logguardd.conf"
#: rsyslog's TLS drivers and the packages that have them.
DRIVERS = {"ossl": "rsyslog-openssl", "gtls": "rsyslog-gnutls"}
#: Snippets in the syntax of today, and in that of rsyslog 7 and before.
FORMATS = {"rainerscript": "tls.conf", "legacy": "tls-legacy.conf"}

_END = "END_OF_FILE"
_TEMPLATE_SERVER, _TEMPLATE_FOLDER, _TEMPLATE_START = (
    "logs.example.com",
    "/etc/rsyslog-tls",
    "# The authority that signed",
)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the host: its path there, its mode, what stands in it."""

    path: str
    mode: int
    content: str


@dataclass(frozen=True, slots=True)
class Client:
    """Everything for one host: ``commands`` are shell commands that put ``files`` into force, ``follow`` those to follow."""

    host: str
    server: str
    files: tuple[File, ...]
    commands: tuple[str, ...]
    follow: tuple[str, ...]


def make(
    config: Config, host: str, now: datetime, *, server: str = "", driver: str = "ossl", form: str = "rainerscript"
) -> Client:
    """Issue a certificate for ``host`` and return what it needs to send to ``server``.

    ``server`` is a name or address in the server's certificate, by default the first one. Raises ConfigError where the
    configuration has no TLS, or its authority is not one that logguardctl made.
    """
    pki = certificates.library()
    host = pki.canonical(host)
    tls = config.tls
    if not (config.listen.tls and tls.certificate and tls.client_ca):
        raise ConfigError(
            "the configuration has no listen.tls with tls.certificate and tls.client_ca; `logguardctl setup --tls` makes them"
        )
    ca = Path(tls.client_ca)
    ca_key = ca.with_suffix(".key")
    if not ca_key.exists():
        raise ConfigError(
            f"{ca_key} is not here, the key of the authority {ca}: only where it is, certificates are made"
        )
    signer = certificates.authority(ca, ca_key)
    certificate = _read(tls.certificate)
    if not signer.issued(certificate):
        raise ConfigError(
            f"{tls.certificate}: not issued by the authority {ca}: hosts would not trust it; `logguardctl setup --tls` makes"
            " one that they do, once [tls] names no other"
        )
    names = pki.describe(certificate).names
    server = pki.canonical(server) if server else names[0]
    if server not in names:
        raise ConfigError(f"{tls.certificate} is for {', '.join(names)}, not for {server}")
    issued = signer.client(host, now)
    # rsyslog looks for names, not for addresses, in the server's certificate.
    name = next((each for each in (server, *names) if not _is_address(each)), server)
    port = next((found for place in config.listen.tls if (found := port_of(place))), TLS_PORT)
    snippet = _snippet(host, driver, form, {"server": server, "name": name, "port": str(port)})
    files = (
        File(SNIPPET, PUBLIC, snippet),
        File(f"{CLIENT_FOLDER}/ca.pem", PUBLIC, signer.certificate.decode()),
        File(f"{CLIENT_FOLDER}/cert.pem", PUBLIC, issued.certificate.decode()),
        File(f"{CLIENT_FOLDER}/key.pem", PRIVATE, issued.private_key.decode()),
    )
    followed = name if ":" in server else server  # a unit's name has no room for an IPv6 address
    # The server's own log may come this way too, but it has a firewall program of its own.
    follow = () if host in names else _follow(config, followed)
    return Client(host, server, files, _commands(driver), follow)


def _snippet(host: str, driver: str, form: str, words: Mapping[str, str]) -> str:
    template = resources("logguardd.setup").joinpath(FORMATS[form]).read_text(encoding="utf-8")
    start = template.find(_TEMPLATE_START)
    if start < 0:
        raise ConfigError(f"{FORMATS[form]}: this installation's snippet is damaged")
    body = template[start:]
    server, name, port = words["server"], words["name"], words["port"]
    bracketed = f"[{server}]" if ":" in server else server
    for old, new in (
        (f'target="{_TEMPLATE_SERVER}" port="{TLS_PORT}"', f'target="{server}" port="{port}"'),
        (f"@@(o){_TEMPLATE_SERVER}:{TLS_PORT}", f"@@(o){bracketed}:{port}"),
        (_TEMPLATE_SERVER, name),
        (_TEMPLATE_FOLDER, CLIENT_FOLDER),
        ('StreamDriver="ossl"', f'StreamDriver="{driver}"'),
        ("$DefaultNetstreamDriver ossl", f"$DefaultNetstreamDriver {driver}"),
    ):
        body = body.replace(old, new)
    head = (
        f"# What {host} logs, to logguardd at {server} over TLS; made by `logguardctl client-config {host}` there.\n"
        f"# Needs the package {DRIVERS[driver]}. Its place is {SNIPPET}; then: systemctl restart rsyslog\n"
    )
    return f"{head}\n{body}"


def _commands(driver: str) -> tuple[str, ...]:
    key, package = f"{CLIENT_FOLDER}/key.pem", DRIVERS[driver]
    # Where rsyslogd drops its privileges, as Ubuntu's does, it reads the key as that group.
    group = (
        "group=$(sed -n 's/^[$]PrivDropToGroup[[:space:]]*//p' /etc/rsyslog.conf)\n"
        f'if [ -n "$group" ]; then chgrp "$group" {key}; chmod 640 {key}; fi'
    )
    has_driver = (
        f"ls /usr/lib*/rsyslog/lmnsd_{driver}.so /usr/lib/*/rsyslog/lmnsd_{driver}.so 2>/dev/null | grep -q . ||\n"
        f'    {{ echo "install the package {package}, then restart rsyslog" >&2; exit 1; }}'
    )
    restart = "if [ -d /run/systemd/system ]; then systemctl restart rsyslog; else service rsyslog restart; fi"
    return (group, has_driver, "rsyslogd -N1 >/dev/null", restart)


def _follow(config: Config, server: str) -> tuple[str, ...]:
    """Return the two lines with which a host follows the server's bans; none where they are not served."""
    port = port_of(config.http.follow)
    if not port:
        return ()
    instance = server if port == PORT else f"{server}:{port}"
    return (
        "systemctl disable --now logguardd.service logguardd.socket logguardd-firewall.service",
        f"systemctl enable --now logguardd-firewall@{instance}.service",
    )


def script(client: Client) -> str:
    """Return a shell script that sets the host up, which is as good to read."""
    written = (
        f"cat >{file.path} <<'{_END}'\n{file.content}{_END}\nchmod {file.mode:o} {file.path}\n" for file in client.files
    )
    head = _head(client, f"logguardctl client-config {client.host} | ssh root@{client.host} sh")
    return "\n".join([head, f"mkdir -p {CLIENT_FOLDER}\nchmod 755 {CLIENT_FOLDER}\n", *written, _tail(client)])


def installer(client: Client) -> str:
    """Return the shell script that installs the files of a folder that it stands in."""
    lines = ['cd "$(dirname "$0")"', f"mkdir -p {CLIENT_FOLDER}", f"chmod 755 {CLIENT_FOLDER}"]
    lines += [f"install -m {file.mode:o} {Path(file.path).name} {file.path}" for file in client.files]
    head = _head(client, f"scp -r FOLDER root@{client.host}: && ssh root@{client.host} sh FOLDER/install.sh")
    return "\n".join([head, "\n".join(lines) + "\n", _tail(client)])


def _head(client: Client, example: str) -> str:
    return (
        "#!/bin/sh\n"
        f"# Lets {client.host} send its log to logguardd at {client.server}. Run it there as root, for example\n"
        f"#     {example}\n"
        f"# The private key of {client.host} is part of it: keep it from others.\n"
        "set -eu\n"
        "umask 077\n"
    )


def _tail(client: Client) -> str:
    return "\n".join([*client.commands, "", *_follow_lines(client.follow)])


def _follow_lines(follow: Sequence[str]) -> list[str]:
    if not follow:
        return ["# The server's bans cannot be followed from here: its http.follow is off, or it is this host.", ""]
    return [
        "# To block here whom the server bans: install logguardd on this host too, then these two lines.",
        *(f"#     {line}" for line in follow),
        "",
    ]


def as_json(client: Client) -> Mapping[str, object]:
    """Return everything for programs that set hosts up."""
    return {
        "host": client.host,
        "server": client.server,
        "files": {file.path: {"mode": f"{file.mode:04o}", "content": file.content} for file in client.files},
        "commands": list(client.commands),
        "follow": list(client.follow),
    }


def advice(client: Client, folder: Path) -> str:
    """Say what to do with a folder of files."""
    name = shlex.quote(folder.name)
    return (
        f"{folder} holds what {client.host} needs, its private key among that. Copy and install it:\n"
        f"    scp -r {shlex.quote(str(folder))} root@{client.host}: && ssh root@{client.host} sh {name}/install.sh\n"
    )


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdecimal()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def write(client: Client, folder: Path) -> None:
    """Write the host's files and ``install.sh`` into a folder for us alone; raise ConfigError if it holds anything else."""
    names = {Path(file.path).name for file in client.files} | {"install.sh"}
    if folder.exists() and {path.name for path in folder.iterdir()} - names:
        raise ConfigError(f"--output: {folder}: holds other files; allowed: a new folder")
    make_folder(folder, 0o700)
    for file in client.files:
        write_file(folder / Path(file.path).name, file.content.encode(), file.mode)
    write_file(folder / "install.sh", installer(client).encode(), PRIVATE)
