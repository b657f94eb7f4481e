"""How many files, sockets among them, this process may open (getrlimit(2), RLIMIT_NOFILE)."""

from __future__ import annotations

import resource

#: Files that the daemon has open beside the senders' connections, generously: databases, listeners, followers.
OWN = 256


def allow(wanted: int) -> int:
    """Raise the limit to ``wanted`` as far as the hard limit permits; return how many of them may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if granted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return max(granted, soft)
