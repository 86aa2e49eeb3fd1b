"""RabbitMQ → jobs, as many as there are slots, and one more for each that waits for its chat."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import Names
from aimicromind_worker.adapters.delivery import LOST, Delivery, told
from aimicromind_worker.adapters.outgoing import Outgoing

_TIMEOUT_S = 30.0


class JobsLost(ConnectionError):
    """The broker could not be asked for a job."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker could not be asked for a job: {reason}")


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
        tag = self._unwanted.pop() if self._unwanted else await self._consume(1)
        try:
            yield
        finally:
            # A job on its way to a consumer that is cancelled would count as given back. One
            # that has its job gets no other.
            if tag in self._consumers:
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

    async def _consume(self, prefetch: int) -> str:
        """Begin to take jobs; no consumer, "", once the source is stopped."""
        try:
            async with self._consuming, asyncio.timeout(_TIMEOUT_S):
                if self._stopped:
                    return ""
                # The broker takes it for the consumers that follow on this channel.
                await self._channel.set_qos(prefetch_count=prefetch)
                inner = await self._channel.get_underlay_channel()
                answer = await inner.basic_consume(self._queue, self._take)
                tag = answer.consumer_tag or ""
                self._consumers.add(tag)
                return tag
        except LOST as error:
            raise JobsLost(type(error).__name__) from error

    async def _cancel(self, tag: str) -> None:
        if tag in self._consumers:
            self._consumers.discard(tag)
            inner = await self._channel.get_underlay_channel()
            await told(inner.basic_cancel(tag))

    async def _take(self, message: DeliveredMessage) -> None:
        delivery = Delivery.of(message, self._outgoing, self._names)
        was_stopped, tag = self._stopped, message.consumer_tag or ""
        if not was_stopped:
            # Before anything is waited for: what comes after it must not overtake it.
            self._arrived.put_nowait(delivery)
        if tag in self._unwanted:
            self._unwanted.discard(tag)
            await self._cancel(tag)
        if was_stopped:
            await delivery.give_back()

    def _cancelled(self, _: object) -> None:
        self._on_lost(f"the broker cancelled the consumer of {self._queue}")

    def _closed(self, _: object, error: BaseException | None) -> None:
        self._on_lost(" ".join(str(error or "").split()) or f"the channel of {self._queue} closed")
