"""Lines as real programs print them, by scenario, for generate_logs.py.

Remote addresses are from the documentation prefixes (RFC 5737, RFC 3849): attackers in 203.0.113.0/24 and
2001:db8:bad::/48, clients in 198.51.100.0/24, and in the forged scenario victims in 192.0.2.0/24, whom nobody may ban.
"""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: What a scenario yields: facility * 8 + severity, tag (with [pid] where the program has one), message.
    Line = tuple[int, str, str]

AUTH, MAIL, DAEMON, KERN, CRON, LOCAL = 10 * 8, 2 * 8, 3 * 8, 0, 9 * 8, 23 * 8
USERS = ("root", "admin", "test", "oracle", "postgres", "ubuntu", "git", "deploy", "ftpuser", "user1")
STAFF = ("alice", "bob", "carol", "dave", "erin")
PATHS = ("/", "/index.html", "/login", "/api/v1/items?page=2", "/static/app.js", "/images/logo.png", "/favicon.ico")
PROBES = ("/wp-login.php", "/.env", "/phpmyadmin/index.php", "/cgi-bin/luci", "/.git/config", "/xmlrpc.php")
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


@dataclasses.dataclass(frozen=True)
class Cast:
    """Who takes part: a random source and the addresses in play."""

    random: random.Random
    attackers: tuple[str, ...]
    clients: tuple[str, ...]
    victims: tuple[str, ...]

    @classmethod
    def of(cls, seed: int, attackers: int) -> Cast:
        """Cast ``attackers`` attackers (1..254; every tenth speaks IPv6), 200 clients and 50 victims."""
        addresses = [f"203.0.113.{n}" if n % 10 else f"2001:db8:bad:{n:x}::{n:x}" for n in range(1, attackers + 1)]
        return cls(
            random.Random(seed),
            tuple(addresses),
            tuple(f"198.51.100.{n}" for n in range(1, 201)),
            tuple(f"192.0.2.{n}" for n in range(1, 51)),
        )

    def port(self) -> int:
        """Return an ephemeral port."""
        return self.random.randint(32768, 60999)

    def pid(self) -> int:
        """Return a process id."""
        return self.random.randint(300, 4_000_000)


def _normal(cast: Cast) -> Iterator[Line]:
    r = cast.random
    client, staff, pid = r.choice(cast.clients), r.choice(STAFF), cast.pid()
    match r.randrange(8):
        case 0:
            yield (
                AUTH + 6,
                f"sshd[{pid}]",
                (
                    f"Accepted publickey for {staff} from {client} port {cast.port()} ssh2: "
                    "ED25519 SHA256:q7Jr0mXx2cHq1nNnT3yqkV0w0b2bq7f0m1sXbq9yQ0E"
                ),
            )
        case 1:
            yield (
                AUTH + 6,
                f"sshd[{pid}]",
                f"pam_unix(sshd:session): session opened for user {staff}(uid=1000) by (uid=0)",
            )
        case 2:
            yield CRON + 6, f"CRON[{pid}]", "(root) CMD (   cd / && run-parts --report /etc/cron.hourly)"
        case 3:
            yield DAEMON + 6, "systemd[1]", "Started session-42.scope - Session 42 of User alice."
        case 4:
            yield MAIL + 6, f"postfix/smtpd[{pid}]", f"connect from mail{pid % 9}.example.net[{client}]"
        case 5:
            yield LOCAL + 6, "nginx", _access(cast, client, r.choice(PATHS), 200, BROWSER)
        case 6:
            yield (
                MAIL + 6,
                f"postfix/qmgr[{pid}]",
                f"{pid:010X}: from=<{staff}@example.net>, size={r.randint(900, 90000)}, nrcpt=1 (queue active)",
            )
        case _:
            yield KERN + 6, "kernel", f"[{pid}.{r.randint(0, 999999):06d}] eth0: link becomes ready"


def _access(cast: Cast, client: str, path: str, status: int, agent: str) -> str:
    size = cast.random.randint(150, 40000)
    stamp = datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    return f'{client} - - [{stamp}] "GET {path} HTTP/1.1" {status} {size} "-" "{agent}"'


def _attack(cast: Cast) -> Iterator[Line]:
    r = cast.random
    who, user, port, pid = r.choice(cast.attackers), r.choice(USERS), cast.port(), cast.pid()
    match r.randrange(6):
        case 0 | 1:
            yield AUTH + 6, f"sshd[{pid}]", f"Invalid user {user} from {who} port {port}"
            yield AUTH + 6, f"sshd[{pid}]", f"Failed password for invalid user {user} from {who} port {port} ssh2"
            yield AUTH + 6, f"sshd[{pid}]", f"Connection closed by invalid user {user} {who} port {port} [preauth]"
        case 2:
            yield (
                AUTH + 5,
                f"sshd-session[{pid}]",
                (
                    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= "
                    f"rhost={who}  user=root"
                ),
            )
            yield AUTH + 6, f"sshd-session[{pid}]", f"Failed password for root from {who} port {port} ssh2"
        case 3:
            yield (
                MAIL + 4,
                f"postfix/smtpd[{pid}]",
                (
                    f"warning: unknown[{who}]: SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username={user}@example.net"
                ),
            )
        case 4:
            yield (
                MAIL + 6,
                "dovecot",
                (
                    f"imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<{user}>, method=PLAIN, "
                    f"rip={who}, lip=10.0.0.5, TLS, session=<k3f/abcdefgh>"
                ),
            )
        case _:
            yield LOCAL + 6, "nginx", _access(cast, who, r.choice(PROBES), 404, "python-requests/2.31")


def _scan(cast: Cast) -> Iterator[Line]:
    r = cast.random
    who, port, pid = r.choice(cast.attackers), cast.port(), cast.pid()
    if r.randrange(4):
        six = ":" in who
        where = "2001:db8::10" if six else "10.0.0.5"
        length = "LEN=60 TC=0 HOPLIMIT=54 FLOWLBL=0" if six else f"LEN=44 TOS=0x00 PREC=0x00 TTL=244 ID={pid % 65536}"
        yield (
            KERN + 4,
            "kernel",
            (
                f"[{pid}.{r.randint(0, 999999):06d}] [UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00 "
                f"SRC={who} DST={where} {length} PROTO=TCP SPT={port} DPT={r.choice((21, 22, 23, 25, 80, 443, 445, 3306, 3389, 5432, 8080))} "
                "WINDOW=1024 RES=0x00 SYN URGP=0 "
            ),
        )
    else:
        yield AUTH + 6, f"sshd[{pid}]", f"Did not receive identification string from {who} port {port}"


def _slow(cast: Cast) -> Iterator[Line]:
    who, user, port = cast.random.choice(cast.attackers), cast.random.choice(USERS), cast.port()
    yield AUTH + 6, f"sshd[{cast.pid()}]", f"Failed password for {user} from {who} port {port} ssh2"


def _forged(cast: Cast) -> Iterator[Line]:
    r = cast.random
    who, victim, port, pid = r.choice(cast.attackers), r.choice(cast.victims), cast.port(), cast.pid()
    match r.randrange(5):
        case 0:
            name = f"root from {victim} port 22 ssh2"
            yield AUTH + 6, f"sshd[{pid}]", f"Failed password for invalid user {name} from {who} port {port} ssh2"
        case 1:
            yield AUTH + 6, f"sshd[{pid}]", f"Invalid user x from {victim} port 4022 from {who} port {port}"
        case 2:
            agent = f"sshd[1]: Failed password for root from {victim} port 22 ssh2"
            yield LOCAL + 6, "nginx", _access(cast, who, "/", 404, agent)
        case 3:
            yield (
                MAIL + 4,
                f"postfix/smtpd[{pid}]",
                (
                    f"warning: unknown[{who}]: SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username=a from [{victim}]: b"
                ),
            )
        case _:
            yield (
                AUTH + 6,
                f"sshd[{pid}]",
                (f"Bad protocol version identification 'GET / from {victim} port 22' from {who} port {port}"),
            )


#: Scenario name to the makers of its lines, each with its share.
SCENARIOS: dict[str, tuple[tuple[Callable[[Cast], Iterator[Line]], int], ...]] = {
    "normal": ((_normal, 1),),
    "attack": ((_attack, 1), (_normal, 2)),
    "scan": ((_scan, 1), (_normal, 1)),
    "slow": ((_slow, 1), (_normal, 20)),
    "forged": ((_forged, 1), (_normal, 1)),
}


def lines(scenario: str, cast: Cast) -> Iterator[Line]:
    """Yield the lines of a scenario (a key of SCENARIOS) without end."""
    makers, weights = zip(*SCENARIOS[scenario], strict=True)
    while True:
        (maker,) = cast.random.choices(makers, weights)
        yield from maker(cast)
