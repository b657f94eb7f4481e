"""How long an element stays in the kernel."""

from __future__ import annotations

from logguardd.records import SECOND

#: The longest timeout that ipset(8) takes, in seconds.
IPSET_LONGEST = 2147483
# The kernel's clock counts nanoseconds in 64 bits; 68 years are far below and as good as for ever.
_LONGEST = (1 << 31) - 1


def seconds_left(until: int | None, now: int) -> int | None:
    """Return the timeout in whole seconds, rounded up; None for none, 0 or less for a ban that has ended."""
    return None if until is None else min(-((now - until) // SECOND), _LONGEST)
