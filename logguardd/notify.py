"""Tell systemd how we are: sd_notify(3), without libsystemd. Without NOTIFY_SOCKET everything here does nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import time

from logguardd.notation import printable

_LONGEST = 1024
# Seconds between two signs of life at most: of the time that systemd allows, a machine under load shall have most.
_OFTEN = 0.5


def notify(state: str) -> bool:
    """Send ``state`` (lines of NAME=VALUE) to systemd; return whether it was sent. Never raises OSError."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    # "@" stands for the NUL of an abstract socket.
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # The manager may be busy; a status is not worth waiting for.
            sender.settimeout(1.0)
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def ready(status: str = "") -> bool:
    """Say that start-up, or a reload, is complete."""
    return notify("READY=1" + _status(status))


def reloading(status: str = "") -> bool:
    """Say that the configuration is being read again; ``ready`` ends it. The time is what Type=notify-reload wants (systemd 253)."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify(f"RELOADING=1\nMONOTONIC_USEC={now}{_status(status)}")


def stopping(status: str = "") -> bool:
    """Say that we are shutting down."""
    return notify("STOPPING=1" + _status(status))


def status(text: str) -> bool:
    """Set the line that ``systemctl status`` shows."""
    return notify(_status(text).lstrip("\n"))


def watchdog() -> bool:
    """Say that we are alive."""
    return notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Return the seconds between two calls of ``watchdog`` (half of what systemd allows), None if it wants none.

    sd_watchdog_enabled(3): WATCHDOG_PID, where set, must be ours.
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


async def watch() -> None:
    """Say that we are alive as often as systemd wants it, until cancelled; return at once if it does not."""
    interval = watchdog_interval()
    while interval is not None:
        watchdog()
        await asyncio.sleep(min(interval, _OFTEN))


def _status(text: str) -> str:
    return f"\nSTATUS={printable(text)[:_LONGEST]}" if text else ""
