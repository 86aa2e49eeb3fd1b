"""A real job source whose deliveries a test takes one at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aimicromind_schemas import Names
from aimicromind_worker.adapters.connection import connect
from aimicromind_worker.adapters.job_source import Delivery, JobSource
from tests.support.amqp import BEAT, WITHIN_S


class Jobs:
    """Takes the deliveries of a source."""

    def __init__(self, source: JobSource) -> None:
        self.source = source
        self._arriving = aiter(source)

    async def next(self) -> Delivery:
        return await asyncio.wait_for(anext(self._arriving), WITHIN_S)


@asynccontextmanager
async def jobs_at(
    url: str, names: Names, slots: int = 1, publishing_url: str | None = None
) -> AsyncIterator[Jobs]:
    """Open a source on connections of its own."""
    async with (
        connect([url], "test jobs", BEAT) as consuming,
        connect([publishing_url or url], "test jobs out", BEAT) as publishing,
        JobSource.open(consuming, publishing, names, slots) as source,
    ):
        yield Jobs(source)
