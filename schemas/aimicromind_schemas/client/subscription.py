"""A consumer on a channel of its own: deliveries, in order, until the channel closes."""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_schemas.client.errors import (
    BrokerGone,
    ClientError,
    NoSuchQueue,
    NothingToListenTo,
)
from aimicromind_schemas.client.link import TIMEOUT_S, told_apart
from aimicromind_schemas.client.transport.opening import open_channel
from aimicromind_schemas.codec import decode
from aimicromind_schemas.messages.events import Event, NotAnEvent

_log = logging.getLogger(__name__)

STREAM_PREFETCH: Final = 400
_CLOSE_S: Final = 3.0
_going_on: set[asyncio.Task[None]] = set()


async def to_the_end(closing: Coroutine[Any, Any, None]) -> None:
    """Wait for what must be done in any case; it goes on although the wait is cancelled.

    A cancelled scope of anyio, which is how FastAPI leaves a stream whose client has gone, cancels
    every further wait in it, those for cleaning up included.
    """
    task = asyncio.create_task(closing)
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    await asyncio.shield(task)


def event_in(message: DeliveredMessage) -> Event | None:
    """Read a message; None where it is no event, whatever else it is."""
    try:
        return decode(message.body)
    except NotAnEvent as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - one message must not end its reader
        # Without its text, which might quote the message.
        reason = f"{type(error).__name__} while it was read."
    _log.warning("skipped a message with the routing key %r: %s", message.routing_key, reason)
    return None


@dataclass(frozen=True, slots=True)
class Fresh:
    """A queue that is declared for the subscription, and bound.

    Attributes:
        name: Empty: the broker gives one, and the queue lives as long as its connection.
        exchange: What it is bound to.
        bindings: With which keys.
        arguments: Of the queue.
    """

    name: str
    exchange: str
    bindings: Iterable[str]
    arguments: Mapping[str, Any]


class Subscription:
    """Reads one queue or stream. Acknowledge with `taken`, unless it was opened `unasked`."""

    def __init__(self, channel: AbstractChannel, *, unasked: bool) -> None:
        self._channel = channel
        self._unasked = unasked
        self._arrived: deque[DeliveredMessage] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._unacknowledged = 0

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        queue: Fresh | str,
        arguments: Mapping[str, Any] | None = None,
        prefetch: int = STREAM_PREFETCH,
    ) -> Self:
        """Consume a queue; one of its own that nobody named is consumed without acknowledgement.

        Args:
            connection: It gets a channel for this.
            queue: Its name, or what to declare.
            arguments: Of the consumer.
            prefetch: How many deliveries may wait for their acknowledgement.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission.
            NothingToListenTo: The exchange does not exist.
            NoSuchQueue: The queue does not exist.
        """
        opening = asyncio.create_task(cls._open(connection, queue, arguments, prefetch))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await to_the_end(_undo(opening))
            raise

    @classmethod
    async def _open(
        cls,
        connection: AbstractConnection,
        queue: Fresh | str,
        arguments: Mapping[str, Any] | None,
        prefetch: int,
    ) -> Self:
        unasked = isinstance(queue, Fresh) and not queue.name
        with told_apart():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await open_channel(connection)
        subscription = cls(channel, unasked=unasked)
        channel.closing.add_done_callback(subscription._end)
        channel.on_consumer_cancel_callbacks.add(subscription._end)
        name = await subscription._declared(queue) if isinstance(queue, Fresh) else queue
        await subscription._consume(name, arguments, prefetch)
        return subscription

    async def next(self) -> DeliveredMessage:
        """Wait for the next delivery.

        Raises:
            BrokerGone: There will be none.
        """
        await self.arrives()
        return self._arrived.popleft()

    async def arrives(self) -> DeliveredMessage:
        """Wait for the next delivery, and leave it there for `next`.

        Raises:
            BrokerGone: There will be none.
        """
        while not self._arrived:
            if self._over:
                raise BrokerGone
            self._news.clear()
            await self._news.wait()
        return self._arrived[0]

    def peek(self) -> DeliveredMessage | None:
        """Return the delivery that `next` would give without a wait, if there is one."""
        return self._arrived[0] if self._arrived else None

    async def taken(self, message: DeliveredMessage, *, at_once: bool = True) -> None:
        """Acknowledge a delivery and all before it.

        Args:
            message: The delivery.
            at_once: Otherwise with some that follow: a stream only wants to know when to send more.

        Raises:
            BrokerGone: The channel closed; what a queue gave comes again.
        """
        self._unacknowledged += 1
        if self._unasked or not (at_once or self._unacknowledged >= STREAM_PREFETCH // 2):
            return
        self._unacknowledged = 0
        with told_apart():
            await self._channel.basic_ack(message.delivery_tag or 0, multiple=True)

    async def reject(self, message: DeliveredMessage) -> None:
        """Reject a delivery for good: it goes where the queue dead-letters, if it does.

        To acknowledge it would lose what an operator may want to look at, to requeue it would
        bring it back for ever.

        Raises:
            BrokerGone: The channel closed.
        """
        if not self._unasked:
            with told_apart():
                await self._channel.basic_reject(message.delivery_tag or 0, requeue=False)

    async def close(self) -> None:
        """Close the channel, also if the caller is cancelled; the rest is requeued."""
        await to_the_end(self._close())

    async def _close(self) -> None:
        with suppress(BrokerGone, TimeoutError), told_apart():
            async with asyncio.timeout(_CLOSE_S):
                await self._channel.close()

    async def _declared(self, queue: Fresh) -> str:
        own = not queue.name
        with told_apart():
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

    async def _consume(self, name: str, arguments: Mapping[str, Any] | None, prefetch: int) -> None:
        with told_apart():
            async with asyncio.timeout(TIMEOUT_S):
                await self._channel.basic_qos(prefetch_count=prefetch)
                try:
                    await self._channel.basic_consume(
                        name, self._take, no_ack=self._unasked, arguments=dict(arguments or {})
                    )
                except ChannelNotFoundEntity as error:
                    raise NoSuchQueue(name) from error

    async def _take(self, message: DeliveredMessage) -> None:
        self._arrived.append(message)
        self._news.set()

    def _end(self, *_: object) -> None:
        self._over = True
        self._news.set()


async def _undo(opening: asyncio.Task[Subscription]) -> None:
    """Close what nobody waits for any more; what is cancelled half-way leaves a channel."""
    with suppress(ClientError, TimeoutError):
        await (await opening).close()
