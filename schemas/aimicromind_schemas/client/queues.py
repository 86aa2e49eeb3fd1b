"""Read events of any chats from a queue, for services: a shared queue, or one for each replica."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone
from aimicromind_schemas.client.subscription import BoundQueue, Subscription
from aimicromind_schemas.messages.events import Event

SHARED_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-max-length-bytes": 1_000_000_000,
    "x-overflow": "drop-head",
    "x-expires": 7 * 86_400_000,
}
"""Arguments of a shared queue: it outlives its readers for 7 days, and drops its oldest messages.

It never nacks, because that would delay the events of all other queues.
"""

PRIVATE_ARGUMENTS: Final[dict[str, Any]] = {
    "x-max-length-bytes": 256 * 1024 * 1024,
    "x-overflow": "drop-head",
}
"""Arguments of a private queue: one whose reader is stuck drops its oldest messages."""

_PREFETCH: Final = 20


@asynccontextmanager
async def reading(
    connection: ClientConnection, queue: BoundQueue
) -> AsyncIterator[AsyncIterator[Event]]:
    """Declare and read a queue for the time of the body, across lost connections.

    Raises:
        NothingToListenTo: The exchange of events does not exist.
        BrokerUnreachable: No broker answers; also from the iteration.
        BrokerRefused: A permission is missing, a limit is reached, or the queue exists with other
            arguments.
    """
    reader = _QueueReader(connection, queue)
    await reader.open()
    try:
        async with aclosing(reader.events()) as events:
            yield events
    finally:
        await reader.close()


class _QueueReader:
    """Reads one queue. `open` it, iterate over `events` once, then `close` it."""

    def __init__(self, connection: ClientConnection, queue: BoundQueue) -> None:
        self._connection = connection
        self._queue = queue
        self._subscription: Subscription | None = None

    async def open(self) -> Subscription:
        connection = await self._connection.connection()
        self._subscription = await Subscription.open(connection, self._queue, prefetch=_PREFETCH)
        return self._subscription

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    async def events(self) -> AsyncGenerator[Event, None]:
        while True:
            try:
                subscription = self._subscription or await self.open()
                message = await subscription.next()
                event = Delivery.of_aiormq(message).event()
                if event is None:
                    await subscription.reject(message)
                    continue
                yield event
                await subscription.acknowledge(message)
            except BrokerGone:
                await self.close()
