"""A private rsyslogd, to send as the fleet's hosts do."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import Child, need, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping


#: What rsyslogd says of itself must not go to syslog(3), its default: where there is no /dev/log that opens and closes a
#: descriptor for each message, and rsyslogd's OpenSSL driver closes its own twice (rsyslog pull request 6375): it may
#: read from such a one, and hang.
OWN_MESSAGES = """
global(workDirectory="{folder}" processInternalMessages="on")
if $inputname == "rsyslogd" then {
    action(type="omfile" file="{folder}/internal.log")
    stop
}
"""


class Rsyslogd:
    """rsyslogd in the foreground with a configuration of the test's; it may read from a socket of its own.

    ``config`` may use {folder} for its work directory. Messages are given to it with ``send`` through imuxsock when the
    configuration has ``input(type="imuxsock" Socket="{folder}/log.sock")``.
    """

    def __init__(self, folder: Path, config: str) -> None:
        (self.program,) = need("rsyslogd")
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.conf = folder / "rsyslog.conf"
        self.conf.write_text((OWN_MESSAGES + config).replace("{folder}", str(folder)))
        self.child: Child | None = None

    def start(self) -> None:
        pid_file = self.folder / "rsyslogd.pid"
        self.child = Child(
            [self.program, "-n", "-f", str(self.conf), "-i", str(pid_file)], self.folder / "rsyslogd.log"
        )
        wait_until(lambda: pid_file.exists() or not self.child.alive(), what="rsyslogd starting")
        if not self.child.alive():
            raise RuntimeError(f"rsyslogd ended: {self.child.output()}")

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(timeout=30)
            self.child = None

    def send(self, *messages: bytes, name: str = "log.sock") -> None:
        """Write messages to its Unix socket, as syslog(3) does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.connect(str(self.folder / name))
            for message in messages:
                log.send(message)


SNIPPETS = Path(__file__).parents[2] / "etc" / "rsyslog"
#: Input for the snippets: a Unix socket in the work directory, without imuxsock's limit on the rate.
INPUT = """
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log.sock" RateLimit.Interval="0")
"""


def snippet(name: str, port: int, replaced: Mapping[str, str] | None = None) -> str:
    """Return one of our snippets, aimed at a port of this machine, with an input before it; then replace texts in it."""
    text = (SNIPPETS / f"{name}.conf").read_text()
    text, changed = re.subn(r'target="logs\.example\.com" port="\d+"', f'target="127.0.0.1" port="{port}"', text)
    if not changed:  # the legacy form
        text, changed = re.subn(r"(@|:|@\(o\))logs\.example\.com:\d+;", rf"\g<1>127.0.0.1:{port};", text)
    assert changed == 1
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, new)
    return INPUT + text
