"""Take one more job for each that waits, by a consumer with a prefetch of 1.

Invariant: a consumer is cancelled only while it has a job, which is settled after that. A job that
is on its way to a cancelled consumer is requeued by the broker, and counts as a delivery.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from aimicromind_worker.amqp.jobs.delivery import BrokerDelivery, NotSettled


class ExtraConsumers:
    """The consumers for one more job each."""

    def __init__(
        self,
        consume: Callable[[int], Awaitable[str]],
        cancel: Callable[[str], Awaitable[None]],
        unsettled: Mapping[BrokerDelivery, str],
    ) -> None:
        """Begin with none.

        Args:
            consume: Starts a consumer with a prefetch, and returns its tag; "" if it cannot.
            cancel: Cancels a consumer.
            unsettled: The jobs that are not settled, and the tags of their consumers.
        """
        self._consume = consume
        self._cancel = cancel
        self._unsettled = unsettled
        self._tags: set[str] = set()
        self._unwanted: set[str] = set()

    @asynccontextmanager
    async def one_more(self) -> AsyncIterator[None]:
        """Take one more job at a time while the body runs."""
        tag = self._unwanted.pop() if self._unwanted else await self._consume(1)
        if not tag:
            yield
            return
        self._tags.add(tag)
        try:
            yield
        finally:
            self._one_less(tag)

    def is_unwanted(self, tag: str) -> bool:
        """Return whether a consumer, which just got a job, must be cancelled."""
        if tag not in self._unwanted:
            return False
        self._forget(tag)
        return True

    def forget_all(self) -> None:
        """Take in that all consumers were cancelled."""
        self._tags.clear()
        self._unwanted.clear()

    def _one_less(self, tag: str) -> None:
        wanted = self._tags - self._unwanted
        for delivery, spare in self._unsettled.items():
            if spare in wanted:
                self._forget(spare)
                # In a task: the job that waited does not wait for this, too.
                delivery.not_before.add(asyncio.create_task(self._cancel_unless_lost(spare)))
                return
        if wanted:
            self._unwanted.add(tag if tag in wanted else wanted.pop())

    async def _cancel_unless_lost(self, tag: str) -> None:
        with suppress(NotSettled):
            await self._cancel(tag)

    def _forget(self, tag: str) -> None:
        self._tags.discard(tag)
        self._unwanted.discard(tag)
