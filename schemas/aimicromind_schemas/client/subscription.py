"""Consume one queue on a channel of its own, with the deliveries in order.

Invariants:

- Deliveries are returned in the order in which the broker sent them, each once.
- Once the channel closed or the broker cancelled the consumer, the deliveries that were received
  are still returned. After them, `next` raises.
- At most `prefetch` deliveries are unacknowledged.
- A channel that was opened is closed, even if the caller is cancelled meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_schemas.client.connection import TIMEOUT_S, broker_errors
from aimicromind_schemas.client.errors import (
    BrokerGone,
    ClientError,
    NothingToListenTo,
)
from aimicromind_schemas.client.transport.cancelling import uncancelled
from aimicromind_schemas.client.transport.opening import open_channel

_CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class BoundQueue:
    """A queue that is declared and bound for the subscription.

    Attributes:
        name: Its name. If it is empty, the broker names the queue. It is then exclusive, and
            deleted with its consumer.
        exchange: Exchange to bind it to.
        bindings: Binding keys.
        arguments: Arguments of the queue.
    """

    name: str
    exchange: str
    bindings: Iterable[str]
    arguments: Mapping[str, Any]


class Subscription:
    """Reads one queue. `open` it, and `close` it at the end."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._delivered: deque[DeliveredMessage] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        queue: BoundQueue,
        prefetch: int,
    ) -> Self:
        """Consume a queue.

        Args:
            connection: A channel is opened on it.
            queue: The queue, which is declared.
            prefetch: Most unacknowledged deliveries.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission.
            NothingToListenTo: The exchange does not exist.
        """
        opening = asyncio.create_task(cls._open(connection, queue, prefetch))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await uncancelled(_undo(opening))
            raise

    @classmethod
    async def _open(
        cls,
        connection: AbstractConnection,
        queue: BoundQueue,
        prefetch: int,
    ) -> Self:
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await open_channel(connection)
        subscription = cls(channel)
        channel.closing.add_done_callback(subscription._end)
        channel.on_consumer_cancel_callbacks.add(subscription._end)
        await subscription._consume(await subscription._declared(queue), prefetch)
        return subscription

    async def next(self) -> DeliveredMessage:
        """Wait for the next delivery.

        Raises:
            BrokerGone: The channel closed, or the queue was deleted.
        """
        while not self._delivered:
            if self._ended:
                raise BrokerGone
            self._changed.clear()
            await self._changed.wait()
        return self._delivered.popleft()

    @property
    def has_ended(self) -> bool:
        """Whether the broker has requeued, or will requeue, what is not acknowledged."""
        return self._ended

    async def acknowledge(self, message: DeliveredMessage, *, alone: bool = False) -> None:
        """Acknowledge a delivery and all before it.

        Args:
            message: The delivery.
            alone: Do not acknowledge those before it.

        Raises:
            BrokerGone: The channel closed; the queue redelivers.
        """
        with broker_errors():
            await self._channel.basic_ack(message.delivery_tag or 0, multiple=not alone)

    async def reject(self, message: DeliveredMessage) -> None:
        """Reject a delivery without requeueing it.

        A queue with a dead-letter exchange keeps it for operators. Requeued, it would be delivered
        without end.

        Raises:
            BrokerGone: The channel closed.
        """
        with broker_errors():
            await self._channel.basic_reject(message.delivery_tag or 0, requeue=False)

    async def close(self) -> None:
        """Close the channel, even if the caller is cancelled; unacknowledged messages requeue."""
        await uncancelled(self._close())

    async def _close(self) -> None:
        with suppress(BrokerGone, TimeoutError), broker_errors():
            async with asyncio.timeout(_CLOSE_S):
                await self._channel.close()

    async def _declared(self, queue: BoundQueue) -> str:
        """Declare and bind a queue, and return its name."""
        own = not queue.name
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                declared = await self._channel.queue_declare(
                    queue.name,
                    exclusive=own,
                    auto_delete=own,
                    durable=not own,
                    arguments=dict(queue.arguments),
                )
                name = declared.queue or ""
                try:
                    for key in queue.bindings:
                        await self._channel.queue_bind(name, queue.exchange, key)
                except ChannelNotFoundEntity as error:
                    raise NothingToListenTo(queue.exchange) from error
        return name

    async def _consume(self, name: str, prefetch: int) -> None:
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                await self._channel.basic_qos(prefetch_count=prefetch)
                await self._channel.basic_consume(name, self._take)

    async def _take(self, message: DeliveredMessage) -> None:
        self._delivered.append(message)
        self._changed.set()

    def _end(self, *_: object) -> None:
        self._ended = True
        self._changed.set()


async def _undo(opening: asyncio.Task[Subscription]) -> None:
    """Wait for an opening whose caller was cancelled, and close its channel.

    Cancelled half-way, the opening would leave a channel on the connection.
    """
    with suppress(ClientError, TimeoutError):
        await (await opening).close()
