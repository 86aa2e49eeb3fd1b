"""A journal that is read, as a session reads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from tests.integration.outgoing import Way
from tests.support.waiting import until

LIFETIME = timedelta(hours=1)


def a_journal(
    connection: BrokerConnection, way: Way, names: Names, memory: JournalMemory | None = None
) -> Journal:
    """Make one whose look-ups each read for themselves."""
    return Journal(connection, way.publishing, names, memory or JournalMemory(), LIFETIME)


@asynccontextmanager
async def live_journal(
    connection: BrokerConnection, way: Way, names: Names, memory: JournalMemory | None = None
) -> AsyncIterator[Journal]:
    """Follow the journal during the body."""
    journal = a_journal(connection, way, names, memory)
    reading = asyncio.create_task(journal.run())
    try:
        await until(lambda: journal.is_live or reading.done())
        yield journal
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
