"""What can be asked of both archives: what an address did, and what was received in some time, as batches again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from logguardd.archive import history
from logguardd.archive.rows import About, Received
from logguardd.records import Origin
from tests.integration.archives import JOURNAL, MATCH, NOW, ORIGIN, TODAY, Kind, some_rows

if TYPE_CHECKING:
    from logguardd.records import Batch


def test_what_an_address_did_last(kind: Kind) -> None:
    async def run() -> list[About]:
        async with kind.opened() as archive:
            await archive.offset(JOURNAL)
            rows = [
                *some_rows(["of another one"], at=NOW - 2, match=MATCH._replace(address="203.0.113.55")),
                *some_rows(["oldest", "second"], at=NOW - 2, match=MATCH),
                *some_rows(["nobody's"], at=NOW - 1),
                *some_rows(["newest"], at=NOW, match=MATCH._replace(port=0, rule=None), app_name=None),
            ]
            await archive.write(rows, JOURNAL, 1 + len(rows))
            assert await archive.about("2001:db8::1", 5) == []
            return await archive.about("203.0.113.5", 2)

    assert asyncio.run(run()) == [
        About(NOW, "web1", None, None, None, None, "newest"),
        About(NOW - 2, "web1", "sshd", "sshd-failed-password", "auth-failure", 22, "second"),
    ]


def test_what_was_received_in_some_time(kind: Kind) -> None:
    async def run() -> list[list[Received]]:
        async with kind.opened() as archive:
            await archive.offset(JOURNAL)
            rows = [row for at in range(5) for row in some_rows([f"{at} a", f"{at} b"], at=TODAY - 2 + at)]
            await archive.write(rows, JOURNAL, 1 + len(rows))
        archive = kind.make()  # beside the daemon: nothing is opened, nothing migrated
        try:
            await archive.look()
            return [await archive.received(TODAY - 1, TODAY + 2, most) for most in (100, 3)]
        finally:
            await archive.close()

    found, cut = asyncio.run(run())
    expected = [Received(TODAY - 2 + at, "tcp://192.0.2.1", f"{at} {which}") for at in (1, 2, 3) for which in "ab"]
    assert found == expected
    assert cut == expected[:3]


def test_batches_come_back_in_order_whatever_is_received_together(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST", 20)
    times = [*range(30), *[40] * 50, 10**7, 10**7 + 1, 5 * 10**9, 9 * 10**9]

    async def run() -> list[Batch]:
        async with kind.opened() as archive:
            await archive.offset(JOURNAL)
            rows = [row for number, at in enumerate(times) for row in some_rows([str(number)], at=TODAY + at)]
            await archive.write(rows, JOURNAL, 1 + len(rows))
            return [batch async for batch in history.batches(archive, TODAY, TODAY + 9 * 10**9)]

    batches = asyncio.run(run())
    given = [(TODAY + at, str(number)) for number, at in enumerate(times)][:-1]
    assert [(one.received_at, frame.decode()) for one in batches for frame in one.frames.split(b"\n")] == given
    assert [one.offset for one in batches] == [1 + sum(b.count for b in batches[:n]) for n in range(len(batches))]
    assert {one.origin for one in batches} == {ORIGIN}


@pytest.mark.parametrize(
    "origin",
    [
        Origin("192.0.2.1", "udp"), Origin("2001:db8::1", "tls", "web1.example.com"), Origin("::1", "relp"),
        Origin("192.0.2.1", "tls", "a name (of sorts)"), Origin("?", "tcp"),
    ],
)  # fmt: skip
def test_an_origin_is_read_back(origin: Origin) -> None:
    assert history.origin_of(str(origin)) == origin
