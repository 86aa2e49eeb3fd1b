"""What a producer and a consumer see of the broker: queues of a test's own and what is in them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.support import erlang

BEAT: Final = timedelta(seconds=30)
WITHIN_S: Final = 25.0
"""How long a test waits for what should come at once, on a machine that has much to do."""


class Inbox:
    """Keeps what arrives in one queue, in order.

    Attributes:
        messages: What arrived so far.
        ids: Their message ids in order, repeats left out.
    """

    def __init__(self) -> None:
        self.messages: list[AbstractIncomingMessage] = []
        self.ids: dict[str | None, None] = {}
        self._news = asyncio.Condition()

    async def take(self, message: AbstractIncomingMessage) -> None:
        self.messages.append(message)
        self.ids[message.message_id] = None
        async with self._news:
            self._news.notify_all()

    async def until(self, holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
        """Wait until something holds of what arrived.

        Raises:
            TimeoutError: It did not, in time.
        """
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(holds)

    async def received(
        self, count: int, within_s: float = WITHIN_S
    ) -> list[AbstractIncomingMessage]:
        """Wait for so many messages in all, and give all of them."""
        await self.until(lambda: len(self.messages) >= count, within_s)
        return self.messages

    def bodies(self) -> list[Any]:
        """Give what the messages say, read as JSON by no code of the worker."""
        return [json.loads(message.body) for message in self.messages]


@asynccontextmanager
async def listening(
    connection: AbstractConnection,
    exchange: str,
    binding: str = "#",
    arguments: dict[str, Any] | None = None,
) -> AsyncIterator[Inbox]:
    """Read a queue of one's own that is bound to an exchange."""
    async with connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments=arguments)
        await queue.bind(exchange, binding)
        inbox = Inbox()
        await queue.consume(inbox.take, no_ack=True)
        yield inbox


@asynccontextmanager
async def reading(connection: AbstractConnection, queue: str) -> AsyncIterator[Inbox]:
    """Read a queue, a stream from its beginning; what is read is not acknowledged."""
    async with connection.channel() as channel:
        await channel.set_qos(prefetch_count=10_000)
        inbox = Inbox()
        found = await channel.get_queue(queue, ensure=False)
        await found.consume(inbox.take, arguments={"x-stream-offset": "first"})
        yield inbox


async def in_queue(connection: AbstractConnection, queue: str) -> int:
    """Count the messages that no consumer has."""
    async with connection.channel() as channel:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0


async def until_in_queue(
    connection: AbstractConnection, queue: str, count: int, within_s: float = WITHIN_S
) -> None:
    """Wait until just so many messages are in a queue and with no consumer."""
    async with asyncio.timeout(within_s):
        while await in_queue(connection, queue) != count:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.02)


async def exists(connection: AbstractConnection, queue: str) -> bool:
    async with connection.channel() as channel:
        try:
            await channel.declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        return True


async def first_in(connection: AbstractConnection, queue: str) -> AbstractIncomingMessage:
    """Wait for the first message of a queue and take it out."""
    async with asyncio.timeout(WITHIN_S), connection.channel() as channel:
        found = await channel.get_queue(queue, ensure=False)
        while (message := await found.get(fail=False)) is None:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)
        await message.ack()
        return message


async def put_job(
    connection: AbstractConnection,
    names: Names,
    body: bytes,
    **properties: Any,  # noqa: ANN401 - as aio_pika takes them
) -> None:
    """Put a job on the queue as a producer does, and see to it that it is there."""
    async with connection.channel(on_return_raises=True) as channel:
        message = aio_pika.Message(body, delivery_mode=2, **properties)
        await channel.default_exchange.publish(message, names.jobs)


async def close_connections(broker: PrivateBroker, name: str) -> None:
    """Have the broker close the connections of one name, as an operator may."""
    async with asyncio.timeout(WITHIN_S):
        while not await erlang.close_connections(broker, name):  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.05)


async def connections_of(broker: PrivateBroker, *names: str) -> set[str]:
    """Name the connections there are whose own name begins with one of these."""
    return {it.pid for it in await erlang.connections(broker) if it.name.startswith(names)}


async def channels_of(broker: PrivateBroker, name: str) -> list[int]:
    """Count the channels of each connection of one name."""
    return [it.channels for it in await erlang.connections(broker) if it.name == name]


async def until_no_channels(broker: PrivateBroker, name: str) -> None:
    """Wait until there is one connection of a name, and nothing open on it."""
    async with asyncio.timeout(2 * WITHIN_S):
        while await channels_of(broker, name) != [0]:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)


async def delete_queue(connection: AbstractConnection, queue: str) -> None:
    async with connection.channel() as channel:
        await channel.queue_delete(queue)


async def delete_exchange(connection: AbstractConnection, exchange: str) -> None:
    async with connection.channel() as channel:
        await channel.exchange_delete(exchange)
