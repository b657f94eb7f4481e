"""Random bytes on the control socket and the HTTP port: an answer or an end, and the next request is served."""

import asyncio
import random

import pytest

from tests.integration.serving import make_ban, serving

PIECES = [
    b"GET /status HTTP/1.1\r\n", b"POST /bans HTTP/1.1\r\n", b"DELETE /bans/192.0.2.1 HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n", b"\x00\xff",
    b'{"network": "192.0.2.1"}', b"GET /bans/%00%ff HTTP/1.0\r\n", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"A" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_requests(tmp_path, seed, caplog):
    chance = random.Random(seed)

    async def attack(connect):
        reader, writer = await connect()
        try:
            for _ in range(chance.randrange(1, 8)):
                piece = chance.choice(PIECES) if chance.random() < 0.8 else chance.randbytes(chance.randrange(200))
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def body():
        async with serving(tmp_path, make_ban("192.0.2.9")) as served:
            for _ in range(50):
                await attack(lambda: asyncio.open_unix_connection(served.path))
                await attack(lambda: asyncio.open_connection("127.0.0.1", served.web.ports[0]))
            assert (await served.ask("GET", "/status"))[0] == 200
            assert (await served.ask("GET", "/healthz", tcp=True))[0] == 200

    asyncio.run(body())
    assert "internal error" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("logguardd") and record.exc_info]
