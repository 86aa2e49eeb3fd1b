"""Read a dead-letter queue message by message.

Messages that are read stay unacknowledged until the end. Then the broker requeues them at their
original positions. Each reading counts as a delivery of a quorum queue's messages.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.socket_transport import frame_max
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.inspection.queued_dead_letter import (
    TIMEOUT_S,
    QueuedDeadLetter,
    QueuedEvent,
    QueuedJob,
)
from aimicromind_worker.core.findings import NotAchieved

_NO_WORKER: Final = "; has a worker run? Start one with `aimicromind-worker run`"


class NoDeadQueue(NotAchieved):
    """There is no dead-letter queue."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(f"there is no queue {name} on the broker{remedy}")


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """A queue of dead letters.

    Attributes:
        names: The names of the installation.
        of_consumer: The name of a consumer's dead-letter queue; None: the queue of failed jobs.
        to: The queue to which events are replayed; None: the one that each came from.
    """

    names: Names
    of_consumer: str | None = None
    to: str | None = None

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self.of_consumer or self.names.jobs_dead


class DeadLetters:
    """The dead letters that are in a queue, each with its copies. Iterate once.

    Attributes:
        count: The number of messages in the queue, copies included.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        declared: AbstractQueue,
        queue: DeadLetterQueue,
        frame_max: int,
    ) -> None:
        self.count = declared.declaration_result.message_count or 0
        self._channel = channel
        self._declared = declared
        self._queue = queue
        self._frame_max = frame_max

    async def __aiter__(self) -> AsyncGenerator[QueuedDeadLetter, None]:
        """Yield the dead letters, the oldest first, copies only once.

        Raises:
            TimeoutError: The broker did not answer within 30 s.
        """
        found: dict[str, QueuedDeadLetter] = {}
        # Later dead letters, perhaps of a replayed job, are left for the next reading.
        for _ in range(self.count):
            async with asyncio.timeout(TIMEOUT_S):
                got = await self._declared.get(fail=False)
            if got is None:
                return
            letter = self._letter(got)
            first = found.setdefault(letter.identity, letter) if letter.identity else letter
            if first is letter:
                yield letter
            else:
                await first.join(letter)

    def _letter(self, message: AbstractIncomingMessage) -> QueuedDeadLetter:
        if self._queue.of_consumer:
            return QueuedEvent(message, self._channel, self._frame_max, self._queue.to)
        return QueuedJob(message, self._channel, self._frame_max, self._queue.names.jobs)


@asynccontextmanager
async def dead_letters(
    connection: BrokerConnection, queue: DeadLetterQueue
) -> AsyncIterator[DeadLetters]:
    """Open a queue for the time of the body.

    Other readers do not see the messages that are read. Those that were not taken out are requeued
    at the end.

    Raises:
        NoDeadQueue: There is no such queue.
        TimeoutError: The broker did not answer within 30 s.
    """
    async with connection.channel(on_return_raises=True) as channel:
        declared = await _declared(channel, queue)
        yield DeadLetters(channel, declared, queue, frame_max(connection.inner))


async def _declared(channel: AbstractChannel, queue: DeadLetterQueue) -> AbstractQueue:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await channel.declare_queue(queue.name, passive=True)
    except ChannelNotFoundEntity as error:
        called = queue.names.consumer_dead("NAME")
        remedy = f"; that of the consumer NAME is {called}" if queue.of_consumer else _NO_WORKER
        raise NoDeadQueue(queue.name, remedy) from error
