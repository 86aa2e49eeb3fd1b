"""Replay or remove one message of a dead-letter queue, together with its copies."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, DeliveryError
from typing_extensions import override

from aimicromind_schemas import SUBMITTED_HEADER
from aimicromind_schemas.client.transport.message_header import noted
from aimicromind_worker.amqp.republishing import republished
from aimicromind_worker.core.dead_letters.dead_event import (
    DeadEvent,
    OriginUnknown,
    event_identity,
    read_dead_event,
)
from aimicromind_worker.core.dead_letters.dead_letter import (
    DeadLetter,
    identity,
    read_dead_job,
    replayed,
)
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.core.job.content_encoding import unpacked

TIMEOUT_S: Final = 30.0
# Above the largest message of the broker, also for the text of a compressed one.
_MOST_BYTES = 128 * 1024 * 1024
# The headers that the worker wrote about the failed run.
_OF_THE_RUN = "x-aimicromind-"
_DIRECT_REPLY = "amq.rabbitmq.reply-to"


class NotReplayed(NotAchieved):
    """The broker did not confirm a replayed message, which stays a dead letter."""

    def __init__(self, letter_id: str, reason: str) -> None:
        super().__init__(f"{letter_id} stays a dead letter, and so do those after it: {reason}")


class QueuedDeadLetter(ABC):
    """One dead letter while it is read, with all its copies. Replay it or take it out, once.

    Attributes:
        body: The body, decompressed.
        dead: The facts of the dead letter.
        identity: The text that its copies share; empty if it has none.
        deliveries: How often the broker delivered it before, as a quorum queue counts.
    """

    dead: DeadLetter
    identity: str

    def __init__(
        self, message: AbstractIncomingMessage, channel: AbstractChannel, frame_max: int
    ) -> None:
        self._message = message
        self._channel = channel
        self._frame_max = frame_max
        # A body that cannot be decompressed is shown, and cannot be replayed.
        self.body = unpacked(message.body, message.content_encoding, _MOST_BYTES).text
        count = message.headers.get("x-delivery-count")
        self.deliveries = count if isinstance(count, int) else 0
        self._copies: list[QueuedDeadLetter] = []
        self._is_out = False

    @property
    def id(self) -> str:
        """The id of the message: that of the job, for a job."""
        return self.dead.id if isinstance(self.dead, DeadEvent) else self.dead.job_id

    @property
    @abstractmethod
    def goes_to(self) -> str:
        """The queue to which it is replayed; empty if no queue is known."""

    @abstractmethod
    async def replay(self) -> Mapping[str, str]:
        """Publish the message again and acknowledge the dead letter.

        Returns:
            What became of it: `replayedAs`, the new id of a job, or `replayedTo`, a queue.

        Raises:
            NotReplayable: The dead letter cannot be replayed.
            NotReplayed: The broker did not confirm the message.
            TimeoutError: The dead letter could not be acknowledged within 30 s.
        """

    async def take_out(self) -> None:
        """Acknowledge the dead letter and all its copies, also those that are found later.

        Raises:
            TimeoutError: It could not be acknowledged within 30 s.
        """
        async with asyncio.timeout(TIMEOUT_S):
            await self._message.ack()
        self._is_out = True
        for copy in self._copies:
            await copy.take_out()

    async def join(self, copy: "QueuedDeadLetter") -> None:
        """Add a copy, which is taken out together with this one."""
        self._copies.append(copy)
        if self._is_out:
            await copy.take_out()

    def _again(
        self,
        own: Mapping[str, str],
        body: bytes | None = None,
        **changed: Any,  # noqa: ANN401 - properties, as aio_pika takes them
    ) -> Message:
        return republished(
            self._message, own, self._frame_max, body, without=_OF_THE_RUN, **changed
        )

    async def _publish(self, message: Message, queue: str) -> None:
        """Publish to a queue, then acknowledge the dead letter."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._channel.default_exchange.publish(message, queue, mandatory=True)
        except (DeliveryError, AMQPError, TimeoutError) as error:
            raise NotReplayed(self.id, _reason(error, queue)) from error
        await self.take_out()


class QueuedJob(QueuedDeadLetter):
    """A job that failed for good."""

    def __init__(
        self,
        message: AbstractIncomingMessage,
        channel: AbstractChannel,
        frame_max: int,
        jobs: str,
    ) -> None:
        super().__init__(message, channel, frame_max)
        self.dead = read_dead_job(
            self.body, message.headers, message.message_id, noted(message.headers).body_bytes
        )
        self._same = identity(self.body, message.headers, self.dead)
        self.identity = self._same if self.dead.job_id else ""
        self._jobs = jobs

    @property
    @override
    def goes_to(self) -> str:
        return self._jobs

    @override
    async def replay(self) -> Mapping[str, str]:
        job_id, body = replayed(self.body, self.dead, self._same)
        now = datetime.now(UTC)
        reply_to = self._message.reply_to
        again = self._again(
            {SUBMITTED_HEADER: now.isoformat(timespec="microseconds")},
            body,
            content_type="application/json",
            content_encoding=None,
            # The consumer of a direct reply-to is long gone.
            reply_to=None if (reply_to or "").startswith(_DIRECT_REPLY) else reply_to,
            message_id=job_id,
            timestamp=now,
        )
        await self._publish(again, self._jobs)
        return {"replayedAs": job_id}


class QueuedEvent(QueuedDeadLetter):
    """An event that a consumer's queue dead-lettered. It keeps its id when it is replayed."""

    dead: DeadEvent

    def __init__(
        self,
        message: AbstractIncomingMessage,
        channel: AbstractChannel,
        frame_max: int,
        to: str | None,
    ) -> None:
        super().__init__(message, channel, frame_max)
        self.dead = read_dead_event(self.body, message.headers, message.message_id)
        self.identity = event_identity(self.body, self.dead) if self.dead.id else ""
        self._to = to

    @property
    @override
    def goes_to(self) -> str:
        return self._to or self.dead.queue

    @override
    async def replay(self) -> Mapping[str, str]:
        if not self.goes_to:
            raise OriginUnknown
        await self._publish(self._again({}), self.goes_to)
        return {"replayedTo": self.goes_to}


def _reason(error: Exception, queue: str) -> str:
    if isinstance(error, DeliveryError):
        return f"the queue {queue} is full, or is not there"
    return f"the broker did not confirm it ({type(error).__name__})"
