"""Messages that may have lost their end on the way: whoever wrote text in them may have chosen where.

Only 480 octets with the header are sure to travel whole (RFC 5424 section 6.1), and FreeBSD's syslogd sends no more over
UDP. Others cut later: rsyslog at 800 in "message repeated", OpenSSH at 1023, relays at 1024 with the header, nginx at 2048.
"""

from __future__ import annotations

#: The greatest length, in octets of UTF-8, of a message that nothing has cut; PRI, time stamp, host and program have 130.
MOST = 350


def short(message: str) -> bool:
    """Whether the message has at most MOST octets, so that nothing on its way has cut it."""
    return len(message) <= MOST and (message.isascii() or len(message.encode("utf-8", "replace")) <= MOST)
