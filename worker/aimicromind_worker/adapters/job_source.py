"""RabbitMQ → jobs, as many as there are slots; what becomes of each goes back to the broker.

A job is settled once: acknowledged, parked among the dead, or put on the queue again. When
to do which is decided in `relay`.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from pamqp.common import FieldTable
from pamqp.encode import field_table

from aimicromind_schemas import FailureKind, Names
from aimicromind_worker.adapters.message_facts import facts_of
from aimicromind_worker.adapters.outgoing import Outgoing
from aimicromind_worker.core.ladder import RUNGS

Header = str | int | bool
_TIMEOUT_S = 30.0
# What the broker itself writes, refuses, copies by, or takes for a cycle (CONTRIBUTING.md).
_NOT_CARRIED_OVER = (
    "CC",
    "BCC",
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)
_LONGEST_HEADER = 1000
# What a call on a channel raises that does not answer, or has closed meanwhile.
_LOST = (AMQPError, ChannelInvalidStateError, TimeoutError)


class NotSettled(ConnectionError):
    """The broker could not be told about a job: it gives the job to another worker."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker could not be told about a job: {reason}")


class JobsLost(ConnectionError):
    """The broker could not be asked for a job."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker could not be asked for a job: {reason}")


class _Refused(Exception):
    """The broker does not take the job once more; this copy is still ours."""


class Delivery:
    """One job as the broker delivered it. Settle it once, from one task."""

    def __init__(self, message: AbstractIncomingMessage, outgoing: Outgoing, names: Names) -> None:
        self._message = message
        self._outgoing = outgoing
        self._names = names
        self.body = message.body
        self.facts = facts_of(message)
        self._came_at = datetime.now(UTC)

    async def ack(self) -> None:
        """Tell the broker that the job is done with."""
        await _told(self._message.ack())

    async def give_back(self) -> None:
        """Put the job back where it was; the broker counts that as a delivery."""
        # RabbitMQ 4.3 counts a reject and not a nack: with that, it could come back for ever.
        await _told(self._message.reject(requeue=True))

    async def put_again(
        self, headers: Mapping[str, Header], delay: timedelta = timedelta()
    ) -> None:
        """Publish the job once more, at the end of the queue, then acknowledge this copy.

        A job without a message_id gets one, and one without a timestamp that of its coming.

        Where the queue is full, the job waits on the shortest rung until there is room; where
        that is refused, too, it goes back as it is: better without what is known of it than
        not at all.

        Args:
            headers: What the next worker must know; added to the job's own.
            delay: How long it waits before it comes again: none, or a rung of the ladder.
        """
        rung = self._names.jobs_delay(delay or RUNGS[0])
        for queue in (rung,) if delay else (self._names.jobs, rung):
            try:
                await self._publish("", queue, headers)
            except _Refused:
                continue
            await self.ack()
            return
        await self.give_back()

    async def park(self, kind: FailureKind, message: str, attempts: int) -> None:
        """Publish the job to the dead jobs, then acknowledge it.

        Where they do not take it, it goes to the reaped jobs: without the reason, but not lost,
        and not run again.
        """
        reason: dict[str, Header] = {
            "x-aimicromind-kind": kind,
            "x-aimicromind-message": message[:_LONGEST_HEADER],
            "x-aimicromind-attempts": attempts,
            "x-aimicromind-failed-at": datetime.now(UTC).isoformat(),
        }
        try:
            await self._publish(self._names.jobs_dead, self._message.routing_key or "", reason)
        except _Refused:
            await self.refuse()
        else:
            await self.ack()

    async def refuse(self) -> None:
        """Have the broker give the job up; it goes to the reaped jobs, from there to the dead."""
        await _told(self._message.reject(requeue=False))

    async def _publish(self, exchange: str, key: str, headers: Mapping[str, Header]) -> None:
        source = self._message
        kept = {
            name: value
            for name, value in source.headers.items()
            if not name.startswith(_NOT_CARRIED_OVER) and _can_be_written({name: value})
        }
        copy = aio_pika.Message(
            source.body,
            headers={**kept, **headers},
            content_type=source.content_type,
            content_encoding=source.content_encoding,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            priority=source.priority,
            correlation_id=source.correlation_id,
            reply_to=source.reply_to,
            message_id=source.message_id or str(uuid4()),
            timestamp=source.timestamp or self._came_at,
            type=source.type,
            app_id=source.app_id,
        )
        try:
            await self._outgoing.publish(copy, exchange, key)
        except DeliveryError as error:
            raise _Refused from error


class JobSource:
    """The jobs as they come. Iterate it from one task."""

    def __init__(
        self,
        channel: AbstractChannel,
        outgoing: Outgoing,
        names: Names,
        queue: str,
        on_lost: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._outgoing = outgoing
        self._names = names
        self._queue = queue
        self._on_lost = on_lost
        self._arrived: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._stopped = False
        self._consuming = asyncio.Lock()
        self._consumers: set[str] = set()
        self._unwanted: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        consuming: AbstractConnection,
        outgoing: Outgoing,
        names: Names,
        on_lost: Callable[[str], None],
        slots: int,
        queue: str | None = None,
    ) -> AsyncIterator["JobSource"]:
        """Take at most `slots` jobs at a time.

        Args:
            consuming: The connection that the jobs come by, and are acknowledged by. It must
                never publish: what publishes is not heard by a broker that has an alarm.
            outgoing: The way that jobs go out by again.
            names: Where the jobs are.
            on_lost: Called with the reason when the broker takes all jobs back.
            slots: Jobs that may be taken and not yet settled.
            queue: Where to take them from, if not from the jobs.
        """
        async with asyncio.timeout(_TIMEOUT_S):
            # It closes with its connection: to close it first would wait for a silent broker.
            channel = await consuming.channel(publisher_confirms=False)
            source = cls(channel, outgoing, names, queue or names.jobs, on_lost)
            channel.close_callbacks.add(source._closed)
            inner = await channel.get_underlay_channel()
            inner.on_consumer_cancel_callbacks.add(source._cancelled)
            await source._consume(slots)
        yield source

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        """Give the jobs in the order in which they come, until `stop`."""
        while (arrived := await self._arrived.get()) is not None:
            yield arrived

    @asynccontextmanager
    async def stand_in(self) -> AsyncIterator[None]:
        """Take one job more at a time for as long as the body lasts, and then a last one."""
        try:
            tag = self._unwanted.pop() if self._unwanted else await self._consume(1)
        except _LOST as error:
            raise JobsLost(type(error).__name__) from error
        try:
            yield
        finally:
            # A job on its way to a consumer that is cancelled would count as given back. One
            # that has its job gets no other.
            if tag is not None:
                self._unwanted.add(tag)

    async def stop(self) -> None:
        """Take no more jobs; those that came after the last one given go back."""
        if self._stopped:
            return
        self._stopped = True
        async with self._consuming:
            for tag in tuple(self._consumers):
                await self._cancel(tag)
        while not self._arrived.empty():
            arrived = self._arrived.get_nowait()
            if arrived is not None:
                await arrived.give_back()
        self._arrived.put_nowait(None)

    async def _consume(self, prefetch: int) -> str | None:
        async with self._consuming, asyncio.timeout(_TIMEOUT_S):
            if self._stopped:
                return None
            # The broker takes it for the consumers that follow on this channel.
            await self._channel.set_qos(prefetch_count=prefetch)
            jobs = await self._channel.get_queue(self._queue, ensure=False)
            tag = await jobs.consume(self._take)
            self._consumers.add(tag)
        return tag

    async def _cancel(self, tag: str | None) -> None:
        if tag is not None and tag in self._consumers:
            self._consumers.discard(tag)
            queue = await self._channel.get_queue(self._queue, ensure=False)
            await _told(queue.cancel(tag))

    async def _take(self, message: AbstractIncomingMessage) -> None:
        delivery = Delivery(message, self._outgoing, self._names)
        if message.consumer_tag in self._unwanted:
            self._unwanted.discard(message.consumer_tag)
            await self._cancel(message.consumer_tag)
        if self._stopped:
            await delivery.give_back()
        else:
            self._arrived.put_nowait(delivery)

    def _cancelled(self, _: object) -> None:
        self._on_lost(f"the broker cancelled the consumer of {self._queue}")

    def _closed(self, _: object, error: BaseException | None) -> None:
        self._on_lost(" ".join(str(error or "").split()) or f"the channel of {self._queue} closed")


def _can_be_written(header: FieldTable) -> bool:
    """Tell whether a header that was read can be written again; pamqp reads more than it writes."""
    try:
        field_table(header)
    except (TypeError, ValueError, OverflowError, struct.error):
        return False
    return True


async def _told(telling: Awaitable[object]) -> None:
    """Tell the broker something about a job, under a deadline."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await telling
    except _LOST as error:
        raise NotSettled(type(error).__name__) from error
