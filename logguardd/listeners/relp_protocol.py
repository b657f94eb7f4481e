"""RELP, the server's side of the protocol, without input or output.

The Reliable Event Logging Protocol (librelp's doc/relp.html): a client opens a session with offers, sends commands,
each with a transaction number, and gets a response to each, in the same order. A frame is

    TXNR SP COMMAND SP DATALEN [SP DATA] LF
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The hint that the server is going to close; a client sends what is unacknowledged again, elsewhere or later.
SERVER_CLOSE = b"0 serverclose 0\n"

_NEWEST_VERSION = 1
_LF = 0x0A
_LONGEST_HEADER = 9 + 1 + 32 + 1 + 9
# Offers; no command but syslog needs longer data.
_LONGEST_DATA = 4096
# TXNR = 1..999999999 (0 is for hints of the server); COMMAND = 1*32ALPHA; DATALEN = 1*9DIGIT. With DATALEN 0 librelp
# leaves out the space, and takes it.
_HEADER = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_HEADER_SO_FAR = re.compile(rb"[0-9]{1,9}(?: (?:[A-Za-z]{1,32}(?: [0-9]{0,9})?)?)?")


class Answer(NamedTuple):
    """Bytes for the client."""

    data: bytes


class Messages(NamedTuple):
    """Syslog messages; their ``answer`` may be sent once they are durable.

    Of a message that is longer with any trailer, three bytes more than max_message come, the rest was skipped.
    """

    payloads: Sequence[bytes]
    numbers: Sequence[int]

    @property
    def answer(self) -> bytes:
        """Return the responses that acknowledge the messages."""
        return b"".join([b"%d rsp 6 200 OK\n" % number for number in self.numbers])


class RelpProtocol:
    """One session. Bytes go in, answers and messages come out, to be dealt with in this order.

    After an error or the client's ``close`` it is ``closed``: the last answers are to be sent, then the connection ends.
    """

    def __init__(self, max_message: int) -> None:
        self.closed = False
        self.error = ""
        self._kept = max_message + len(b"\r\n") + 1  # so that it shows whether more than a trailer follows
        self._opened = False
        self._head = b""
        self._number = 0
        self._command = b""
        self._data = bytearray()
        self._room = 0  # bytes of data that are kept; the others are skipped
        self._missing = 0  # bytes of data and the LF that the frame under way still lacks; 0 between frames
        self._steps: list[Answer | Messages] = []
        self._payloads: list[bytes] = []
        self._numbers: list[int] = []

    @property
    def partial(self) -> bool:
        """Whether a message is under way (the client never got it acknowledged and will send it again)."""
        return self._missing > 0 and self._command == b"syslog" and not self.closed

    def feed(self, data: bytes) -> list[Answer | Messages]:
        """Take bytes as they arrived and return what is complete, in order."""
        position = self._continue(data) if self._missing else 0
        if self._head:
            data, self._head = self._head + data, b""
        size = len(data)
        match = _HEADER.match
        while position < size and not self.closed:
            header = match(data, position)
            if header is None:
                self._incomplete_header(data[position : position + _LONGEST_HEADER + 1])
                break
            number, command, length = int(header[1]), header[2], int(header[3])
            start = header.end()
            if header[4] == b"\n":
                if length:
                    self._fail("no data")
                    break
                start -= 1
            if not self._acceptable(number, command, length):
                break
            end = start + length
            if end < size:
                if data[end] != _LF:
                    self._fail("no LF after the data")
                    break
                position = end + 1
                if command == b"syslog":  # nearly all frames
                    self._payloads.append(data[start : min(end, start + self._kept)])
                    self._numbers.append(number)
                else:
                    self._execute(number, command, data[start:end])
            else:
                self._number, self._command = number, command
                self._room = self._kept if command == b"syslog" else _LONGEST_DATA
                self._data = bytearray(data[start : start + self._room])
                self._missing = end + 1 - size
                break
        self._end_messages()
        steps, self._steps = self._steps, []
        return steps

    def _continue(self, data: bytes) -> int:
        """Add to the frame under way and return how many bytes belong to it."""
        taken = min(self._missing, len(data))
        self._missing -= taken
        of_data = taken if self._missing else taken - 1
        self._data += data[: max(0, min(of_data, self._room - len(self._data)))]
        if not self._missing:
            if data[taken - 1] != _LF:
                self._fail("no LF after the data")
            elif self._command == b"syslog":
                self._payloads.append(bytes(self._data))
                self._numbers.append(self._number)
            else:
                self._execute(self._number, self._command, bytes(self._data))
            self._data = bytearray()
        return taken

    def _incomplete_header(self, head: bytes) -> None:
        if len(head) <= _LONGEST_HEADER and _HEADER_SO_FAR.fullmatch(head):
            self._head = head
        else:
            self._fail("not a RELP frame")

    def _acceptable(self, number: int, command: bytes, length: int) -> bool:
        """Whether the frame may come now; otherwise answer and close, before its data is read."""
        if not number:
            self._fail("transaction number 0")
        elif command == b"syslog":
            if self._opened:
                return True
            self._fail("no session is open", number)
        elif command not in {b"open", b"close"}:
            self._fail("unknown command", number)
        elif command == b"open" and self._opened:
            self._fail("the session is open already", number)
        elif length > _LONGEST_DATA:
            self._fail("data too long for this command", number)
        else:
            return True
        return False

    def _execute(self, number: int, command: bytes, data: bytes) -> None:
        if command == b"open":
            self._open(number, data)
        else:
            self._end_messages()
            self._steps.append(Answer(b"%d rsp 0\n" % number + SERVER_CLOSE))
            self.closed = True

    def _open(self, number: int, data: bytes) -> None:
        offers = dict(line.partition(b"=")[::2] for line in data.splitlines())
        version = offers.get(b"relp_version", b"")
        if not version.isdigit() or len(version) > 9:  # noqa: PLR2004 - as many digits as any number of the protocol
            self._fail("relp_version is missing or not a number", number)
        elif b"syslog" not in [command.strip() for command in offers.get(b"commands", b"").split(b",")]:
            self._fail("command syslog was not offered", number)
        else:
            self._opened = True
            offered = b"200 OK\nrelp_version=%d\nrelp_software=logguardd\ncommands=syslog"
            self._answer(number, offered % min(int(version), _NEWEST_VERSION))

    def _fail(self, reason: str, number: int | None = None) -> None:
        """Answer with status 500 where there is a transaction to answer, and close."""
        if number is not None:
            self._answer(number, b"500 " + reason.encode())
        self._end_messages()
        self._steps.append(Answer(SERVER_CLOSE))
        self.closed = True
        self.error = reason

    def _answer(self, number: int, data: bytes) -> None:
        self._end_messages()
        self._steps.append(Answer(b"%d rsp %d %s\n" % (number, len(data), data)))

    def _end_messages(self) -> None:
        if self._payloads:
            self._steps.append(Messages(self._payloads, self._numbers))
            self._payloads, self._numbers = [], []
