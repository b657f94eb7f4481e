"""The intake: listeners put frames, the journal gets batches in group commits.

A group is committed when it holds 256 KiB or 10 ms after its first frames, whichever comes first, one group at a time;
what comes in meanwhile makes the next one. While the journal is unavailable everything is kept and tried again; at the
bound the listeners stop. Streams and datagrams have a bound each: a sender by TCP that catches up waits at its own for as
long as that takes, and datagrams cannot wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from logguardd.errors import UnavailableError
from logguardd.records import SECOND, Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.journal import Journal
    from logguardd.metrics import Metrics
    from logguardd.records import Framed, Origin

_log = logging.getLogger(__name__)

#: Bytes and seconds after which a group is committed.
GROUP_BYTES = 256 << 10
GROUP_DELAY = 0.010
#: Bytes of streams, and of datagrams, waiting for the journal at which the intake is full of them.
BOUND = 16 << 20
#: The most that goes into one transaction.
_APPEND_BYTES = 4 << 20
#: Bytes that a listener may bring with one read once it is let go on.
_READ = 256 << 10
_DATAGRAMS = "udp"
#: Seconds between attempts while the journal is unavailable: the first and the longest.
_RETRY_FIRST = 0.05
_RETRY_LAST = 1.0
#: What a put weighs beside its frames, so that empty-looking traffic is bounded too.
_PUT = 100
#: Bytes of dropped frames kept for a look at them, and where their positions begin: beyond all of the journal's.
_SEEN, _SEEN_FROM = 256 << 10, 1 << 62


class _Entry:
    """Frames of one origin, on their way to be one batch."""

    __slots__ = ("count", "frames", "origin", "received_at", "size")

    def __init__(self, origin: Origin, received_at: int) -> None:
        self.origin = origin
        self.received_at = received_at
        self.frames: list[bytes] = []
        self.count = 0
        self.size = 0


class _Group:
    """Entries that are committed together, and the future that their listeners wait for."""

    __slots__ = ("by_origin", "datagrams", "done", "entries", "size")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.entries: list[_Entry] = []
        self.by_origin: dict[Origin, _Entry] = {}
        self.size = 0  # with what each put weighs
        self.datagrams = 0  # how much of it came by UDP


class Intake:
    """A listeners.Sink in front of ``journal``; ``clock`` gives the time in microseconds since the epoch.

    Frames of one origin that come within the group delay of each other go into one batch, which bears the time of the
    first of them: a trickle of datagrams from many hosts makes one row a host and commit, not one a datagram.

    The future that ``put`` returns is shared: use add_done_callback or asyncio.shield, never cancel it. It is cancelled
    itself if the intake had to give its frames up at close.
    """

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        clock: Callable[[], int],
        *,
        group_bytes: int = GROUP_BYTES,
        group_delay: float = GROUP_DELAY,
        bound: int = BOUND,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._group_bytes = group_bytes
        self._group_delay = group_delay
        self._merge_within = round(group_delay * SECOND)
        self._bound = bound
        self._streams = 0
        self._datagrams = 0
        self._groups: deque[_Group] = deque()  # oldest first; only the last one still grows
        self._callbacks: deque[Callable[[], None]] = deque()
        self._waking = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing: _Group | None = None
        self._closed = False
        #: None while the journal takes what it is given, else what it said last.
        self.trouble: str | None = None
        #: Set while the journal takes nothing, and the position that the first of what waits for it will get then.
        self.stuck = asyncio.Event()
        self.stuck_at = 0
        self._seen: list[Batch] = []
        self._seen_size = self._seen_to = 0

    @property
    def full(self) -> bool:
        """Whether ``bound`` bytes or more that came by streams wait for the journal."""
        return self._streams >= self._bound

    @property
    def full_of_datagrams(self) -> bool:
        """Whether ``bound`` bytes or more that came by UDP wait for the journal."""
        return self._datagrams >= self._bound

    def held(self, position: int) -> list[Batch]:
        """Return what waits from ``position`` on, numbered as the journal will number it, less what may still grow.

        Only while ``stuck``.
        """
        offset = self.stuck_at
        grows = self._clock() - self._merge_within
        batches: list[Batch] = []
        for group in self._groups:
            for entry in group.entries:
                if group is not self._writing and entry.received_at >= grows:
                    return batches
                if offset >= position:
                    frames = b"\n".join(entry.frames)
                    batches.append(Batch(offset, entry.received_at, entry.origin, frames, entry.count))
                offset += entry.count
        return batches

    @property
    def watching(self) -> bool:
        """Whether frames that are dropped should be shown to ``see``: the journal takes nothing, but bans go on."""
        return self.stuck.is_set() and self._seen_size < _SEEN

    def see(self, origin: Origin, framed: Framed) -> None:
        """Keep frames that are dropped until ``seen`` is asked for them."""
        if framed.number:
            now = self._clock()
            # Like nothing before, also not before a restart.
            first = max(self._seen_to, _SEEN_FROM + now)
            self._seen.append(Batch(first, now, origin, framed.frames, framed.number))
            self._seen_to = first + framed.number
            self._seen_size += len(framed.frames) + _PUT

    def seen(self) -> list[Batch]:
        """Give what ``see`` was shown since the last call, numbered as nothing in the journal is."""
        seen, self._seen, self._seen_size = self._seen, [], 0
        return seen

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, soon after ``full`` became False again (a few at a time, as room permits)."""
        self._callbacks.append(callback)
        if not self.full:
            self._wake_soon()

    def put(self, origin: Origin, framed: Framed) -> asyncio.Future[None] | None:
        """Take frames, stamp the receive time; return a future that is done when they are durable (None: no frames)."""
        if not framed.number:
            return None
        loop = asyncio.get_running_loop()
        if self._closed:
            lost: asyncio.Future[None] = loop.create_future()
            lost.cancel()
            self._metrics.dropped.labels("shutdown").inc(framed.number)
            return lost
        if self._groups and self._groups[-1] is not self._writing and self._groups[-1].size < _APPEND_BYTES:
            group = self._groups[-1]
        else:
            group = _Group(loop.create_future())
            self._groups.append(group)
        now = self._clock()
        entry = group.by_origin.get(origin)
        if entry is None or entry.size >= self._group_bytes or not 0 <= now - entry.received_at <= self._merge_within:
            entry = group.by_origin[origin] = _Entry(origin, now)
            group.entries.append(entry)
        size = len(framed.frames) + _PUT
        entry.frames.append(framed.frames)
        entry.count += framed.number
        entry.size += size
        group.size += size
        if origin.transport == _DATAGRAMS:
            group.datagrams += size
            self._datagrams += size
        else:
            self._streams += size
        if self._writing is None:
            self._schedule()
        return group.done

    def _schedule(self) -> None:
        """Have the oldest group written: now if it is large enough or the last, else after the group delay."""
        if self._closed or self._groups[0].size >= self._group_bytes:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._group_delay, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing = self._groups[0]
        self._task = asyncio.get_running_loop().create_task(self._commit(self._writing))
        self._task.add_done_callback(self._finished)

    async def _commit(self, group: _Group) -> None:
        """Write a group, however often that takes."""
        batches = [
            Batch(0, entry.received_at, entry.origin, b"\n".join(entry.frames), entry.count) for entry in group.entries
        ]
        await self._append(batches)
        now = self._clock()
        for batch in batches:
            self._metrics.journal_seconds.observe(max(now - batch.received_at, 0) / SECOND)

    async def _append(self, batches: list[Batch]) -> None:
        delay = _RETRY_FIRST
        since = None
        while True:
            try:
                await self._journal.append(batches)
            except UnavailableError as error:
                self._metrics.journal_failures.inc()
                self.trouble = str(error)
                self.stuck_at = self._journal.head
                self.stuck.set()
                if since is None:
                    since = self._clock()
                    _log.warning(
                        "%s; keeping what comes in, up to %d bytes of streams and of datagrams, then listeners stop",
                        error, self._bound,
                    )  # fmt: skip
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_LAST)
            else:
                self.trouble = None
                self.stuck.clear()
                self.seen()
                if since is not None:
                    _log.info("the journal can be written again, after %.1f s", (self._clock() - since) / SECOND)
                return

    def _finished(self, task: asyncio.Task[None]) -> None:
        """Answer for the group that was written, or given up, and go on with the next."""
        group = self._groups.popleft()
        self._writing = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("the journal lost a group of messages", exc_info=error)
        if error is not None or task.cancelled():
            self._give_up(group)
        else:
            self._release(group)
            if not group.done.done():
                group.done.set_result(None)
        if self._groups:
            self._schedule()
        if self._callbacks and not self.full:
            self._wake_soon()

    def _give_up(self, group: _Group) -> None:
        """Count what never reached the journal."""
        self._release(group)
        self._metrics.dropped.labels("journal").inc(sum(entry.count for entry in group.entries))
        group.done.cancel()

    def _release(self, group: _Group) -> None:
        self._streams -= group.size - group.datagrams
        self._datagrams -= group.datagrams

    def _wake_soon(self) -> None:
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        """Let as many listeners go on as there is room for a read of each; the others a moment later."""
        self._waking = False
        room = max(self._bound - self._streams, 0)
        for _ in range(min(len(self._callbacks), -(-room // _READ))):
            self._callbacks.popleft()()
        if self._callbacks and not self.full:
            self._waking = True
            asyncio.get_running_loop().call_later(self._group_delay / 2, self._wake)

    async def flush(self) -> None:
        """Return once everything put so far is durable, or was given up."""
        if self._groups:
            self._hurry()
            await asyncio.wait([self._groups[-1].done])

    def _hurry(self) -> None:
        if self._writing is None:
            self._start()

    async def close(self, patience: float = 3.0) -> None:
        """Flush for at most ``patience`` seconds; what is left then is counted as dropped, its futures cancelled.

        What is put from now on is dropped and counted, reason "shutdown".
        """
        self._closed = True
        if self._groups:
            self._hurry()
            await asyncio.wait([self._groups[-1].done], timeout=patience)
        if self._timer is not None:
            self._timer.cancel()
        left = sum(entry.count for group in self._groups for entry in group.entries)
        if left:
            _log.error("%d messages given up: the journal could not be written for %.1f s", left, patience)
        while self._groups and self._groups[-1] is not self._writing:
            self._give_up(self._groups.pop())
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
