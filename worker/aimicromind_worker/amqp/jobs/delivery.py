"""Acknowledge, requeue, delay, reject or dead-letter one job at the broker.

Invariant: a copy that replaces a delivery is confirmed before the delivery is acknowledged. A lost
worker thus leaves two copies at worst, and never none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import aio_pika
import structlog
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, DeliveryError
from pamqp import commands
from pamqp.common import FieldTable

from aimicromind_schemas import FailureKind, Names
from aimicromind_schemas.client.jobs.job_id import new_job_id
from aimicromind_schemas.client.transport.message_header import GUARD_HEADER, note_of
from aimicromind_worker.amqp.jobs.headers import facts_of
from aimicromind_worker.amqp.republishing import Header, Outgoing, republished
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.core.job.state import JobState

log = structlog.get_logger()

_TIMEOUT_S = 30.0
_LONGEST_HEADER = 1000
_UNREADABLE = "the properties cannot be used: send those of docs/producers.md"
LOST = (AMQPError, RuntimeError, TimeoutError)
"""The errors of an operation on a channel that does not answer, or has closed."""


class NotSettled(ConnectionError):
    """A job could not be settled; the broker redelivers it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a job could not be settled at the broker: {reason}")


class _Refused(Exception):
    """The broker returned or nacked a copy of the job; the delivery is still unsettled."""


class BrokerDelivery:
    """One job as the broker delivered it. Settle it once, from one task.

    Each coroutine raises `NotSettled` if the broker does not answer within 30 s, or the channel has
    closed.

    Attributes:
        body: The body, or its beginning if `is_whole` is false.
        facts: The message's properties, headers and delivery count.
        not_before: What must be done before the delivery is settled or its job requeued.
        on_dead_letter: A callback for when the job is in the dead-letter queue.
    """

    def __init__(
        self,
        message: AbstractIncomingMessage,
        outgoing: Outgoing,
        names: Names,
        on_settled: Callable[["BrokerDelivery"], None],
    ) -> None:
        self._message = message
        self._outgoing = outgoing
        self._names = names
        self._on_settled = on_settled
        self.body = message.body
        self.facts = facts_of(message)
        self.not_before: set[asyncio.Task[None]] = set()
        self.on_dead_letter: Callable[[FailureKind], None] = lambda _: None
        self._came_at = datetime.now(UTC)

    @classmethod
    def of(
        cls,
        message: DeliveredMessage,
        outgoing: Outgoing,
        names: Names,
        on_settled: Callable[["BrokerDelivery"], None] = lambda _: None,
    ) -> "BrokerDelivery":
        """Read a message's properties and headers; unreadable ones make the job invalid.

        Args:
            message: The message of aiormq.
            outgoing: The publisher of copies of the job.
            names: The names of exchanges and queues.
            on_settled: A callback for when the job is settled.
        """
        try:
            return cls(aio_pika.IncomingMessage(message), outgoing, names, on_settled)
        except Exception as error:  # noqa: BLE001 - one message must not cost another
            # The error's text might quote the message.
            log.warning("job.unreadable_properties", error=type(error).__name__)
            headers: FieldTable = {GUARD_HEADER: note_of(_UNREADABLE)}
            message.header.properties = commands.Basic.Properties(headers=headers)
            return cls(aio_pika.IncomingMessage(message), outgoing, names, on_settled)

    @property
    def is_whole(self) -> bool:
        """Whether the whole body was received."""
        return self.facts.whole_bytes is None

    @property
    def over_budget(self) -> bool:
        """Whether nothing of the body was kept, because of the budget of held bytes."""
        return not self.is_whole and not self.body

    @property
    def held_bytes(self) -> int:
        """The bytes that count in the budget of held bytes."""
        return len(self.body) if self.is_whole else 0

    def forget(self, deliveries: int) -> None:
        """Leave a number of earlier deliveries out of the facts."""
        if not deliveries:
            return
        before = max(0, self.facts.deliveries_before - deliveries)
        self.facts = replace(
            self.facts,
            redelivered=before > 0,
            deliveries_before=before,
            failures_before=max(0, self.facts.failures_before - deliveries),
        )

    async def ack(self) -> None:
        """Acknowledge the delivery."""
        await self._settle(self._message.ack)

    async def requeue_unchanged(self) -> None:
        """Requeue the message unchanged, by `basic.reject`; this counts as a delivery."""
        # RabbitMQ 4.3 counts a reject, but no nack: nacked, the job could come back without end.
        await self._settle(partial(self._message.reject, requeue=True))

    async def requeue(self, state: JobState, delay: timedelta = timedelta()) -> None:
        """Publish the job again at the end of a queue, then acknowledge the delivery.

        A missing `message_id` is made, and a missing timestamp is the time of the delivery. Without
        a delay, the queue `jobs` is tried first, then the shortest delay queue. If no queue takes
        the job, the broker requeues the message as it is, without the state.

        Args:
            state: The state for the next worker, which replaces that of the message.
            delay: The time until the next delivery: zero, or one of the retry delays.
        """
        await self._wait()
        delay_queue = self._names.jobs_delay(delay or RETRY_DELAYS[0])
        for queue in (delay_queue,) if delay else (self._names.jobs, delay_queue):
            try:
                await self._publish("", queue, state.to_headers())
            except _Refused:
                continue
            await self.ack()
            return
        await self.requeue_unchanged()

    async def dead_letter(
        self, kind: FailureKind, message: str, attempts: int, job_id: str | None = None
    ) -> None:
        """Publish the job to the dead-letter queue, then acknowledge the delivery.

        The job is rejected instead if only its beginning came, or if the queue nacks. Then the
        broker dead-letters it: whole, and without the headers of the reason.

        Args:
            kind: Why the job failed.
            message: The same as a sentence.
            attempts: The number of attempts that were begun.
            job_id: The `message_id` of the dead letter if the job has none.
        """
        if not self.is_whole:
            await self._reject_for(kind)
            return
        reason: dict[str, Header] = {
            "x-aimicromind-kind": kind,
            "x-aimicromind-message": _cut(message, self._outgoing.frame_max),
            "x-aimicromind-attempts": attempts,
            "x-aimicromind-failed-at": datetime.now(UTC).isoformat(),
        }
        try:
            key = self._message.routing_key or ""
            await self._publish(self._names.jobs_dead, key, reason, job_id)
        except _Refused:
            await self._reject_for(kind)
        else:
            self.on_dead_letter(kind)
            await self.ack()

    async def reject(self) -> None:
        """Reject the delivery: the broker dead-letters it to `jobs.reaped`."""
        await self._settle(partial(self._message.reject, requeue=False))

    async def _reject_for(self, kind: FailureKind) -> None:
        await self.reject()
        # The broker dead-letters it from `jobs` to `jobs.reaped`, and from there to `jobs.dead`.
        if self._message.exchange == self._names.jobs_reaped:
            self.on_dead_letter(kind)

    async def _settle(self, send: Callable[[], Awaitable[object]]) -> None:
        await self._wait()
        await send_command(send())
        self._on_settled(self)

    async def _wait(self) -> None:
        if self.not_before:
            await asyncio.wait(self.not_before)

    async def _publish(
        self, exchange: str, key: str, headers: Mapping[str, Header], job_id: str | None = None
    ) -> None:
        source = self._message
        copy = republished(
            source,
            headers,
            self._outgoing.frame_max,
            message_id=source.message_id or job_id or new_job_id(),
            timestamp=source.timestamp or self._came_at,
        )
        try:
            await self._outgoing.publish(copy, exchange, key)
        except DeliveryError as error:
            raise _Refused from error


def _cut(text: str, frame_max: int) -> str:
    """Cut a text to a quarter of a frame, which must also hold the other headers."""
    data = text[:_LONGEST_HEADER].encode(errors="replace")
    return data[: frame_max // 4].decode(errors="ignore")


async def send_command(sending: Awaitable[object]) -> None:
    """Wait until one command about a job is sent, 30 s at most.

    Raises:
        NotSettled: The broker does not answer, or the channel has closed.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await sending
    except LOST as error:
        raise NotSettled(type(error).__name__) from error
