#!/usr/bin/env python3
"""Send log lines that look like the real programs', to load or to try a syslog receiver.

    generate_logs.py --scenario attack --rate 500 --duration 60 --target udp://127.0.0.1:5514
    generate_logs.py --scenario normal --rate 0 --count 1000000 --target tcp://127.0.0.1:5514 --framing octet
    generate_logs.py --scenario forged --count 1000 --target lines.txt

At the end it prints how many messages it sent and how fast. It needs nothing but Python.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import ssl
import sys
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from log_lines import SCENARIOS, Cast, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Write = Callable[[list[bytes]], None]

#: Lines rendered ahead; they are sent round and round with a fresh time stamp each second.
POOL = 20_000
#: Seconds between two writes when the rate is limited.
TICK = 0.01
#: The highest rate that means anything.
MOST = 1_000_000_000


def render(pool: list[tuple[int, str, str, str]], style: str, now: datetime) -> list[bytes]:
    """Return the pool's lines as syslog messages of one format, stamped ``now``."""
    if style == "rfc5424":
        stamp = now.isoformat(timespec="microseconds")
        made = []
        for pri, host, tag, text in pool:
            name, _, pid = tag.partition("[")
            made.append(f"<{pri}>1 {stamp} {host} {name} {pid[:-1] or '-'} - - {text}".encode())
        return made
    stamp = f"{now:%b} {now.day:2d} {now:%H:%M:%S}" if style == "rfc3164" else now.isoformat(timespec="microseconds")
    return [f"<{pri}>{stamp} {host} {tag}: {text}".encode() for pri, host, tag, text in pool]


def frame(messages: list[bytes], framing: str) -> list[bytes]:
    """Frame messages for a stream (RFC 6587); datagrams are left as they are."""
    if framing == "octet":
        return [b"%d %b" % (len(message), message) for message in messages]
    return [message + b"\n" for message in messages] if framing == "lf" else messages


@contextlib.contextmanager
def target_of(options: argparse.Namespace) -> Iterator[tuple[Write, str]]:
    """Open the target; yield a function that writes a list of frames, and the framing that the target wants."""
    url = urlsplit(options.target)
    if url.scheme not in ("udp", "tcp", "tls"):
        output = sys.stdout.buffer if options.target == "-" else Path(options.target).open("wb")  # noqa: SIM115
        with output:
            yield lambda frames: void(output.write(b"".join(frames))), "lf"
        return
    assert url.hostname  # noqa: S101 - main has looked
    if url.scheme == "udp":
        family, kind, _, _, address = socket.getaddrinfo(url.hostname, url.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as datagrams:
            datagrams.connect(address)
            yield lambda frames: void([datagrams.send(message) for message in frames]), "none"
        return
    stream: socket.socket = socket.create_connection((url.hostname, url.port), timeout=30)
    if url.scheme == "tls":
        context = ssl.create_default_context(cafile=options.ca)
        if options.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
        stream = context.wrap_socket(stream, server_hostname=url.hostname)
    with stream:
        yield lambda frames: stream.sendall(b"".join(frames)), options.framing
        with contextlib.suppress(ssl.SSLEOFError, TimeoutError):  # some do not say goodbye
            stream.unwrap() if isinstance(stream, ssl.SSLSocket) else stream.shutdown(socket.SHUT_WR)


def void(_: object) -> None:
    """Drop a result."""


def send(options: argparse.Namespace, write: Write, framing: str) -> int:
    """Send until the count or the duration is reached; return how many were sent."""
    cast = Cast.of(options.seed, options.attackers)
    source = itertools.islice(lines(options.scenario, cast), min(POOL, options.count or POOL))
    # One process's lines come from one host.
    pool = [(pri, f"web{1 + zlib.crc32(tag.encode()) % options.hosts}", tag, text) for pri, tag, text in source]
    framed: list[bytes] = []
    sent, at, second = 0, 0, -1
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < options.duration and (not options.count or sent < options.count):
        if second != int(time.time()):
            second = int(time.time())
            now = datetime.now(UTC) if options.format != "rfc3164" else datetime.now().astimezone()
            framed = frame(render(pool, options.format, now), framing)
        due = int(options.rate * (elapsed + TICK)) - sent if options.rate else 2000
        due = min(due, 2000, options.count - sent if options.count else due, len(framed) - at)
        if due <= 0:
            time.sleep(TICK)
            continue
        write(framed[at : at + due])
        sent += due
        at = (at + due) % len(framed)
    return sent


def fault(options: argparse.Namespace) -> str:
    """Return what is wrong with the command line, "" for nothing."""
    scheme, separator, rest = options.target.partition("://")
    if separator:
        try:
            url = urlsplit(options.target)
            right = scheme in ("udp", "tcp", "tls") and url.hostname and url.port and rest == url.netloc
        except ValueError:  # a port beyond 65535, a bracket too few
            right = False
        if not right:
            return f"--target {options.target}: want udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or a file"
    if not 1 <= options.attackers <= 254:  # noqa: PLR2004 - the hosts of 203.0.113.0/24
        return "--attackers: want 1 to 254"
    if options.hosts < 1 or options.count < 0 or not 0 <= options.rate <= MOST:
        return f"--hosts wants 1 or more, --count 0 or more, --rate 0 to {MOST}"
    if options.duration is not None and not options.duration > 0:
        return "--duration: want more than 0 seconds"
    if options.key and not options.cert:
        return "--key needs --cert"
    return ""


def main() -> int:
    """Parse the command line, send, report; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="normal")
    parser.add_argument("--rate", type=float, default=1000, help="messages a second, 0: as fast as possible (1000)")
    parser.add_argument("--duration", type=float, help="seconds (10, or until --count is sent)")
    parser.add_argument("--count", type=int, default=0, help="stop after this many messages")
    parser.add_argument(
        "--target", required=True, metavar="udp://H:P|tcp://H:P|tls://H:P|FILE", help="-: standard output"
    )
    parser.add_argument("--format", choices=("rfc3164", "rfc3339", "rfc5424"), default="rfc3164")
    parser.add_argument("--framing", choices=("lf", "octet"), default="lf", help="for tcp and tls (RFC 6587)")
    parser.add_argument("--hosts", type=int, default=20, help="sending hosts to pretend to be (20)")
    parser.add_argument("--attackers", type=int, default=10, help="attacking addresses, 1 to 254 (10)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same lines (1)")
    parser.add_argument("--ca", help="tls: certificate authority of the server, PEM")
    parser.add_argument("--cert", help="tls: client certificate, PEM")
    parser.add_argument("--key", help="tls: its private key, PEM")
    parser.add_argument("--insecure", action="store_true", help="tls: do not verify the server")
    options = parser.parse_args()
    if wrong := fault(options):
        print(f"generate_logs.py: {wrong}", file=sys.stderr)
        return 2
    if options.duration is None:
        options.duration = float("inf") if options.count else 10.0
    started = time.monotonic()
    try:
        with target_of(options) as (write, framing):
            sent = send(options, write, framing)
    except OSError as error:
        print(f"generate_logs.py: {options.target}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    seconds = max(time.monotonic() - started, 1e-9)
    print(f"sent {sent} messages in {seconds:.2f} s, {sent / seconds:.0f}/s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
