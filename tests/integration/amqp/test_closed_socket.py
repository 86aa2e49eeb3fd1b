"""The time between the end of a socket and that of its connection, with the worker's event loop."""

import asyncio

import pytest
import uvloop
from aiormq.exceptions import AMQPError
from yarl import URL

from aimicromind_schemas.client.transport.socket_transport import SocketTransport
from aimicromind_worker.amqp.rpc_channel import RpcChannel


def test_request_on_a_socket_that_ended_fails_with_the_connection() -> None:
    unseen: list[str] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unseen.append(context["message"]))
        wire = SocketTransport()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = URL(f"amqp://127.0.0.1:{port}")
            _, writer = await wire.create(url, ssl_context_provider=None)
            channel = RpcChannel(wire, 1)
            wire.abort()
            asked = asyncio.create_task(channel.open())
            await asyncio.sleep(0)
            channel.lost(AMQPError("gone"))
            with pytest.raises(AMQPError, match="gone"):
                await asked
            wire.write(b"more")
            await asyncio.sleep(0)
            writer.close()

    uvloop.run(ask())

    assert not unseen
