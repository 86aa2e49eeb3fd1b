"""A real job source whose deliveries a test takes one at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aimicromind_schemas import Names
from aimicromind_worker.amqp.channels import ExtraChannels
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.consumer import JobConsumer
from aimicromind_worker.amqp.jobs.delivery import BrokerDelivery
from tests.integration.outgoing import Way, publishing_at
from tests.support.amqp import BEAT, WITHIN_S


class Jobs:
    """Takes the deliveries of a source.

    Attributes:
        way: Where they go out again.
    """

    def __init__(self, source: JobConsumer, way: Way, loss: asyncio.Future[str]) -> None:
        self.source = source
        self.way = way
        self._loss = loss
        self._arriving = aiter(source)

    async def next(self) -> BrokerDelivery:
        return await asyncio.wait_for(anext(self._arriving), WITHIN_S)

    async def lost(self) -> str:
        """Wait until the broker takes the jobs back, and give the reason."""
        return await asyncio.wait_for(asyncio.shield(self._loss), WITHIN_S)


@asynccontextmanager
async def jobs_at(
    url: str, names: Names, slots: int = 1, publishing_url: str | None = None
) -> AsyncIterator[Jobs]:
    """Open a source on connections of its own."""
    loss: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def note(reason: str) -> None:
        if not loss.done():
            loss.set_result(reason)

    async with (
        connect([url], "test jobs", BEAT) as consuming,
        publishing_at(publishing_url or url, names) as way,
        JobConsumer.open(
            consuming, way.publishing, names, note, slots, extra=ExtraChannels()
        ) as source,
    ):
        yield Jobs(source, way, loss)
