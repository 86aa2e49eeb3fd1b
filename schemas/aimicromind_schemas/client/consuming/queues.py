"""Declare the queues of a consumer: its events, one for each delay, and its dead letters.

Invariants:

- No queue nacks an event of a worker: that would delay the events of all other queues.
- A delay queue dead-letters at least once (RabbitMQ 3.10), for which it needs `reject-publish`.
  Nothing limits its length.
- All messages between these queues go through the consumer's own exchange. Thus its user needs no
  permission on the default exchange.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_schemas.client.connection import TIMEOUT_S, broker_errors
from aimicromind_schemas.client.consuming.options import ConsumerOptions
from aimicromind_schemas.client.errors import NothingToListenTo
from aimicromind_schemas.client.subscription import BoundQueue
from aimicromind_schemas.client.transport.cancelling import uncancelled
from aimicromind_schemas.client.transport.opening import close_channel, kept_channel
from aimicromind_schemas.routing import Names, event_binding
from aimicromind_schemas.vocabulary import EVENT_NAMES

_DELIVERIES: Final = 20
# Each look at a dead letter counts as a delivery. RabbitMQ 3.10 has no value for "unlimited".
_LOOKS: Final = 1_000_000
_QUORUM: Final = {"x-queue-type": "quorum", "x-queue-leader-locator": "balanced"}


@dataclass(frozen=True, slots=True)
class ConsumerQueues:
    """The exchange and the queues of one consumer.

    Attributes:
        names: Names of the installation.
        name: Name of the consumer.
        options: Its options.
        events: Names of the events that it handles.
    """

    names: Names
    name: str
    options: ConsumerOptions
    events: Iterable[str]

    @property
    def queue(self) -> str:
        """The queue of its events; the exchange has the same name."""
        return self.names.consumer(self.name)

    @property
    def dead(self) -> str:
        """The dead-letter queue."""
        return self.names.consumer_dead(self.name)

    def delay(self, attempts: int) -> str | None:
        """Return the delay queue after so many failures; None where no retry is left."""
        if attempts > len(self.options.retry_after):
            return None
        return self.names.consumer_delay(self.name, self.options.retry_after[attempts - 1])

    def bound(self) -> BoundQueue:
        """Return the queue of events with its bindings."""
        bindings = [event_binding(event) for event in self.events]
        return BoundQueue(self.queue, self.names.events, bindings, self._arguments())

    async def declare(self, connection: AbstractConnection) -> None:
        """Declare all, and remove the bindings of known events that are not handled.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: A permission is missing, or a queue exists with other arguments.
            NothingToListenTo: The exchange of events does not exist.
        """
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await kept_channel(connection)
        try:
            with broker_errors():
                async with asyncio.timeout(TIMEOUT_S):
                    await self._declare(channel)
        finally:
            await uncancelled(close_channel(channel))

    async def _declare(self, channel: AbstractChannel) -> None:
        await channel.exchange_declare(self.queue, exchange_type="direct", durable=True)
        for queue, arguments in self._queues():
            await channel.queue_declare(queue, durable=True, arguments=dict(arguments))
            await channel.queue_bind(queue, self.queue, queue)
        try:
            for event in EVENT_NAMES.difference(self.events):
                await channel.queue_unbind(self.queue, self.names.events, event_binding(event))
        except ChannelNotFoundEntity as error:
            raise NothingToListenTo(self.names.events) from error

    def _queues(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        limit = {"x-max-length-bytes": self.options.max_bytes, "x-overflow": "drop-head"}
        yield self.dead, {**_QUORUM, **limit, "x-delivery-limit": _LOOKS}
        yield self.queue, self._arguments()
        for delay in self.options.retry_after:
            arguments = {
                **_QUORUM,
                "x-delivery-limit": _DELIVERIES,
                "x-message-ttl": delay // timedelta(milliseconds=1),
                "x-overflow": "reject-publish",
                "x-dead-letter-exchange": self.queue,
                "x-dead-letter-routing-key": self.queue,
                "x-dead-letter-strategy": "at-least-once",
            }
            yield self.names.consumer_delay(self.name, delay), arguments

    def _arguments(self) -> dict[str, Any]:
        return {
            **_QUORUM,
            "x-delivery-limit": _DELIVERIES,
            "x-max-length-bytes": self.options.max_bytes,
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": self.queue,
            "x-dead-letter-routing-key": self.dead,
            "x-single-active-consumer": self.options.in_order,
        }
