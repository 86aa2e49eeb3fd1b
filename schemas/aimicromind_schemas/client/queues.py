"""Events of any chats for services: a queue that replicas share, or one for each of them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from aimicromind_schemas.client.errors import BrokerGone
from aimicromind_schemas.client.link import Link
from aimicromind_schemas.client.subscription import Fresh, Subscription, event_in
from aimicromind_schemas.messages.events import Event

SHARED_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-max-length-bytes": 1_000_000_000,
    "x-overflow": "drop-head",
    "x-expires": 7 * 86_400_000,
}
"""What a shared queue is declared with: it outlives its readers for a week, and refuses nothing."""

_SHARED_PREFETCH: Final = 20


@asynccontextmanager
async def reading(link: Link, queue: Fresh) -> AsyncIterator[AsyncIterator[Event]]:
    """Read a queue of one's own or a shared one, over any number of connections."""
    first = await _subscribed(link, queue)
    async with aclosing(_events(link, queue, first)) as events:
        yield events


async def _events(link: Link, queue: Fresh, first: Subscription) -> AsyncGenerator[Event, None]:
    subscription: Subscription = first
    try:
        while True:
            try:
                message = await subscription.next()
                event = event_in(message)
                if event is None:
                    await subscription.reject(message)
                    continue
                yield event
                await subscription.taken(message)
            except BrokerGone:
                await subscription.close()
                subscription = await _subscribed(link, queue)
    finally:
        await subscription.close()


async def _subscribed(link: Link, queue: Fresh) -> Subscription:
    connection = await link.connection()
    return await Subscription.open(connection, queue, prefetch=_SHARED_PREFETCH)
