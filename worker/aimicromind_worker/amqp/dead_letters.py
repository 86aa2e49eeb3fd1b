"""Read the dead-letter queue message by message; replay or remove only what the caller chooses.

Messages that are read stay unacknowledged until the end. Then the broker requeues them at their
original positions.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError

from aimicromind_schemas import SUBMITTED_HEADER, Names
from aimicromind_schemas.client.transport.message_header import noted
from aimicromind_schemas.client.transport.socket_transport import frame_max
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.republishing import republished
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.core.job.content_encoding import unpacked
from aimicromind_worker.core.job.dead_letter import DeadLetter, identity, read_dead_job, replayed

_TIMEOUT_S = 30.0
# Above the largest message of the broker, also for the text of a compressed one.
_MOST_BYTES = 128 * 1024 * 1024
# The headers that the worker wrote about the failed run.
_OF_THE_RUN = "x-aimicromind-"
_DIRECT_REPLY = "amq.rabbitmq.reply-to"


class NoDeadQueue(NotAchieved):
    """There is no dead-letter queue."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name} on the broker; has a worker run?")


class NotReplayed(NotAchieved):
    """The broker did not confirm a replayed job, which stays a dead letter."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"{job_id} stays a dead letter, and so do those after it: {reason}")


class QueuedDeadLetter:
    """One dead letter while it is read, with all its copies. Replay it or take it out, once.

    Attributes:
        body: The body, decompressed.
        dead: The facts of the dead letter.
        identity: The text that its copies share.
    """

    def __init__(
        self,
        message: AbstractIncomingMessage,
        channel: AbstractChannel,
        names: Names,
        frame_max: int,
    ) -> None:
        self._message = message
        self._channel = channel
        self._names = names
        self._frame_max = frame_max
        # A body that cannot be decompressed is shown, and cannot be replayed.
        self.body = unpacked(message.body, message.content_encoding, _MOST_BYTES).text
        self.dead: DeadLetter = read_dead_job(
            self.body, message.headers, message.message_id, noted(message.headers).body_bytes
        )
        self.identity = identity(self.body, message.headers, self.dead)
        self._copies: list[QueuedDeadLetter] = []
        self._is_out = False

    async def replay(self) -> str:
        """Publish the job under a new id and acknowledge the dead letter.

        Returns:
            The new id.

        Raises:
            NotReplayable: The dead letter is no valid job.
            NotReplayed: The broker did not confirm the job.
            TimeoutError: The dead letter could not be acknowledged within 30 s.
        """
        job_id, body = replayed(self.body, self.dead, self.identity)
        now = datetime.now(UTC)
        reply_to = self._message.reply_to
        again = republished(
            self._message,
            {SUBMITTED_HEADER: now.isoformat(timespec="microseconds")},
            self._frame_max,
            body,
            without=_OF_THE_RUN,
            content_type="application/json",
            content_encoding=None,
            # The consumer of a direct reply-to is long gone.
            reply_to=None if (reply_to or "").startswith(_DIRECT_REPLY) else reply_to,
            message_id=job_id,
            timestamp=now,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._channel.default_exchange.publish(
                    again, self._names.jobs, mandatory=True
                )
        except (DeliveryError, AMQPError, TimeoutError) as error:
            raise NotReplayed(self.dead.job_id, _reason(error, self._names.jobs)) from error
        await self.take_out()
        return job_id

    async def take_out(self) -> None:
        """Acknowledge the dead letter and all its copies, also those that are found later.

        Raises:
            TimeoutError: It could not be acknowledged within 30 s.
        """
        async with asyncio.timeout(_TIMEOUT_S):
            await self._message.ack()
        self._is_out = True
        for copy in self._copies:
            await copy.take_out()

    async def join(self, copy: "QueuedDeadLetter") -> None:
        """Add a copy, which is taken out together with this one."""
        self._copies.append(copy)
        if self._is_out:
            await copy.take_out()


async def dead_letters(
    connection: BrokerConnection, names: Names
) -> AsyncGenerator[QueuedDeadLetter, None]:
    """Yield the dead letters that are in the queue now, the oldest first, copies only once.

    Other readers do not see them meanwhile. Those that were not taken out are requeued at the end.

    Raises:
        NoDeadQueue: There is no dead-letter queue.
        TimeoutError: The broker did not answer within 30 s.
    """
    async with connection.channel(on_return_raises=True) as channel:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                queue = await channel.declare_queue(names.jobs_dead, passive=True)
        except ChannelNotFoundEntity as error:
            raise NoDeadQueue(names.jobs_dead) from error
        found: dict[str, QueuedDeadLetter] = {}
        # Later dead letters, perhaps of a replayed job, are left for the next reading.
        for _ in range(queue.declaration_result.message_count or 0):
            async with asyncio.timeout(_TIMEOUT_S):
                message = await queue.get(fail=False)
            if message is None:
                return
            letter = QueuedDeadLetter(message, channel, names, frame_max(connection.inner))
            named = bool(letter.dead.job_id)
            first = found.setdefault(letter.identity, letter) if named else letter
            if first is letter:
                yield letter
            else:
                await first.join(letter)


def _reason(error: Exception, queue: str) -> str:
    if isinstance(error, DeliveryError):
        return f"the queue {queue} is full, or is not there"
    return f"the broker did not confirm it ({type(error).__name__})"
