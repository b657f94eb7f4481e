"""The daemon's own log lines."""

import io
import json
import logging
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
from aiohttp.http_exceptions import BadStatusLine

from logguardd import log
from logguardd.errors import ConfigError


def throw(error):
    raise error


def record(message, *args, level=logging.WARNING, error=None, **extra):
    exc_info = None
    if error is not None:
        try:
            throw(error)
        except type(error):
            exc_info = sys.exc_info()
    made = logging.LogRecord("logguardd.test", level, "test.py", 1, message, args, exc_info)
    vars(made).update(extra)
    return made


TEXT = log.Text("{level} {text}")


def test_text():
    assert TEXT.format(record("peer %s left", "192.0.2.1")) == "warning peer 192.0.2.1 left"
    assert log.Text("<{priority}>{text}").format(record("x", level=logging.ERROR)) == "<3>x"
    assert log.Text("{time} {text}").format(record("x"))[:2] == "20"


def test_what_came_from_the_wire_is_escaped():
    line = TEXT.format(record("from %s", "a\nFeb 30 root logged in\r\x1b[2J\u202e\x00"))
    assert line == r"warning from a\nFeb 30 root logged in\r\x1b[2J\u202e\x00"


def test_lines_are_bounded():
    assert len(TEXT.format(record("x" * 100_000))) < 10_000


def test_passwords_are_hidden():
    assert "hunter2" not in TEXT.format(record("cannot reach %s", "postgresql://u:hunter2@h/db"))
    assert "hunter2" not in TEXT.format(record("failed", error=ValueError("redis://:hunter2@h")))


@pytest.mark.parametrize("error", [ConfigError("f.toml:1: wrong"), ConnectionRefusedError(111, "Connection refused")])
def test_expected_errors_have_no_traceback(error):
    line = TEXT.format(record("reload failed", error=error))
    assert "Traceback" not in line
    assert line == f"warning reload failed: {error}"
    assert "exception" not in json.loads(log.Json().format(record("x", error=error)))


def test_bugs_have_one():
    line = TEXT.format(record("lost", error=ZeroDivisionError("a\nb")))
    assert line.startswith(r"warning lost: ZeroDivisionError: a\nb" + "\n    Traceback")
    item = json.loads(log.Json().format(record("lost", error=ZeroDivisionError("a"))))
    assert "Traceback" in item["exception"]


def test_json():
    line = log.Json().format(record("hello %d\n", 1, transport="udp", peer={1}))
    assert "\n" not in line
    item = json.loads(line)
    assert item.pop("time").endswith("Z")
    assert item == {
        "level": "warning",
        "logger": "logguardd.test",
        "message": r"hello 1\n",
        "transport": "udp",
        "peer": "{1}",
    }


def test_repeated_lines_are_counted():
    now = [0.0]
    limit = log.Limit(burst=2, seconds=60, clock=lambda: now[0])
    assert [limit.filter(record("a %d", n)) for n in range(5)] == [True, True, False, False, False]
    assert limit.filter(record("other"))
    now[0] = 61.0
    after = record("a %d", 9)
    assert limit.filter(after)
    assert after.getMessage() == "a 9 (3 more like this were not logged)"
    quiet = record("other")
    assert limit.filter(quiet)
    assert quiet.getMessage() == "other"


def test_a_line_whose_caller_bounds_it_is_never_left_out():
    limit = log.Limit(burst=1, seconds=60, clock=lambda: 0.0)
    told = [record("ban %d", n) for n in range(5)]
    for each in told:
        each.unlimited = True
    assert all(limit.filter(each) for each in told)
    assert "unlimited" not in json.loads(log.Json().format(told[0]))


@pytest.fixture
def root():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before[0], before[1]
    logging.captureWarnings(capture=False)


def test_configure(root):
    stream = io.StringIO()
    log.configure("info", "json", stream=stream)
    logging.getLogger("logguardd.x").info("one")
    logging.getLogger("logguardd.x").debug("none")
    log.configure("debug", "text", stream=stream)
    logging.getLogger("logguardd.x").debug("two")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["message"] == "one"
    assert second.endswith("debug   two")
    assert len(root.handlers) == 1


@pytest.mark.parametrize(
    ("term", "no_color", "colored"),
    [("xterm", None, True), ("xterm", "", True), ("xterm", "1", False), ("dumb", None, False), (None, None, False)],
)
def test_a_terminal_that_knows_colours_gets_them(root, monkeypatch, term, no_color, colored):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for name, value in (("TERM", term), ("NO_COLOR", no_color)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    stream = Terminal()
    log.configure("info", "auto", stream=stream)
    logging.getLogger("x").error("bad")
    assert stream.getvalue().startswith("\x1b[31m") == colored
    assert stream.getvalue().endswith("bad\x1b[0m\n" if colored else "bad\n")


def test_under_journald_lines_carry_their_priority(root, monkeypatch, tmp_path):
    with (tmp_path / "journal").open("w") as stream:
        status = (tmp_path / "journal").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert log.under_journald(stream)
        # Where systemd-python is not installed; what it does is tested under a booted systemd.
        monkeypatch.setitem(sys.modules, "systemd.journal", None)
        log.configure("info", "auto", stream=stream)
        logging.getLogger("x").warning("bad")
        stream.flush()
        assert (tmp_path / "journal").read_text() == "<4>bad\n"
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        assert not log.under_journald(stream)
    assert not log.under_journald(io.StringIO())


@pytest.mark.parametrize(
    ("program", "identifier"),
    [
        ("/usr/bin/logguardd-firewall", "logguardd-firewall"),
        ("/usr/bin/logguardd", "logguardd"),
        ("cli.py", "logguardd"),
    ],
)
def test_each_program_has_its_name_in_the_journal(root, monkeypatch, tmp_path, program, identifier):
    given = {}

    class JournalHandler(logging.Handler):
        def __init__(self, **fields):
            super().__init__()
            given.update(fields)

    monkeypatch.setitem(sys.modules, "systemd.journal", SimpleNamespace(JournalHandler=JournalHandler))
    monkeypatch.setattr(sys, "argv", [program])
    with (tmp_path / "journal").open("w") as stream:
        status = (tmp_path / "journal").stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.configure("info", "auto", stream=stream)
    assert given == {"SYSLOG_IDENTIFIER": identifier}


def test_what_nobody_catches_is_logged(root, monkeypatch):
    for module, hook in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    stream = io.StringIO()
    log.configure("info", "json", stream=stream)
    log.catch()
    try:
        throw(ZeroDivisionError("a\nb"))
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

    class Odd:
        def __del__(self):
            raise ValueError("odd")

    Odd()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nnews", DeprecationWarning, stacklevel=1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["critical", "critical", "error", "warning"]
    assert "ZeroDivisionError: a\\nb" in lines[0]["message"]
    assert "Traceback" in lines[1]["exception"]
    assert "ValueError: odd" in lines[2]["message"]
    assert "old" in lines[3]["message"]


def test_requests_that_are_none_are_not_logged(root):
    stream = io.StringIO()
    log.configure("info", "text", stream=stream)
    for error in (BadStatusLine("x"), ValueError("x")):
        logging.getLogger("aiohttp.server").error("Error handling request", exc_info=error)
    assert stream.getvalue().count("Error handling request") == 1
    assert "ValueError" in stream.getvalue()
