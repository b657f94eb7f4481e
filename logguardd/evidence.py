"""What is known of recent hits, so that a ban can say who reported which: the limiter only knows how many there were."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logguardd.jails import Group

_NAME_LENGTH = 255


class Seen(NamedTuple):
    """A hit, without its message: time in microseconds, journal position, rule, reporting host, times."""

    time: int
    position: int
    rule: str
    sender: str
    times: int


class Evidence:
    """Remembers the last ``hits`` hits of each of the ``groups`` groups that were hit last."""

    def __init__(self, groups: int = 20_000, hits: int = 32) -> None:
        self._groups = groups
        self._hits = hits
        self._seen: OrderedDict[str, list[Seen]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many groups are remembered."""
        return len(self._seen)

    def note(self, groups: Iterable[Group]) -> None:
        """Remember the groups' hits."""
        remembered = self._seen
        for group in groups:
            key = group.tally.key
            seen = remembered.get(key)
            if seen is None:
                seen = remembered[key] = []
            else:
                remembered.move_to_end(key)
            for hit in group.hits if len(group.hits) <= self._hits else group.hits[-self._hits :]:
                seen.append(Seen(hit.time, hit.position, hit.rule, hit.sender[:_NAME_LENGTH], hit.times))
            if len(seen) > self._hits:
                del seen[: -self._hits]
        while len(remembered) > self._groups:
            remembered.popitem(last=False)

    def of(self, group: Group) -> Sequence[Seen]:
        """Return what is known of hits in the window that ends with the group's last hit, each once, oldest first."""
        seen = self._seen.get(group.tally.key, ())
        since = group.tally.marks[-1][0] - group.tally.window
        return list({one.position: one for one in seen if one.time > since}.values())

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is known of these limiter keys."""
        for key in keys:
            self._seen.pop(key, None)
