import asyncio

import pytest
from aiormq.exceptions import ChannelInvalidStateError, ChannelLockedResource, ChannelNotFoundEntity
from pamqp import commands
from yarl import URL

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.socket_transport import SocketTransport
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp import rpc_channel
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.rpc_channel import RpcChannel
from tests.support.amqp import BEAT, WITHIN_S, exists

_NUMBER = 2000


def _declare(queue: str) -> commands.Queue.Declare:
    return commands.Queue.Declare(queue=queue, exclusive=True)


async def test_refusal_names_its_kind_and_the_channel_can_be_opened_again(
    broker: PrivateBroker, names: Names, connection: BrokerConnection
) -> None:
    mine, channel = names.chat_lease("mine"), RpcChannel(connection.wire, _NUMBER)
    async with asyncio.timeout(WITHIN_S), connect([broker.url], "other", BEAT) as other:
        theirs = RpcChannel(other.wire, _NUMBER)
        await theirs.open()
        await theirs.ask(_declare(mine))
        await channel.open()

        for _ in range(3):
            with pytest.raises(ChannelLockedResource, match="RESOURCE_LOCKED"):
                await channel.ask(_declare(mine))
            with pytest.raises(ChannelInvalidStateError):
                await channel.ask(_declare(mine))
            await channel.open()
        await theirs.ask(commands.Queue.Delete(queue=mine))
        await channel.ask(_declare(mine))

    assert await exists(connection, mine)


async def test_answer_to_a_request_that_was_given_up_is_not_taken_for_another(
    broker: PrivateBroker, names: Names, connection: BrokerConnection
) -> None:
    mine, theirs = names.chat_lease("mine"), names.chat_lease("theirs")
    async with asyncio.timeout(WITHIN_S), connect([broker.url], "other", BEAT) as other:
        holding, channel = RpcChannel(other.wire, _NUMBER), RpcChannel(connection.wire, _NUMBER)
        await holding.open()
        await holding.ask(_declare(theirs))
        await channel.open()
        given_up = asyncio.create_task(channel.ask(_declare(mine)))
        await asyncio.sleep(0)
        given_up.cancel()

        with pytest.raises(ChannelLockedResource):
            await channel.ask(_declare(theirs))

    assert await exists(connection, mine)


async def test_all_that_waits_fails_with_the_channel(connection: BrokerConnection) -> None:
    channel = RpcChannel(connection.wire, _NUMBER)
    async with asyncio.timeout(WITHIN_S):
        await channel.open()
        missing = commands.Basic.Consume(queue="nobody.declared.this")

        first, second = await asyncio.gather(
            channel.ask(missing), channel.ask(missing), return_exceptions=True
        )

    assert isinstance(first, ChannelNotFoundEntity)
    assert second is first


async def test_each_request_without_an_answer_fails_at_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc_channel, "ANSWER_WITHIN_S", 0.3)
    loop = asyncio.get_running_loop()
    wire = SocketTransport()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with asyncio.timeout(WITHIN_S), server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await wire.create(URL(f"amqp://127.0.0.1:{port}"), ssl_context_provider=None)
        channel = RpcChannel(wire, _NUMBER)

        async def waited_for() -> float:
            began = loop.time()
            with pytest.raises(TimeoutError, match="no answer within"):
                await channel.open()
            return loop.time() - began

        first = asyncio.create_task(waited_for())
        await asyncio.sleep(0.2)
        waited = await asyncio.gather(first, waited_for(), waited_for())
        later = await waited_for()
        writer.close()
        await writer.wait_closed()

    # The loop's clock counts milliseconds.
    assert min(*waited, later) > 0.29
