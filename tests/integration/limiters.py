"""What the limiters' tests share: tallies, and an event loop around a limiter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from logguardd.records import SECOND, Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from logguardd.limiter import Limiter

T = 1_790_000_000 * SECOND
WINDOW = 60 * SECOND


def tally(*marks: tuple[int, str], key: str = "k", window: int = WINDOW, threshold: int = 2) -> Tally:
    return Tally(f"logguardd:hits:{key}", window, threshold, marks)


def with_limiter(make: Callable[[], Limiter], use: Callable[[Limiter], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        limiter = make()
        try:
            return await use(limiter)
        finally:
            await limiter.close()

    return asyncio.run(run())


def judged(make: Callable[[], Limiter], *batches: list[Tally]) -> list[list[Verdict]]:
    async def use(limiter: Limiter) -> list[list[Verdict]]:
        return [await limiter.count(batch) for batch in batches]

    return with_limiter(make, use)
