"""Run consumers of jobs, each on a channel of its own.

When a channel closes, the broker requeues its jobs, consumer by consumer. RabbitMQ 3.10 does so in
another order when it reads its log again after a kill, if the queue has more than 32 consumers. It
then applies acknowledgements to the wrong jobs: some are lost, others come again. With one consumer
for each channel there is one order only.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import structlog
from aiormq.abc import AbstractChannel, ConsumerCallback
from aiormq.exceptions import AMQPError

from aimicromind_schemas.client.transport.opening import open_channel
from aimicromind_worker.amqp.channels import ExtraChannels
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.jobs.delivery import send_command
from aimicromind_worker.amqp.jobs.memory_budget import MemoryBudget

log = structlog.get_logger()


@dataclass(slots=True)
class _Consumer:
    """A consumer, or what is left of one.

    Attributes:
        channel: Its channel.
        jobs: How many of its jobs are not settled.
        is_gone: Whether the broker has cancelled it.
    """

    channel: AbstractChannel
    jobs: int = 0
    is_gone: bool = False


class ConsumerChannels:
    """The consumers of one queue. A channel is used again once its consumer has left nothing.

    Attributes:
        tags: The consumers that were not cancelled.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        queue: str,
        take: ConsumerCallback,
        on_lost: Callable[[str], None],
        budget: MemoryBudget | None,
        extra: ExtraChannels | None,
    ) -> None:
        """Begin with no consumers.

        Args:
            connection: The connection of the jobs. It closes the channels when it closes.
            queue: The queue.
            take: A callback with each message.
            on_lost: A callback with the reason, once the broker will redeliver the jobs.
            budget: The budget of held bytes; None: unlimited.
            extra: How many channels there may be beside the first; None: no other.
        """
        self.tags: set[str] = set()
        self._connection = connection
        self._queue = queue
        self._take = take
        self._on_lost = on_lost
        self._budget = budget
        self._extra = extra
        self._left = 1 + (extra.on(connection) if extra is not None else 0)
        self._consumers: dict[str, _Consumer] = {}
        self._idle: list[AbstractChannel] = []

    @property
    def is_full(self) -> bool:
        """Whether no channel is left for one more consumer."""
        return not self._idle and not self._left

    async def start(self, prefetch: int) -> str:
        """Start a consumer with a prefetch, and return its tag; there must be a channel left."""
        channel = self._idle.pop() if self._idle else await self._open()
        tag = str(uuid4())
        await channel.basic_qos(prefetch_count=prefetch)
        self.tags.add(tag)
        self._consumers[tag] = _Consumer(channel)
        await channel.basic_consume(self._queue, self._take, consumer_tag=tag)
        return tag

    async def cancel(self, tag: str) -> None:
        """Cancel a consumer, if it was not cancelled yet; its jobs stay to be settled.

        Raises:
            NotSettled: The broker does not answer, or the channel has closed.
        """
        if tag not in self.tags:
            return
        self.tags.discard(tag)
        consumer = self._consumers[tag]
        await send_command(consumer.channel.basic_cancel(tag))
        consumer.is_gone = True
        self._free(tag, consumer)

    def took(self, tag: str) -> None:
        """Count that a consumer has got a job."""
        if (consumer := self._consumers.get(tag)) is not None:
            consumer.jobs += 1

    def settled(self, tag: str) -> None:
        """Count that a job of a consumer is settled."""
        if (consumer := self._consumers.get(tag)) is not None:
            consumer.jobs -= 1
            self._free(tag, consumer)

    async def _open(self) -> AbstractChannel:
        self._left -= 1
        try:
            channel = await open_channel(self._connection)
        except AMQPError as error:
            if self._extra is not None and "limit" in str(error):
                self._extra.are_refused = True
                log.warning("jobs.no_channel", reason=" ".join(str(error).split()))
            raise
        channel.closing.add_done_callback(self._closed)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        if self._budget is not None:
            self._budget.watch(channel.number)
        return channel

    def _free(self, tag: str, consumer: _Consumer) -> None:
        if consumer.is_gone and not consumer.jobs:
            del self._consumers[tag]
            self._idle.append(consumer.channel)

    def _cancelled(self, _: object) -> None:
        self._on_lost(f"the broker cancelled the consumer of {self._queue}")

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._on_lost(" ".join(str(error or "").split()) or f"the channel of {self._queue} closed")
