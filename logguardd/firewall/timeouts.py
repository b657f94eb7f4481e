"""How long an element stays in the kernel."""

from __future__ import annotations

from logguardd.records import SECOND

#: The longest timeout that ipset(8) takes, in seconds.
IPSET_LONGEST = 2147483
#: The longest timeout that is asked for, in seconds: 68 years are as good as for ever, and far below what the kernel's
#: clock can count.
LONGEST = (1 << 31) - 1


def seconds_left(until: int | None, now: int) -> int | None:
    """Return the timeout in whole seconds, rounded up; None for none, 0 or less for a ban that has ended."""
    return None if until is None else min(-((now - until) // SECOND), LONGEST)
