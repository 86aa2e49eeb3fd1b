"""Acknowledge, requeue, delay, reject or dead-letter one job at the broker.

Which of them is decided in `jobs/relay.py` and `jobs/settlement.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
import structlog
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from pamqp import commands
from pamqp.common import FieldTable

from aimicromind_schemas import FailureKind, Names
from aimicromind_schemas.client.transport.message_header import GUARD_HEADER, note_of
from aimicromind_worker.amqp.jobs.headers import facts_of
from aimicromind_worker.amqp.republishing import Header, Outgoing, republished
from aimicromind_worker.core.job.delays import RETRY_DELAYS

log = structlog.get_logger()

_TIMEOUT_S = 30.0
_LONGEST_HEADER = 1000
_UNREADABLE = "the properties cannot be used: send those of docs/producers.md"
LOST = (AMQPError, ChannelInvalidStateError, TimeoutError)
"""What a call on a channel raises that does not answer, or has closed meanwhile."""


class NotSettled(ConnectionError):
    """The broker could not be told about a job: it gives the job to another worker."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker could not be told about a job: {reason}")


class _Refused(Exception):
    """The broker does not take the job once more; this copy is still ours."""


class BrokerDelivery:
    """One job as the broker delivered it. Settle it once, from one task."""

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
        self._came_at = datetime.now(UTC)

    @classmethod
    def of(
        cls,
        message: DeliveredMessage,
        outgoing: Outgoing,
        names: Names,
        on_settled: Callable[["BrokerDelivery"], None] = lambda _: None,
    ) -> "BrokerDelivery":
        """Read what a message says beside its body, whatever that is.

        Args:
            message: As aiormq gives it.
            outgoing: Publishes the job again.
            names: Where it may go.
            on_settled: Called once the broker has been told what becomes of the job.
        """
        try:
            return cls(aio_pika.IncomingMessage(message), outgoing, names, on_settled)
        except Exception as error:  # noqa: BLE001 - one message must not cost another
            # Without its text, which might quote the message.
            log.warning("job.unreadable_properties", error=type(error).__name__)
            headers: FieldTable = {GUARD_HEADER: note_of(_UNREADABLE)}
            message.header.properties = commands.Basic.Properties(headers=headers)
            return cls(aio_pika.IncomingMessage(message), outgoing, names, on_settled)

    @property
    def is_whole(self) -> bool:
        """Whether all of the body came."""
        return self.facts.whole_bytes is None

    @property
    def found_no_room(self) -> bool:
        """Whether nothing of the body was kept, since that was not the time for it."""
        return not self.is_whole and not self.body

    @property
    def held_bytes(self) -> int:
        """Bytes that count in the budget of what is held."""
        return len(self.body) if self.is_whole else 0

    def forget(self, deliveries: int) -> None:
        """Count so many of the earlier deliveries as if they had not been."""
        before = max(0, self.facts.deliveries_before - deliveries)
        self.facts = replace(
            self.facts,
            redelivered=before > 0,
            deliveries_before=before,
            failures_before=max(0, self.facts.failures_before - deliveries),
        )

    async def ack(self) -> None:
        """Acknowledge the delivery."""
        await self._tell(self._message.ack())

    async def requeue_unchanged(self) -> None:
        """Requeue the job as it is; the broker counts that as a delivery."""
        # RabbitMQ 4.3 counts a reject and not a nack: with that, it could come back for ever.
        await self._tell(self._message.reject(requeue=True))

    async def requeue(self, headers: Mapping[str, Header], delay: timedelta = timedelta()) -> None:
        """Publish the job once more, at the end of the queue, then acknowledge this copy.

        A job without a message_id gets one, and one without a timestamp that of its coming.

        Where the queue is full, the job waits in the delay queue of the shortest delay. Where that
        nacks, too, the job is requeued as it is: better without what is known of it than not at
        all.

        Args:
            headers: What the next worker must know; added to the job's own.
            delay: How long it waits before it comes again: none, or one of the retry delays.
        """
        rung = self._names.jobs_delay(delay or RETRY_DELAYS[0])
        for queue in (rung,) if delay else (self._names.jobs, rung):
            try:
                await self._publish("", queue, headers)
            except _Refused:
                continue
            await self.ack()
            return
        await self.requeue_unchanged()

    async def dead_letter(
        self, kind: FailureKind, message: str, attempts: int, job_id: str | None = None
    ) -> None:
        """Publish the job to the dead letters, then acknowledge it.

        A worker that is lost in between leaves two copies, which readers take for one.

        Where they do not take it, or only its beginning came, it is rejected, so that the broker
        dead-letters it: without the reason, but whole, and not run again.

        Args:
            kind: Why it failed.
            message: The same as a sentence.
            attempts: How many were begun.
            job_id: Its message_id, if it has none.
        """
        if not self.is_whole:
            await self.reject()
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
            await self.reject()
        else:
            await self.ack()

    async def reject(self) -> None:
        """Reject the delivery: the broker dead-letters it to `jobs.reaped`."""
        await self._tell(self._message.reject(requeue=False))

    async def _tell(self, telling: Awaitable[object]) -> None:
        await told(telling)
        self._on_settled(self)

    async def _publish(
        self, exchange: str, key: str, headers: Mapping[str, Header], job_id: str | None = None
    ) -> None:
        source = self._message
        copy = republished(
            source,
            headers,
            self._outgoing.frame_max,
            message_id=source.message_id or job_id or str(uuid4()),
            timestamp=source.timestamp or self._came_at,
        )
        try:
            await self._outgoing.publish(copy, exchange, key)
        except DeliveryError as error:
            raise _Refused from error


def _cut(text: str, frame_max: int) -> str:
    """Leave room in a frame, which may be small, for all else that a header's frame holds."""
    data = text[:_LONGEST_HEADER].encode(errors="replace")
    return data[: frame_max // 4].decode(errors="ignore")


async def told(telling: Awaitable[object]) -> None:
    """Send the broker one command about a job, under a deadline.

    Raises:
        NotSettled: It does not answer, or the channel has closed.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await telling
    except LOST as error:
        raise NotSettled(type(error).__name__) from error
