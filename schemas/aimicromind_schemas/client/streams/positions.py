"""Tell where the event log is now, for the handles of jobs that begin.

One look-up serves all jobs of a partition for 5 s: a handle may point to somewhat earlier events.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from aimicromind_schemas.client.streams.probes import is_empty, last_chunk, partitions_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.handle import Handle, Installation, encode_handle
from aimicromind_schemas.partitions import partition_of
from aimicromind_schemas.routing import Names

_REUSED_FOR_S: Final = 5.0
# An older place would have its reader read more than a time does.
_GOOD_FOR_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    at: Handle
    since_s: float

    @property
    def age_s(self) -> float:
        return monotonic() - self.since_s


class LogPositions:
    """Where the partitions of one event log end.

    Attributes:
        partitions: The number of partitions.
    """

    def __init__(self, names: Names, partitions: int) -> None:
        """Begin without any position.

        Args:
            names: Names of the installation.
            partitions: The number of partitions.
        """
        self._names = names
        self.partitions = partitions
        self._of = Installation(names.prefix, partitions)
        self._known: dict[int, _Known] = {}
        self._lock = asyncio.Lock()

    def is_fresh(self, partition: int) -> bool:
        """Return whether a position of the last 5 s is known."""
        known = self._known.get(partition)
        return known is not None and known.age_s < _REUSED_FOR_S

    def handle(self, chat_id: str) -> str | None:
        """Return the handle of a job whose events are published from now on; None if unknown."""
        known = self._known.get(partition_of(chat_id, self.partitions))
        if known is None or known.age_s > _GOOD_FOR_S:
            return None
        return encode_handle(known.at, self._of)

    async def refresh(self, connection: GuardedConnection, partition: int) -> None:
        """Look up where a partition ends, unless that was done in the last 5 s.

        Args:
            connection: Where to read; it never publishes.
            partition: The partition.

        Raises:
            NoSuchQueue: There is no such partition.
            StreamUnreadable, BrokerGone: The connection closed.
        """
        async with self._lock:
            if self.is_fresh(partition):
                return
            began_s, began_at = monotonic(), datetime.now(UTC)
            stream = self._names.events_log_stream(partition)
            # Whoever reads from offset 0 goes by the time.
            known = _Known(Handle(partition, 0, began_at), began_s)
            if partition not in self._known and await is_empty(connection, stream):
                # The broker counts every 5 s. To find that nothing is there takes 0.2 s.
                self._known[partition] = known
            last = await last_chunk(connection, stream)
            if last is not None:
                known = replace(known, at=replace(known.at, offset=last.offset))
            self._known[partition] = known


_positions: WeakKeyDictionary[GuardedConnection, dict[Names, LogPositions]] = WeakKeyDictionary()


async def handle_of(connection: GuardedConnection, names: Names, chat_id: str) -> str | None:
    """Return the handle of a job that is submitted after this; None where there is no event log.

    Args:
        connection: Where to read; it never publishes.
        names: Names of the installation.
        chat_id: The chat of the job.

    Raises:
        StreamUnreadable, BrokerGone: The connection closed.
    """
    known = _positions.setdefault(connection, {})
    if names not in known:
        partitions = await partitions_of(connection, names.events_log)
        if not partitions:
            return None
        known.setdefault(names, LogPositions(names, partitions))
    positions = known[names]
    await positions.refresh(connection, partition_of(chat_id, positions.partitions))
    return positions.handle(chat_id)
