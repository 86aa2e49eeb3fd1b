import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from yarl import URL

from aimicromind_schemas import Names
from aimicromind_schemas.client import BrokerRefused, BrokerUnreachable
from aimicromind_schemas.client.transport import opening
from aimicromind_schemas.client.transport.socket_transport import SocketTransport
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import BrokerLost, connect
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.topology import topology
from tests.support.amqp import BEAT, WITHIN_S
from tests.support.proxy import Proxy

NOBODY = "amqp://guest:h1dden@127.0.0.1:1/"


async def test_connection_works_and_is_closed_at_the_end(broker: PrivateBroker) -> None:
    async with connect([broker.url], "test", BEAT) as connection, connection.channel() as channel:
        await channel.declare_queue(exclusive=True)

    assert connection.is_closed


async def test_operators_see_its_name(broker: PrivateBroker) -> None:
    async with connect([broker.url], "a name of its own", BEAT):
        listed = await broker.rabbitmqctl("list_connections", "client_properties")

    assert '"a name of its own"' in listed


async def test_heartbeat_is_the_one_asked_for(broker: PrivateBroker) -> None:
    async with connect([f"{broker.url}?heartbeat=60"], "test", timedelta(seconds=7)):
        listed = await broker.rabbitmqctl("list_connections", "timeout")

    assert "7" in listed.split()


async def test_next_address_is_tried_when_nothing_answers(broker: PrivateBroker) -> None:
    async with connect([NOBODY, broker.url], "test", BEAT) as connection:
        assert connection.transport is not None


async def test_broker_that_hangs_up_within_the_handshake_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = SocketTransport.create

    async def create_slowly(self: SocketTransport, url: URL, **named: Any) -> Any:  # noqa: ANN401 - as aiormq calls it
        made = await create(self, url, **named)
        # So that the end has come when the first frame is awaited, which is a matter of luck.
        while not made[0].at_eof():  # noqa: ASYNC110 - a stream tells it in no other way
            await asyncio.sleep(0.01)
        return made

    monkeypatch.setattr(SocketTransport, "create", create_slowly)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write_eof()
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnreachable, match="closed the connection"):
            async with connect([f"amqp://127.0.0.1:{port}/"], "test", BEAT):
                pass


async def test_nothing_that_answers_is_said_with_every_address_and_no_password() -> None:
    other = "amqp://guest:h1dden@127.0.0.1:2/"
    with pytest.raises(BrokerUnreachable) as unreachable:
        async with connect([NOBODY, other], "test", BEAT):
            pass

    text = str(unreachable.value)
    assert "127.0.0.1:1 " in text
    assert "127.0.0.1:2 " in text
    assert "AIMICROMIND_AMQP_URL" in text
    assert "h1dden" not in text


async def test_unknown_host_is_unreachable() -> None:
    with pytest.raises(BrokerUnreachable, match=r"no-such-host\.invalid:5672"):
        async with connect(["amqp://guest:h1dden@no-such-host.invalid:5672/"], "test", BEAT):
            pass


async def test_silent_server_is_given_up_and_the_next_is_tried(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE_S", 0.3)
    async with (
        silent_server() as silent,
        asyncio.timeout(WITHIN_S),
        connect([silent, broker.url], "test", BEAT) as connection,
    ):
        assert connection.transport is not None


async def test_refusal_is_final(broker: PrivateBroker) -> None:
    refusing = broker.url.replace("guest:guest", "guest:h1dden")

    with pytest.raises(BrokerRefused) as refused:
        async with connect([refusing, broker.url], "test", BEAT):
            pass

    assert f"127.0.0.1:{broker.port}" in str(refused.value)
    assert "h1dden" not in repr(refused.value)


async def test_use_of_a_connection_that_closed_is_a_connection_error(
    proxy: Proxy, names: Names
) -> None:
    async def use() -> None:
        async with connect([proxy.url], "test", BEAT) as connection:
            gone = asyncio.Event()
            connection.close_callbacks.add(lambda *_: gone.set())
            proxy.reset()
            await asyncio.wait_for(gone.wait(), WITHIN_S)
            await declare(connection, topology(names, None))

    with pytest.raises(BrokerLost):
        await use()


async def test_fault_of_the_body_is_left_as_it_is(broker: PrivateBroker) -> None:
    with pytest.raises(RuntimeError, match="my own"):
        async with connect([broker.url], "test", BEAT):
            raise RuntimeError("my own")


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Accept connections and say nothing; give the address."""
    writers = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
