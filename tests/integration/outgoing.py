"""A publishing connection that is kept open, with a sink on it, as a session has them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from aimicromind_schemas import PARTITIONS, Names
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.event_log import EventLog
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.copies import Copies
from aimicromind_worker.amqp.events.publisher_connection import PublisherConnection
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.topology import Topology
from aimicromind_worker.telemetry.event_counts import EventCounts
from tests.support.amqp import BEAT, WITHIN_S

NOTHING = Topology((), ())
_NAME, _COPIES = "aimicromind-worker events", "aimicromind-worker copies"


class Way:
    """What a session publishes on."""

    def __init__(
        self,
        publisher: EventPublisher,
        publishing: PublisherConnection,
        ownership: JobOwnership,
        copies: Copies,
    ) -> None:
        self.publisher = publisher
        self.publishing = publishing
        self.ownership = ownership
        self._kept = asyncio.create_task(publishing.run())
        self._copies = asyncio.create_task(copies.run())

    async def ended(self) -> None:
        """Wait until it is given up, and raise why."""
        await asyncio.wait_for(asyncio.shield(self._kept), WITHIN_S)

    async def usable(self) -> None:
        """Wait until something can be published; what ended it for good is raised."""
        try:
            await asyncio.wait_for(self.publishing.usable(), WITHIN_S)
        except ConnectionError:
            await self.ended()
            raise

    async def lost(self) -> str:
        """Wait until nothing can be published, and give the reason."""
        async with asyncio.timeout(WITHIN_S):
            while (reason := self.publishing.obstacle()) is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
        return reason

    async def close(self) -> None:
        self._kept.cancel()
        self._copies.cancel()
        await asyncio.gather(self._kept, self._copies, return_exceptions=True)


@asynccontextmanager
async def publishing_at(
    url: str,
    names: Names,
    wanted: Topology = NOTHING,
    beat: timedelta = BEAT,
    tls: ssl.SSLContext | None = None,
    partitions: int = PARTITIONS,
    **window: Any,  # noqa: ANN401 - named in Window
) -> AsyncIterator[Way]:
    """Keep a connection open; nobody shuts the fence, which stands open for the test's time."""
    ownership, counts = JobOwnership(BEAT), EventCounts()
    opened = partial(connect, [url])
    copies = Copies(
        partial(opened, _COPIES, beat, tls), beat, names, ownership, counts, Window(**window)
    )
    publisher = EventPublisher(
        *(names, Window(**window), ownership.is_open, counts, copies.copy_publisher),
        log=EventLog(names, partitions),
    )
    publishing = PublisherConnection(
        partial(opened, _NAME, beat, tls), beat, wanted, publisher, ownership
    )
    way = Way(publisher, publishing, ownership, copies)
    try:
        await way.usable()
        yield way
    finally:
        await way.close()


@asynccontextmanager
async def sink_at(url: str, names: Names, **window: Any) -> AsyncIterator[EventPublisher]:  # noqa: ANN401 - named in Window
    """Open a sink on a connection of its own."""
    async with publishing_at(url, names, **window) as way:
        yield way.publisher
