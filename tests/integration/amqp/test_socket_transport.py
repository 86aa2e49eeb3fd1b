import asyncio

import pytest
from aiormq.abc import SSLCerts
from aiormq.connection import SSLContextProvider
from yarl import URL

from aimicromind_schemas.client.transport.socket_transport import SocketTransport
from tests.support.amqp import WITHIN_S


@pytest.mark.parametrize("last_words", [b"", b"\x15\x03\x03", b"\x01\x00\x01\x00\x00\x00\x04\x00"])
async def test_connection_that_ends_within_a_frame_has_ended(last_words: bytes) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(last_words)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    trust = SSLContextProvider(
        ssl_context=None,
        ssl_certs=SSLCerts(None, None, None, None, None, verify=True),
        loop=asyncio.get_running_loop(),
    )
    async with asyncio.timeout(WITHIN_S), server:
        reader, writer = await SocketTransport().create(
            URL(f"amqp://127.0.0.1:{port}"), ssl_context_provider=trust
        )

        assert await reader.read() == last_words
        writer.close()
        await writer.wait_closed()
