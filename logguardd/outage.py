"""Bans go on while the journal takes nothing: what waits for it is judged from memory.

The journal will number what waits in the order in which it came, so its positions, and with them the identities of its
hits, are known already; judging it again from the journal afterwards changes nothing. Datagrams for which there is no room
to wait are dropped, but judged too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from logguardd.consumers import DetectorConsumer, Parsed, Reader
    from logguardd.journal.intake import Intake

#: Seconds between two looks at what has come in.
LOOK = 0.1


async def judge_held(
    intake: Intake,
    reader: Reader,
    detector: DetectorConsumer,
    judge: Callable[[list[Parsed]], Awaitable[None]],
) -> None:
    """Judge what ``intake`` holds, whenever the journal takes nothing, until cancelled."""
    judged = 0
    while True:
        await intake.stuck.wait()
        # What the journal has comes first: the detector is about to read it.
        if detector.offset >= intake.stuck_at:
            for batch in intake.held(judged):
                judged = batch.offset + batch.count
                await judge(await reader.parse(batch))
            for batch in intake.seen():
                await judge(await reader.parse(batch))
        await asyncio.sleep(LOOK)
