"""The archive on PostgreSQL: partitions, rights, migrations, URLs, a server that is away."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import asyncpg
import pytest

from logguardd.archive.migrations import load
from logguardd.archive.postgres import PostgresArchive
from logguardd.errors import ConfigError, UnavailableError
from logguardd.records import Ban
from tests.integration.archives import DAY, JOURNAL, NOW, TODAY, Kind, some_rows
from tests.servers.process import free_port

if TYPE_CHECKING:
    from tests.servers.postgres import PostgreSQL


@pytest.fixture
def kind(postgres: PostgreSQL) -> Kind:
    return Kind("postgres", postgres.fresh_database())


def day(time_: int) -> str:
    return time.strftime("logs_%Y%m%d", time.gmtime(time_ // 1_000_000))


async def partitions(kind: Kind) -> set[str]:
    rows = await kind.query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'logs'::regclass")
    return {name for (name,) in rows}


def test_partitions_are_made_ahead_and_on_demand(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened() as archive:
            assert await partitions(kind) == {"logs_default", day(NOW)}
            await archive.maintain(NOW)
            ahead = {day(NOW + n * DAY) for n in range(4)}
            assert await partitions(kind) == {"logs_default"} | ahead
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a", at=TODAY - 20 * DAY) + some_rows("b", at=TODAY - 1), JOURNAL, 3)
            assert await partitions(kind) == {"logs_default", day(NOW - 20 * DAY), day(NOW - DAY)} | ahead
        assert await kind.query("SELECT count(*) FROM logs_default") == [(0,)]
        assert await kind.query(f"SELECT message FROM {day(NOW - DAY)}") == [("b",)]

    asyncio.run(scenario())


def test_a_day_is_from_midnight_to_midnight_utc_whatever_the_servers_zone(kind: Kind, postgres: PostgreSQL) -> None:
    async def scenario() -> None:
        name = kind.place.rpartition("/")[2]
        postgres.query(f"ALTER DATABASE {name} SET timezone = 'America/New_York'")
        async with kind.opened() as archive:
            await archive.maintain(NOW)
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a", at=TODAY) + some_rows("b", at=TODAY + DAY - 1), JOURNAL, 3)
        assert len(await kind.query(f"SELECT message FROM {day(TODAY)}")) == 2

    asyncio.run(scenario())


def test_a_partition_takes_over_what_the_default_has(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened() as archive:
            other = TODAY - 5 * DAY
            connection = await asyncpg.connect(kind.place)
            await connection.execute("ALTER FUNCTION logguardd_make_partition RENAME TO gone")
            await archive.offset(JOURNAL)
            await archive.write(some_rows("ab", at=other), JOURNAL, 3)
            assert await kind.query("SELECT count(*) FROM logs_default") == [(2,)]
            await connection.execute("ALTER FUNCTION gone RENAME TO logguardd_make_partition")
            await connection.close()
            await archive.maintain(NOW)
            await archive.write(some_rows("c", at=other), JOURNAL, 4)
        assert await kind.query("SELECT count(*) FROM logs_default") == [(0,)]
        assert await kind.query(f"SELECT message FROM {day(other)} ORDER BY id") == [("a",), ("b",), ("c",)]

    asyncio.run(scenario())


def test_retention_reaches_the_default_partition_and_leaves_detached_days_alone(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened(retention=3 * DAY) as archive:
            await archive.offset(JOURNAL)
            old, kept = TODAY - 9 * DAY, TODAY - 8 * DAY
            await archive.write(some_rows("a", at=old) + some_rows("b", at=kept) + some_rows("c"), JOURNAL, 4)
            connection = await asyncpg.connect(kind.place)
            await connection.execute(f"ALTER TABLE logs DETACH PARTITION {day(kept)}")
            await connection.close()
            assert await archive.maintain(NOW) == 1
            assert await kind.query(f"SELECT message FROM {day(kept)}") == [("b",)]
            await archive.write(some_rows(["late"], at=kept), JOURNAL, 5)
            assert await kind.query("SELECT message FROM logs_default") == [("late",)]
            assert await archive.maintain(NOW) == 0
            assert await kind.query("SELECT message FROM logs") == [("c",)]

    asyncio.run(scenario())


def test_a_long_query_holds_up_neither_writing_nor_us(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.opened(retention=3 * DAY) as archive:
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a", at=TODAY - 9 * DAY) + some_rows("b"), JOURNAL, 3)
            report = await asyncpg.connect(kind.place)
            running = report.transaction()
            await running.start()
            await report.fetch("SELECT * FROM logs")
            started = time.monotonic()
            maintaining = asyncio.create_task(archive.maintain(NOW))
            for n in range(20):
                await archive.write(some_rows("x"), JOURNAL, 4 + n)
            assert await maintaining == 0
            await archive.write(some_rows("y", at=TODAY - 30 * DAY), JOURNAL, 24)
            assert time.monotonic() - started < 30
            await running.rollback()
            await report.close()
            assert await archive.maintain(NOW) >= 1
            assert (await kind.messages()).count("x") == 20

    asyncio.run(scenario())


def limited_role(postgres: PostgreSQL, kind: Kind, *functions: str) -> Kind:
    """Return the same database for a role with the rights that the migration's head names, and these functions."""
    name = f"app_{kind.place.rpartition('/')[2]}"
    postgres.query(f"CREATE ROLE {name} LOGIN")
    grants = [
        "GRANT SELECT, INSERT ON logs, blacklist, journal_offsets TO",
        *(f"GRANT EXECUTE ON FUNCTION {function}(date) TO" for function in functions),
    ]  # fmt: skip
    for grant in grants:
        postgres.query(f"{grant} {name}", kind.place)
    return Kind("postgres", kind.place.replace("postgres@", f"{name}@"))


def a_ban(count: int) -> Ban:
    return Ban(ip_network("203.0.113.5"), 22, "flood", NOW, NOW + DAY, "too many", count)


async def make_schema(kind: Kind) -> None:
    async with kind.opened():
        pass


def test_a_role_that_may_only_insert_and_select_is_enough(kind: Kind, postgres: PostgreSQL) -> None:
    asyncio.run(make_schema(kind))
    limited = limited_role(postgres, kind, "logguardd_make_partition", "logguardd_drop_partition")

    async def scenario() -> None:
        async with limited.opened(retention=3 * DAY) as archive:
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a", at=TODAY - 9 * DAY) + some_rows(["b\0"]) + some_rows("c"), JOURNAL, 4)
            await archive.write(some_rows("d"), JOURNAL, 5)
            assert await archive.maintain(NOW) == 1
            assert day(NOW + 3 * DAY) in await partitions(kind)
            for count in (1, 2):
                await archive.save_bans([a_ban(count)])
            assert [ban.count for ban in await archive.load_bans(10)] == [2]
            await archive.end_bans([a_ban(2)])
        assert await kind.query("SELECT is_active FROM blacklist") == [(False,)]
        assert await kind.messages() == ["b\\x00", "c", "d"]
        for statement in (
            "DELETE FROM logs", "DROP TABLE logs", "UPDATE logs SET message = ''", "UPDATE journal_offsets SET next_offset = 1",
            "DELETE FROM blacklist", "UPDATE blacklist SET is_active = true",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await limited.query(statement)

    asyncio.run(scenario())


def test_without_the_functions_everything_is_stored_all_the_same(
    kind: Kind, postgres: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(make_schema(kind))
    limited = limited_role(postgres, kind)

    async def scenario() -> None:
        async with limited.opened(retention=3 * DAY) as archive:
            await archive.offset(JOURNAL)
            for n in range(3):
                await archive.write(some_rows(str(n), at=TODAY - 9 * DAY), JOURNAL, n + 2)
                assert await archive.maintain(NOW) == 0
        assert await kind.query("SELECT count(*) FROM logs_default") == [(3,)]

    asyncio.run(scenario())
    for function in ("make", "drop"):
        lines = [
            r for r in caplog.records if f"permission denied for function logguardd_{function}_partition" in r.message
        ]
        assert len(lines) == 1, "said once"


def test_the_functions_cannot_be_led_astray(kind: Kind, postgres: PostgreSQL) -> None:
    """They run with the owner's rights: a caller's search_path and temporary tables must not matter."""
    asyncio.run(make_schema(kind))
    limited = limited_role(postgres, kind, "logguardd_make_partition", "logguardd_drop_partition")

    async def scenario() -> None:
        connection = await asyncpg.connect(limited.place)
        await connection.execute(
            "CREATE TEMP TABLE logs (x int); CREATE TEMP TABLE logs_default (created_at timestamptz)"
        )
        await connection.execute("SET search_path = pg_temp, public")
        assert await connection.fetchval("SELECT public.logguardd_make_partition('2020-01-01')")
        assert "logs_20200101" in await partitions(kind)
        assert str(await connection.fetchval("SELECT public.logguardd_drop_partition('2020-01-02')")) == "2020-01-01"
        await connection.close()

    asyncio.run(scenario())


def test_a_role_without_rights_is_told_what_to_do(kind: Kind, postgres: PostgreSQL) -> None:
    postgres.query(f"CREATE ROLE bare_{kind.place.rpartition('/')[2]} LOGIN")
    bare = Kind("postgres", kind.place.replace("postgres@", f"bare_{kind.place.rpartition('/')[2]}@"))
    with pytest.raises(
        ConfigError, match=r"permission denied for schema public; this role cannot bring the schema from version 0"
    ):
        asyncio.run(make_schema(bare))
    asyncio.run(make_schema(kind))
    with pytest.raises(
        ConfigError,
        match=r"permission denied for table logs: no right to SELECT; `logguardctl setup --postgres-admin URL` .* GRANTs",
    ):
        asyncio.run(make_schema(bare))
    for call in (
        "logguardd_advance('x', 0, 5)", "logguardd_end_ban('192.0.2.1', 0, now())",
        "logguardd_ban('192.0.2.1', 0, '', 1, now(), NULL, '{}')", "logguardd_make_partition('2020-01-01')",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            asyncio.run(bare.query(f"SELECT {call}"))


def test_a_newer_schema_is_refused(kind: Kind, postgres: PostgreSQL) -> None:
    asyncio.run(make_schema(kind))
    postgres.query("INSERT INTO logguardd_migrations VALUES (9999, 'future')", kind.place)
    with pytest.raises(ConfigError, match="schema is version 9999, made by a later logguardd"):
        asyncio.run(make_schema(kind))


def test_another_programs_table_is_left_alone(kind: Kind, postgres: PostgreSQL) -> None:
    postgres.query("CREATE TABLE logs (x int)", kind.place)
    with pytest.raises(ConfigError, match='relation "logs" already exists, and logguardd did not make it'):
        asyncio.run(make_schema(kind))
    assert asyncio.run(
        kind.query("SELECT count(*) FROM pg_class WHERE relname ~ '^(logguardd|blacklist|journal)'")
    ) == [(0,)]


def test_migrations_are_numbered_without_gaps_and_leave_a_record(kind: Kind) -> None:
    for database in ("postgres", "sqlite"):
        assert [m.version for m in load(database)] == list(range(1, len(load(database)) + 1))
    assert [m.name for m in load("postgres")] == [m.name for m in load("sqlite")]
    asyncio.run(make_schema(kind))
    rows = asyncio.run(kind.query("SELECT version, name FROM logguardd_migrations ORDER BY version"))
    assert rows == [(m.version, m.name) for m in load("postgres")]


def test_a_database_in_another_encoding_is_refused(kind: Kind, postgres: PostgreSQL) -> None:
    postgres.query("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(ConfigError, match="its encoding is LATIN1; create the database with ENCODING 'UTF8'"):
        asyncio.run(make_schema(Kind("postgres", postgres.url_of("latin"))))


@pytest.mark.parametrize(
    "url",
    ["mysql://u@127.0.0.1/db", "postgresql://u@127.0.0.1:notaport/db", "postgresql://u@127.0.0.1/db?sslmode=sometimes"],
)
def test_a_url_that_means_nothing_is_an_error_of_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[archive\] url: "):
        asyncio.run(PostgresArchive(url, DAY).open())


def test_a_server_that_refuses_is_unavailable(postgres: PostgreSQL) -> None:
    for url, reason in [
        (postgres.url_of("nowhere"), 'database "nowhere" does not exist'),
        (postgres.url_of("postgres", user="nobody:secret"), 'role "nobody" does not exist'),
        (f"postgresql://u:secret@127.0.0.1:{free_port()}/db", "refused"),
        ("postgresql://u:secret@host.invalid/db", "not known|resolution"),
    ]:
        with pytest.raises(UnavailableError, match=f"(?s)^PostgreSQL .*({reason})") as caught:
            asyncio.run(PostgresArchive(url, DAY).open())
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_no_postgresql_is_unavailable() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            url = f"postgresql://u@127.0.0.1:{server.sockets[0].getsockname()[1]}/db"
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(PostgresArchive(url, DAY).open(), 30)

    asyncio.run(scenario())


def test_a_database_that_could_not_be_opened_yet_is_not_maintained(
    postgres: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.fresh_database()
    name = url.rpartition("/")[2]
    postgres.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    async def scenario() -> None:
        archive = PostgresArchive(url, DAY)
        with pytest.raises(UnavailableError, match="read-only"):
            await archive.open()
        with pytest.raises(UnavailableError, match="could not be looked at"):
            await archive.maintain(NOW)
        postgres.query(f"ALTER DATABASE {name} RESET default_transaction_read_only", postgres.url)
        await archive.open()
        await archive.maintain(NOW)
        await archive.close()

    asyncio.run(scenario())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
