"""The daemon's own logging: text for people, the systemd journal, the system log, or JSON lines.

Every line is one line: whatever came from the wire is escaped, passwords in URLs are hidden, an expected error shows its
message and never a traceback, and a line repeated many times is counted instead of printed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from logguardd import urls
from logguardd.errors import LogguarddError
from logguardd.notation import printable

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

_LOG = logging.getLogger(__name__)

#: The name under which journald and the system log file what we say, unless a program of ours has a longer one.
IDENTIFIER = "logguardd"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "unlimited"}
_LONGEST = 8192
_DEV_LOG = "/dev/log"
_RED, _YELLOW, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[0m"


def configure(
    level: str, form: str, *, detached: bool = False, stream: TextIO | None = None, limit: Limit | None = None
) -> None:
    """Send everything that is logged to one place, from ``level`` ("debug" ... "error") on.

    ``form`` is "text", "json" or "auto": the systemd journal if ``stream`` (standard error) is connected to it, the
    system log if the daemon is ``detached`` from its terminal, else text. May be called again, after a reload; who is
    detached stays so.
    """
    stream = stream or sys.stderr
    detached = detached or any(isinstance(each, SysLogHandler) for each in logging.getLogger().handlers)
    handler = _handler(form, stream, detached=detached)
    handler.addFilter(limit or Limit())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    logging.captureWarnings(capture=True)
    # One line for every request to /healthz is not news.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_not_malformed)


def for_machines() -> bool:
    """Whether what is logged goes out in JSON."""
    return any(isinstance(handler.formatter, Json) for handler in logging.getLogger().handlers)


def catch() -> None:
    """Log what nobody catches, instead of having Python print it in many lines."""
    sys.excepthook = lambda kind, error, trace: _LOG.critical("ended by a bug", exc_info=(kind, error, trace))
    threading.excepthook = lambda what: _LOG.critical(
        "a thread ended by a bug", exc_info=(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
    )
    sys.unraisablehook = lambda what: _LOG.error(
        "%s: %r", what.err_msg or "exception ignored in", what.object, exc_info=what.exc_value
    )


def _not_malformed(record: logging.LogRecord) -> bool:
    """Leave out aiohttp's tracebacks of requests that are none: it answers 400, and anybody can send them."""
    error = record.exc_info[1] if record.exc_info else None
    return not any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__)


def _handler(form: str, stream: TextIO, *, detached: bool) -> logging.Handler:
    handler: logging.Handler
    if detached and os.path.exists(_DEV_LOG):  # noqa: PTH110 - a socket, not a file
        handler = SysLogHandler(_DEV_LOG, facility=SysLogHandler.LOG_DAEMON)
        handler.append_nul = False
        handler.ident = f"{_identifier()}[{os.getpid()}]: "
        handler.setFormatter(Json() if form == "json" else Text("{text}"))
        return handler
    if form == "auto" and under_journald(stream):
        return _journald() or _stream(stream, Text("<{priority}>{text}"))
    if form == "json":
        return _stream(stream, Json())
    return _stream(stream, Text("{time} {level:<7} {text}", color=_colorful(stream)))


def _colorful(stream: TextIO) -> bool:
    """Whether it is a terminal that knows colors, of somebody who wants them (https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")


def _stream(stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


def _journald() -> logging.Handler | None:
    try:
        from systemd.journal import JournalHandler  # noqa: PLC0415 - optional
    except ImportError:
        return None
    handler: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER=_identifier())
    handler.setFormatter(Text("{text}"))
    return handler


def _identifier() -> str:
    program = Path(sys.argv[0]).name
    return program if program.startswith(IDENTIFIER) else IDENTIFIER


def under_journald(stream: TextIO) -> bool:
    """Whether ``stream`` is the one that systemd connected to its journal (JOURNAL_STREAM, systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class Limit(logging.Filter):
    """Lets through ``burst`` records of one template in ``seconds``; the next one after that says how many it left out.

    What hostile senders can trigger thousands of times a second is then a few lines a minute. A record with an
    attribute ``unlimited`` (``extra={"unlimited": True}``) is let through always: its caller bounds it.
    """

    def __init__(self, burst: int = 20, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._burst = burst
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide about one record, and append the count of those left out to the first that is let through again."""
        if getattr(record, "unlimited", False):
            return True
        now = self._clock()
        # The template, not the text: that is the line of code that says it.
        key = (record.name, record.lineno, str(record.msg)[:80])
        begun, passed, withheld = self._seen.get(key, (now, 0, 0))
        if now - begun >= self._seconds:
            if withheld:
                record.msg = f"{record.getMessage()} ({withheld} more like this were not logged)"
                record.args = None
            begun, passed, withheld = now, 0, 0
        let = passed < self._burst
        if len(self._seen) >= _LONGEST:
            self._seen.clear()
        self._seen[key] = (begun, passed + let, withheld + (not let))
        return let


def _text(record: logging.LogRecord) -> str:
    """Return the record's message, and in short what exception it carries, on one safe line."""
    message = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, LogguarddError | OSError):
        message = f"{message}: {error}" if str(error) not in message else message
    elif error is not None:
        message = f"{message}: {type(error).__name__}: {error}"
    return printable(urls.redact(message))[:_LONGEST]


def _unexpected(record: logging.LogRecord) -> list[str]:
    """Return the traceback's lines of an exception that nobody expected: a bug, which its author must find."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None or isinstance(error, LogguarddError | OSError):
        return []
    lines = "".join(traceback.format_exception(error)).splitlines()
    return [printable(urls.redact(line))[:_LONGEST] for line in lines]


class Text(logging.Formatter):
    """Lines for people. ``shape`` may hold {time}, {level}, {priority} (as in sd-daemon(3)) and {text}."""

    def __init__(self, shape: str, *, color: bool = False) -> None:
        super().__init__()
        self._shape = shape
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and for a bug its traceback indented below."""
        line = self._shape.format(
            time=datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "seconds")[:19],
            level=record.levelname.lower(),
            priority=_priority(record.levelno),
            text="\n    ".join([_text(record), *_unexpected(record)]),
        )
        if self._color and record.levelno >= logging.WARNING:
            return f"{_RED if record.levelno >= logging.ERROR else _YELLOW}{line}{_PLAIN}"
        return line


class Json(logging.Formatter):
    """JSON lines: time (RFC 3339, UTC), level, logger, message, what was passed in ``extra``, exception for a bug."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object on one line."""
        time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        item: MutableMapping[str, Any] = {
            "time": time_.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(record),
        }
        item.update((key, value) for key, value in vars(record).items() if key not in _OWN_FIELDS and key not in item)
        if lines := _unexpected(record):
            item["exception"] = "\n".join(lines)
        return json.dumps(item, default=str, ensure_ascii=False)


def _priority(level: int) -> int:
    """Return the syslog severity (RFC 5424 section 6.2.1) of a level of logging."""
    for bound, severity in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= bound:
            return severity
    return 7
