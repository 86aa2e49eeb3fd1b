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
        BrokerRefused: A permission is missing, or the queue exists with other arguments.
    """
    first = await _subscribed(connection, queue)
    async with aclosing(_events(connection, queue, first)) as events:
        yield events


async def _events(
    connection: ClientConnection, queue: BoundQueue, first: Subscription
) -> AsyncGenerator[Event, None]:
    subscription: Subscription = first
    try:
        while True:
            try:
                message = await subscription.next()
                event = Delivery.of_aiormq(message).event()
                if event is None:
                    await subscription.reject(message)
                    continue
                yield event
                await subscription.acknowledge(message)
            except BrokerGone:
                await subscription.close()
                subscription = await _subscribed(connection, queue)
    finally:
        await subscription.close()


async def _subscribed(connection: ClientConnection, queue: BoundQueue) -> Subscription:
    opened = await connection.connection()
    return await Subscription.open(opened, queue, prefetch=_PREFETCH)
