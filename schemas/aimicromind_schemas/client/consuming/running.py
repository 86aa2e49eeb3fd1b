"""Run a consumer until SIGTERM, or until its task is cancelled."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.consuming.consumer import Consumer
from aimicromind_schemas.client.consuming.failed_events import FailedEvents
from aimicromind_schemas.client.consuming.handling import Handling
from aimicromind_schemas.client.consuming.options import ConsumerCounts, Handler
from aimicromind_schemas.client.consuming.queues import ConsumerQueues
from aimicromind_schemas.client.consuming.stopping import stopped_by_sigterm
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.publishing import ConfirmedChannel
from aimicromind_schemas.client.transport.cancelling import uncancelled


async def run_consumer(
    events: ClientConnection,
    publishing: ClientConnection,
    queues: ConsumerQueues,
    handlers: Mapping[str, Handler],
    counts: ConsumerCounts,
) -> None:
    """Run a consumer; a cancel has it drain first, as SIGTERM does.

    Args:
        events: The connection that it consumes on.
        publishing: The connection for failed events.
        queues: Its queues.
        handlers: Its handlers, by name of the event.
        counts: Its counts.

    Raises:
        ValueError: There is no handler.
        NothingToListenTo, BrokerUnreachable, BrokerRefused: See `Client.consume`.
    """
    if not handlers:
        raise ValueError("handlers is empty: name an event, such as end, and its handler")
    failed_events = FailedEvents(ConfirmedChannel(publishing), queues.queue)
    handling = Handling(handlers, queues.options, counts)
    consumer = Consumer(events, queues, failed_events, handling, counts)
    try:
        with stopped_by_sigterm(consumer.stop):
            await _drained(consumer)
    finally:
        await failed_events.close()


async def _drained(consumer: Consumer) -> None:
    running = asyncio.create_task(consumer.run())
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        consumer.stop()
        await uncancelled(_ended(running))
        raise


async def _ended(running: asyncio.Task[None]) -> None:
    with suppress(ClientError):
        await running
