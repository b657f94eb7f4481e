"""One suite over both archives: what is stored is what was given, exactly once, whatever is in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logguardd.archive.rows import COLUMNS
from logguardd.errors import UnavailableError
from tests.integration.archives import DAY, JOURNAL, MATCH, NOW, TODAY, Kind, same, some_rows

if TYPE_CHECKING:
    from logguardd.archive.rows import Row
    from tests.integration.archives import Archive


async def store(kind: Kind, rows: list[Row]) -> list[Row]:
    """Store rows in one write and return what is then in the table."""
    async with kind.opened() as archive:
        begin = await archive.offset(JOURNAL)
        await archive.write(rows, JOURNAL, max(begin, 1) + len(rows))
    return await kind.logs()


def test_rows_come_back_as_they_went(kind: Kind) -> None:
    given = [
        *some_rows(["a message"], match=MATCH),
        *some_rows(["no match, little known"], hostname=None, app_name=None, procid=None, msgid=None, structured_data=None),
        *some_rows(["v6"], at=NOW + 1, match=MATCH._replace(address="2001:db8::5", protocol="udp")),
        *some_rows(["odd"], parse_error="PRI over 191", severity=0, facility=23, match=MATCH._replace(rule=None, port=0)),
        *some_rows([""], app_name="postfix/smtpd"),
    ]  # fmt: skip
    stored = asyncio.run(store(kind, given))
    assert len(stored) == len(given)
    assert all(map(same, stored, given)), stored


def test_the_table_has_the_columns_of_a_row(kind: Kind) -> None:
    asyncio.run(store(kind, some_rows(["a"])))
    ((number,),) = asyncio.run(kind.query("SELECT count(DISTINCT id) FROM logs WHERE id IS NOT NULL"))
    assert number == 1
    assert len(COLUMNS) == 19


HOSTILE = [
    "😀 ünï 漢字 \U0010ffff", "\\", "\\.", "\\N", "\\x41\\t", "tab\tcr\rvt\x0bff\x0c", "".join(map(chr, range(1, 32))),
    "\x7f\x80\x9f\u2028\u2029\ufeff\ufffe\uffff", "'; DROP TABLE logs; --", '"quoted", {braces}, $1 %s :x ?', "\\xff\\xfe",
    "x" * 65_536, "é" * 65_536, " ", "NULL",
]  # fmt: skip


def test_hostile_text_is_kept_exactly(kind: Kind) -> None:
    fields = ("hostname", "app_name", "procid", "msgid", "parse_error")
    given = [row for text in HOSTILE for row in some_rows([text], **dict.fromkeys(fields, text))]
    stored = asyncio.run(store(kind, given))
    assert [row for row, expected in zip(stored, given, strict=True) if not same(row, expected)] == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1, max_size=50)
)
def test_any_text_is_kept_exactly(kind: Kind, texts: list[str]) -> None:
    async def scenario() -> None:
        before = len(await kind.messages())
        async with kind.opened() as archive:
            begin = max(await archive.offset(JOURNAL), 1)
            await archive.write(some_rows(texts), JOURNAL, begin + len(texts))
        assert (await kind.messages())[before:] == texts

    async def make() -> None:
        async with kind.opened():
            pass

    asyncio.run(make())
    asyncio.run(scenario())


def test_offsets_go_with_the_rows(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened() as archive:
            assert await archive.offset(JOURNAL) == 0
            await archive.write(some_rows("abc"), JOURNAL, 4)
            await archive.write(some_rows("de"), JOURNAL, 6)
            await archive.write([], JOURNAL, 9)
            assert await archive.offset(JOURNAL) == 9
            assert await archive.offset("another") == 0
            await archive.write(some_rows("x"), "another", 2)
        async with kind.opened() as archive:
            assert (await archive.offset(JOURNAL), await archive.offset("another")) == (9, 2)
            await archive.write(some_rows("f"), JOURNAL, 10)
        assert await kind.messages() == list("abcdexf")

    asyncio.run(scenario())


def test_the_offset_must_be_read_before_writing(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened() as archive:
            with pytest.raises(UnavailableError, match="must be read"):
                await archive.write(some_rows("a"), JOURNAL, 2)
            await archive.offset(JOURNAL)
            await archive.open()
            with pytest.raises(UnavailableError, match="must be read"):
                await archive.write(some_rows("a"), JOURNAL, 2)
        assert await kind.messages() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_two_daemons_on_one_journal_store_nothing_twice(kind: Kind, begun: bool) -> None:
    async def scenario() -> None:
        async with kind.opened() as first, kind.opened() as second:
            offset = 0
            if begun:
                await first.offset(JOURNAL)
                await first.write(some_rows("0"), JOURNAL, offset := 2)
            assert await first.offset(JOURNAL) == await second.offset(JOURNAL) == offset
            await first.write(some_rows("ab"), JOURNAL, offset + 3)
            for _ in range(2):
                with pytest.raises(UnavailableError, match=r"another daemon|must be read"):
                    await second.write(some_rows("ab"), JOURNAL, offset + 3)
            assert await second.offset(JOURNAL) == offset + 3
            await second.write(some_rows("c"), JOURNAL, offset + 4)
        assert "".join(await kind.messages()) == ("0" if begun else "") + "abc"

    asyncio.run(scenario())


def test_two_daemons_racing_store_each_position_once(kind: Kind) -> None:
    async def consume(archive: Archive, end: int) -> None:
        while (begin := max(await archive.offset(JOURNAL), 1)) < end:
            try:
                while begin < end:
                    await archive.write(some_rows([str(begin), str(begin + 1)]), JOURNAL, begin + 2)
                    begin += 2
                    await asyncio.sleep(0)
            except UnavailableError:
                pass

    async def scenario() -> None:
        async with kind.opened() as first, kind.opened() as second:
            await asyncio.wait_for(asyncio.gather(consume(first, 101), consume(second, 101)), 60)
        assert sorted(map(int, await kind.messages())) == list(range(1, 101))

    asyncio.run(scenario())


POISON = {
    "NUL": {"msg": "a\0b"},
    "a lone surrogate": {"msg": "a\udc80b"},
    "broken JSON": {"structured_data": '{"a": '},
    "JSON with NUL": {"structured_data": '{"a": "\\u0000"}'},
    "a facility out of range": {"facility": 1 << 70},
    "a time out of range": {"timestamp": 1 << 64},
    "no number": {"facility": "four"},
}


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("what", POISON)
def test_a_row_that_is_refused_does_not_hold_up_the_others(kind: Kind, what: str, count: int) -> None:
    """SQLite takes some of these as they are; no row is missing, none is there twice, and it says so in the row."""

    async def scenario() -> None:
        bad = [dict(zip(COLUMNS, row, strict=True)) for row in some_rows(["bad"] * count)]
        names = {"msg": "message"}
        for row in bad:
            row.update({names.get(key, key): value for key, value in POISON[what].items()})
        rows = [*some_rows("ab"), *(tuple(row.values()) for row in bad), *some_rows("cde")]
        async with kind.opened() as archive:
            await archive.offset(JOURNAL)
            await archive.write(rows, JOURNAL, 1 + len(rows))
            assert await archive.offset(JOURNAL) == 1 + len(rows)
            await archive.write(some_rows("f"), JOURNAL, 2 + len(rows))
        stored = [dict(zip(COLUMNS, row, strict=True)) for row in await kind.logs()]
        good = [row["message"] for row in stored if row["parse_error"] is None and row["message"] in list("abcdef")]
        assert good == list("abcdef")
        assert len(stored) == 6 + count
        escaped = [row for row in stored if row["parse_error"]]
        if kind.name == "postgres":
            assert len(escaped) == count
        for row in escaped:
            assert row["parse_error"].startswith("not stored as it was: ")
            assert row["client_id"] == "web1"
            assert row["created_at"] == NOW
        if what == "NUL" and kind.name == "postgres":
            assert escaped[0]["message"] == "a\\x00b"

    asyncio.run(scenario())


def test_messages_of_any_day_are_stored(kind: Kind) -> None:
    """A journal replayed after weeks, a clock that was wrong."""
    times = [
        TODAY - 400 * DAY,
        TODAY - 30 * DAY,
        TODAY,
        TODAY + DAY - 1,
        TODAY + DAY,
        TODAY + 400 * DAY,
        0,
        -DAY,
        1 << 53,
    ]
    given = [row for n, at in enumerate(times) for row in some_rows([str(n)], at=at)]
    stored = asyncio.run(store(kind, given))
    assert sorted(stored, key=lambda row: row[6]) == given


def test_retention_drops_whole_days(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened(retention=3 * DAY) as archive:
            now = TODAY + DAY // 2
            await archive.offset(JOURNAL)
            rows = [row for day in range(10) for row in some_rows([str(day)] * 3, at=TODAY - day * DAY)]
            await archive.write(rows, JOURNAL, 31)
            assert await archive.maintain(now) == 6
            assert sorted(set(await kind.messages())) == ["0", "1", "2", "3"]
            assert await archive.maintain(now) == 0
            assert await archive.maintain(now + DAY) == 1
            assert len(await kind.messages()) == 9
            await archive.write(some_rows(["late"], at=TODAY - 2 * DAY), JOURNAL, 32)
            assert await archive.maintain(now + 30 * DAY) >= 3
            assert await kind.messages() == []
            assert await archive.offset(JOURNAL) == 32

    asyncio.run(scenario())


def test_many_daemons_start_at_once(kind: Kind) -> None:
    async def start(archive: Archive) -> None:
        while True:  # as the consumer does: SQLite's "database is locked" is a reason to try again
            try:
                return await archive.open()
            except UnavailableError:
                assert kind.name == "sqlite"
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        archives = [kind.make() for _ in range(6)]
        await asyncio.wait_for(asyncio.gather(*map(start, archives)), 30)
        for n, archive in enumerate(archives):
            await archive.offset(str(n))
        await asyncio.gather(*(a.write(some_rows([str(n)]), str(n), 2) for n, a in enumerate(archives)))
        await asyncio.gather(*(archive.close() for archive in archives))
        assert sorted(await kind.messages()) == list("012345")

    asyncio.run(scenario())


def test_a_cancelled_write_is_whole_or_not_there(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened() as archive:
            for attempt in range(8):
                begin = max(await archive.offset(JOURNAL), 1)
                writing = asyncio.create_task(archive.write(some_rows(["x"] * 500), JOURNAL, begin + 500))
                await asyncio.sleep(attempt * 0.002)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            end = max(await archive.offset(JOURNAL), 1)
            await archive.write(some_rows("y"), JOURNAL, end + 1)
            assert len(await kind.messages()) == end

    asyncio.run(scenario())
