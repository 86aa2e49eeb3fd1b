"""Consume jobs: as many as there are slots, and one more for each that waits for its chat.

Invariants of the budget of held bytes:

- Of a job above the budget only size and digest come. It is set aside, and all consumers are
  cancelled before it is requeued: it must not come back at once.
- From then on, consumers with a prefetch of 1 are added one by one, each once the budget takes the
  largest body. A consumer whose job is above its share is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import FailureKind, Names
from aimicromind_worker.amqp.channels import ExtraChannels
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.jobs.consumer_channels import ConsumerChannels
from aimicromind_worker.amqp.jobs.delivery import LOST, BrokerDelivery, NotSettled
from aimicromind_worker.amqp.jobs.extra_consumers import ExtraConsumers
from aimicromind_worker.amqp.jobs.memory_budget import BudgetRequeues, MemoryBudget
from aimicromind_worker.amqp.republishing import Outgoing

log = structlog.get_logger()

_TIMEOUT_S = 30.0


class ConsumerLost(ConnectionError):
    """A consumer could not be started."""


class JobConsumer:
    """The deliveries of one queue, in their order. Iterate it from one task.

    Attributes:
        on_dead_letter: A callback for each job that was dead-lettered, with its kind.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one for each side that it has
        self,
        connection: BrokerConnection,
        outgoing: Outgoing,
        names: Names,
        queue: str,
        on_lost: Callable[[str], None],
        slots: int,
        budget: MemoryBudget | None,
        extra: ExtraChannels | None,
    ) -> None:
        self.on_dead_letter: Callable[[FailureKind], None] = lambda _: None
        self._outgoing = outgoing
        self._names = names
        self._on_lost = on_lost
        self._slots = slots
        self._budget = budget
        self._arrived: asyncio.Queue[BrokerDelivery | None] = asyncio.Queue()
        self._stopping: asyncio.Task[None] | None = None
        self._consuming = asyncio.Lock()
        self._channels = ConsumerChannels(connection, queue, self._take, on_lost, budget, extra)
        # By delivery: the tag of its consumer.
        self._unsettled: dict[BrokerDelivery, str] = {}
        self._extra = ExtraConsumers(self._consume, self._channels.cancel, self._unsettled)
        self._set_aside: list[BrokerDelivery] = []
        self._one_by_one = False
        # By tag, while jobs are taken one by one: the size of the last job.
        self._brought: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._requeued = BudgetRequeues()

    @classmethod
    @asynccontextmanager
    async def open(  # noqa: PLR0913, PLR0917 - one for each side that it has
        cls,
        consuming: BrokerConnection,
        outgoing: Outgoing,
        names: Names,
        on_lost: Callable[[str], None],
        slots: int,
        queue: str | None = None,
        budget: MemoryBudget | None = None,
        extra: ExtraChannels | None = None,
    ) -> AsyncIterator["JobConsumer"]:
        """Consume a queue, with at most `slots` unsettled jobs at a time.

        Args:
            consuming: The connection of the jobs. It must never publish: a broker with an alarm
                stops reading from connections that publish.
            outgoing: The publisher of jobs that are requeued with a state, or dead-lettered.
            names: The names of exchanges and queues.
            on_lost: A callback with the reason, once the broker will redeliver all jobs.
            slots: The most unsettled jobs.
            queue: The queue; None: `jobs`.
            budget: The budget of held bytes; None: unlimited.
            extra: How many channels there may be for consumers of one more job; None: no channel.
        """
        consumed = queue or names.jobs
        source = cls(consuming, outgoing, names, consumed, on_lost, slots, budget, extra)
        await source._consume(slots)
        watching = asyncio.create_task(source._watch_budget())
        try:
            yield source
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    @property
    def consumers(self) -> int:
        """The number of consumers on the queue, as the broker counts them.

        RabbitMQ 3.10: a cancelled consumer counts until its jobs are settled.
        """
        return len({*self._channels.tags, *self._unsettled.values()})

    async def __aiter__(self) -> AsyncIterator[BrokerDelivery]:
        """Yield the jobs in the order of their deliveries, until `stop`."""
        while (arrived := await self._arrived.get()) is not None:
            yield arrived

    @asynccontextmanager
    async def take_one_more(self) -> AsyncIterator[None]:
        """Take one more job at a time while the body runs.

        Afterwards more may come, at most one for each free slot.
        """
        if self._one_by_one:
            yield
            return
        async with self._extra.one_more():
            yield

    async def stop(self) -> None:
        """Take no more jobs; requeue those that were not yielded yet."""
        if self._stopping is not None:
            return
        # A job requeued before that would come back at once, time after time, each time counted.
        self._stopping = asyncio.create_task(self._cancel_all())
        for delivery in self._unsettled:
            delivery.not_before.add(self._stopping)
        self._changed.set()
        await self._stopping
        while not self._arrived.empty():
            arrived = self._arrived.get_nowait()
            if arrived is not None:
                await arrived.requeue_unchanged()
        self._arrived.put_nowait(None)

    async def _consume(self, prefetch: int) -> str:
        """Start a consumer and return its tag; "" if the source is stopped or has no channel."""
        try:
            async with self._consuming, asyncio.timeout(_TIMEOUT_S):
                if self._stopping is not None or self._channels.is_full:
                    return ""
                return await self._channels.start(prefetch)
        except LOST as error:
            raise ConsumerLost(f"no consumer could be started: {type(error).__name__}") from error

    async def _cancel_all(self) -> None:
        async with self._consuming:
            for tag in tuple(self._channels.tags):
                await self._channels.cancel(tag)

    async def _take(self, message: DeliveredMessage) -> None:
        tag = message.consumer_tag or ""
        settled = partial(self._settled, tag)
        delivery = BrokerDelivery.of(message, self._outgoing, self._names, settled)
        delivery.on_dead_letter = lambda kind: self.on_dead_letter(kind)  # noqa: PLW0108 - set later
        self._channels.took(tag)
        if self._one_by_one:
            self._brought[tag] = len(message.body)
        self._changed.set()
        stopping = self._stopping
        if delivery.over_budget and stopping is None:
            self._set_aside.append(delivery)
            return
        self._unsettled[delivery] = tag
        if stopping is None:
            if delivery.facts.redelivered:
                delivery.forget(self._requeued.times(delivery.facts.message_id, delivery.body))
            # Before any await: a later delivery must not overtake this one.
            self._arrived.put_nowait(delivery)
        if self._extra.is_unwanted(tag):
            await self._channels.cancel(tag)
        if stopping is not None:
            delivery.not_before.add(stopping)
            await delivery.requeue_unchanged()

    def _settled(self, tag: str, delivery: BrokerDelivery) -> None:
        self._channels.settled(tag)
        if self._unsettled.pop(delivery, None) is not None and self._budget is not None:
            self._budget.release(delivery.held_bytes)
        self._changed.set()

    async def _watch_budget(self) -> None:
        """Switch to taking jobs one by one, each time that a job is above the budget."""
        if self._budget is None:
            return
        try:
            while self._stopping is None:
                await self._until(lambda: bool(self._set_aside))
                self._one_by_one = True
                await self._requeue_set_aside()
                await self._take_one_by_one(self._budget)
                self._one_by_one = bool(self._set_aside)
        except (ConsumerLost, NotSettled) as error:
            self._on_lost(str(error))

    async def _requeue_set_aside(self) -> None:
        # Without a consumer, the requeued job cannot come back to this worker.
        await self._cancel_all()
        self._extra.forget_all()
        while self._set_aside:
            delivery = self._set_aside.pop()
            self._requeued.note(delivery.facts.message_id, delivery.facts.digest)
            await delivery.requeue_unchanged()
            log.info("job.no_room", size_bytes=delivery.facts.whole_bytes)

    async def _take_one_by_one(self, budget: MemoryBudget) -> None:
        """Add consumers with a prefetch of 1, until there are as many as slots."""
        while not (self._stopping or self._set_aside or self._has_all_consumers()):
            await self._until(lambda: budget.fits_any_body() and self._busy() < self._slots)
            if self._set_aside:
                return
            self._brought.clear()
            tag = await self._consume(1)
            await self._until(lambda: tag in self._brought)  # noqa: B023 - awaited here
            if self._brought.get(tag, 0) > budget.share(self._slots):
                await self._channels.cancel(tag)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds, a job is set aside, or the source is stopped."""
        while not (holds() or self._set_aside or self._stopping):
            self._changed.clear()
            await self._changed.wait()

    def _busy(self) -> int:
        """Return the number of consumers, and of unsettled jobs of cancelled ones."""
        tags = self._channels.tags
        return len(tags) + sum(tag not in tags for tag in self._unsettled.values())

    def _has_all_consumers(self) -> bool:
        return len(self._channels.tags) >= self._slots or self._channels.is_full
