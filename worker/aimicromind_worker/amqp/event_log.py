"""Say where in the event log the events of a chat go.

The end of the log is looked up in the background, before jobs publish their first events.

No job waits for it, and none fails by it: a handle that is not known in time is absent.
"""

import asyncio
from typing import Never

import structlog

from aimicromind_schemas import PARTITIONS, Names, partition_of
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.streams.positions import LogPositions
from aimicromind_schemas.client.transport.cancelling import unless_cancelled
from aimicromind_worker.amqp.connection import BrokerConnection

log = structlog.get_logger()

_AFTER_FAILURE_S = 5.0


class EventLog:
    """The event log of a session. `run` once."""

    def __init__(self, names: Names, partitions: int = PARTITIONS) -> None:
        """Prepare; nothing is looked up before `run`.

        Args:
            names: The topology's names.
            partitions: The number of partitions; 0 where there is no log.
        """
        self._partitions = partitions
        self._positions = LogPositions(names, partitions)
        self._wanted: set[int] = set()
        self._news = asyncio.Event()

    def partition(self, chat_id: str) -> int | None:
        """Return the partition that an event must name; None where there is one, or no log."""
        # A single partition is bound by the key `#`.
        return partition_of(chat_id, self._partitions) if self._partitions > 1 else None

    def want(self, chat_id: str) -> None:
        """Look up the position of a chat's partition soon, unless it was 5 s ago or less."""
        if not self._partitions:
            return
        partition = partition_of(chat_id, self._partitions)
        if not self._positions.is_fresh(partition):
            self._wanted.add(partition)
            self._news.set()

    def handle(self, chat_id: str) -> str | None:
        """Return the handle of a job whose first event is published next; None if unknown."""
        return self._positions.handle(chat_id) if self._partitions else None

    async def run(self, connection: BrokerConnection) -> Never:
        """Look up what is wanted.

        Args:
            connection: Where to read; it never publishes.
        """
        is_told = False
        while True:
            await self._news.wait()
            self._news.clear()
            while self._wanted:
                try:
                    await self._positions.refresh(connection, self._wanted.pop())
                    is_told = False
                except ClientError as error:
                    unless_cancelled()
                    if not is_told:
                        log.warning("event_log.unread", reason=str(error))
                    is_told = True
                    self._wanted.clear()
                    await asyncio.sleep(_AFTER_FAILURE_S)
