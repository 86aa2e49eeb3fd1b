"""RabbitMQ → jobs, as many as there are slots, and one more for each that waits for its chat.

A worker holds no more bytes of jobs than its budget. Of a job for which there is no room only its
size has come: it is set aside, and nothing more is consumed until it has been requeued. From then
on jobs are taken one by one, each once there is room for the largest, by consumers with a prefetch
of 1. One that brought a job no larger than its share goes on; one that brought a larger job is
cancelled. So a job is requeued once for each time that its worker runs out of room.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import Names
from aimicromind_worker.amqp.jobs.delivery import LOST, BrokerDelivery, NotSettled, told
from aimicromind_worker.amqp.jobs.memory_budget import MemoryBudget
from aimicromind_worker.amqp.republishing import Outgoing

log = structlog.get_logger()

_TIMEOUT_S = 30.0
_RETURNS_REMEMBERED = 10_000
_Copy = tuple[str | None, str]


class ConsumerLost(ConnectionError):
    """The broker could not be asked for a job."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker could not be asked for a job: {reason}")


class JobConsumer:
    """The jobs as they come. Iterate it from one task."""

    def __init__(  # noqa: PLR0913, PLR0917 - one for each side that it has
        self,
        channel: AbstractChannel,
        outgoing: Outgoing,
        names: Names,
        queue: str,
        on_lost: Callable[[str], None],
        slots: int,
        budget: MemoryBudget | None,
    ) -> None:
        self._channel = channel
        self._outgoing = outgoing
        self._names = names
        self._queue = queue
        self._on_lost = on_lost
        self._slots = slots
        self._budget = budget
        self._arrived: asyncio.Queue[BrokerDelivery | None] = asyncio.Queue()
        self._stopped = False
        self._consuming = asyncio.Lock()
        self._consumers: set[str] = set()
        self._unwanted: set[str] = set()
        # By the consumer that brought it.
        self._unsettled: dict[BrokerDelivery, str] = {}
        self._set_aside: list[BrokerDelivery] = []
        self._is_careful = False
        # While it is careful: the size of the job that a consumer brought last.
        self._brought: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._returned: OrderedDict[_Copy, int] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def open(  # noqa: PLR0913, PLR0917 - one for each side that it has
        cls,
        consuming: AbstractConnection,
        outgoing: Outgoing,
        names: Names,
        on_lost: Callable[[str], None],
        slots: int,
        queue: str | None = None,
        budget: MemoryBudget | None = None,
    ) -> AsyncIterator["JobConsumer"]:
        """Take at most `slots` jobs at a time.

        Args:
            consuming: The connection that the jobs come by, and are acknowledged by. It must
                never publish: what publishes is not heard by a broker that has an alarm.
            outgoing: The way that jobs go out by again.
            names: Where the jobs are.
            on_lost: Called with the reason when the broker takes all jobs back.
            slots: Jobs that may be taken and not yet settled.
            queue: Where to take them from, if not from the jobs.
            budget: How many bytes of them may be held.
        """
        async with asyncio.timeout(_TIMEOUT_S):
            # It closes with its connection: to close it first would wait for a silent broker.
            channel = await consuming.channel(publisher_confirms=False)
            source = cls(channel, outgoing, names, queue or names.jobs, on_lost, slots, budget)
            channel.close_callbacks.add(source._closed)
            inner = await channel.get_underlay_channel()
            inner.on_consumer_cancel_callbacks.add(source._cancelled)
            if budget is not None:
                budget.watch(inner.number)
            await source._consume(slots)
        careful = asyncio.create_task(source._take_carefully())
        try:
            yield source
        finally:
            careful.cancel()
            with suppress(asyncio.CancelledError):
                await careful

    async def __aiter__(self) -> AsyncIterator[BrokerDelivery]:
        """Yield the jobs in the order in which they come, until `stop`."""
        while (arrived := await self._arrived.get()) is not None:
            yield arrived

    @asynccontextmanager
    async def stand_in(self) -> AsyncIterator[None]:
        """Take one job more at a time for as long as the body lasts, and then a last one."""
        if self._is_careful:
            yield
            return
        tag = self._unwanted.pop() if self._unwanted else await self._consume(1)
        try:
            yield
        finally:
            # A job in flight to a consumer that is cancelled would count as requeued. One that
            # has its job gets no other.
            if tag in self._consumers:
                self._unwanted.add(tag)

    async def stop(self) -> None:
        """Take no more jobs; requeue those that came and were not yielded."""
        if self._stopped:
            return
        self._stopped = True
        self._changed.set()
        await self._cancel_all()
        while not self._arrived.empty():
            arrived = self._arrived.get_nowait()
            if arrived is not None:
                await arrived.requeue_unchanged()
        self._arrived.put_nowait(None)

    async def _consume(self, prefetch: int, tag: str | None = None) -> str:
        """Begin to take jobs; no consumer, "", once the source is stopped."""
        tag = tag or str(uuid4())
        try:
            async with self._consuming, asyncio.timeout(_TIMEOUT_S):
                if self._stopped:
                    return ""
                # The broker takes it for the consumers that follow on this channel.
                await self._channel.set_qos(prefetch_count=prefetch)
                inner = await self._channel.get_underlay_channel()
                self._consumers.add(tag)
                await inner.basic_consume(self._queue, self._take, consumer_tag=tag)
                return tag
        except LOST as error:
            raise ConsumerLost(type(error).__name__) from error

    async def _cancel(self, tag: str) -> None:
        if tag in self._consumers:
            self._consumers.discard(tag)
            inner = await self._channel.get_underlay_channel()
            await told(inner.basic_cancel(tag))

    async def _cancel_all(self) -> None:
        async with self._consuming:
            for tag in tuple(self._consumers):
                await self._cancel(tag)

    async def _take(self, message: DeliveredMessage) -> None:
        delivery = BrokerDelivery.of(message, self._outgoing, self._names, self._settled)
        was_stopped, tag = self._stopped, message.consumer_tag or ""
        if self._is_careful:
            self._brought[tag] = len(message.body)
        self._changed.set()
        if delivery.found_no_room and not was_stopped:
            self._set_aside.append(delivery)
            return
        self._unsettled[delivery] = tag
        if not was_stopped:
            self._forget_returns(delivery)
            # Before anything is waited for: what comes after it must not overtake it.
            self._arrived.put_nowait(delivery)
        if tag in self._unwanted:
            self._unwanted.discard(tag)
            await self._cancel(tag)
        if was_stopped:
            await delivery.requeue_unchanged()

    def _settled(self, delivery: BrokerDelivery) -> None:
        if self._unsettled.pop(delivery, None) is not None and self._budget is not None:
            self._budget.release(delivery.held_bytes)
        self._changed.set()

    async def _take_carefully(self) -> None:
        """Take jobs one by one from when one found no room, as often as that happens."""
        if self._budget is None:
            return
        try:
            while not self._stopped:
                await self._until(lambda: bool(self._set_aside))
                self._is_careful = True
                await self._requeue_set_aside()
                await self._take_one_by_one(self._budget)
                self._is_careful = bool(self._set_aside)
        except (ConsumerLost, NotSettled) as error:
            self._on_lost(str(error))

    async def _requeue_set_aside(self) -> None:
        # Nothing comes back to us, or comes at all, while no consumer is there.
        await self._cancel_all()
        self._unwanted.clear()
        while self._set_aside:
            delivery = self._set_aside.pop()
            copy = (delivery.facts.message_id, delivery.facts.digest)
            self._returned[copy] = self._returned.pop(copy, 0) + 1
            if len(self._returned) > _RETURNS_REMEMBERED:
                self._returned.popitem(last=False)
            await delivery.requeue_unchanged()
            log.info("job.no_room", size_bytes=delivery.facts.whole_bytes)

    async def _take_one_by_one(self, budget: MemoryBudget) -> None:
        """Add consumers with one job each, until there are as many as slots."""
        while not self._stopped and not self._set_aside and len(self._consumers) < self._slots:
            await self._until(lambda: budget.has_room() and self._busy() < self._slots)
            if self._set_aside:
                return
            self._brought.clear()
            tag = await self._consume(1)
            await self._until(lambda: tag in self._brought)  # noqa: B023 - awaited here
            if self._brought.get(tag, 0) > budget.share(self._slots):
                await self._cancel(tag)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, a job is set aside, or the source is stopped."""
        while not (holds() or self._set_aside or self._stopped):
            self._changed.clear()
            await self._changed.wait()

    def _busy(self) -> int:
        """Count consumers, and the jobs of those that are no more."""
        return len(self._consumers) + sum(
            tag not in self._consumers for tag in self._unsettled.values()
        )

    def _forget_returns(self, delivery: BrokerDelivery) -> None:
        """Count no delivery that ended only because this worker had no room."""
        if self._returned and delivery.facts.redelivered:
            copy = (delivery.facts.message_id, sha256(delivery.body).hexdigest())
            delivery.forget(self._returned.get(copy, 0))

    def _cancelled(self, _: object) -> None:
        self._on_lost(f"the broker cancelled the consumer of {self._queue}")

    def _closed(self, _: object, error: BaseException | None) -> None:
        self._on_lost(" ".join(str(error or "").split()) or f"the channel of {self._queue} closed")
