"""Find the `end` of one job among the endings, a stream of whole `end`s of all jobs.

Invariants:

- The reading stops at the `end`, or at a marker that was published before the reading began. Thus
  an `end` that was confirmed before the question is found.
- Endings are large, and the broker's prefetch counts messages: few are sent ahead.
- Retention is by size, too: the endings may reach back less far than the journal.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from aimicromind_schemas.client.streams.journal_search import CLOCK_SLACK
from aimicromind_schemas.client.streams.markers import (
    Publish,
    marker_message,
    publish_marker,
    time_of_first,
)
from aimicromind_schemas.client.streams.reader import NothingThere, reading
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.journal.history import StoredEnd, read_milestone

_SHORTLY: Final = timedelta(seconds=5)
"""Clocks mostly differ by less."""
_AHEAD: Final = 20
# Whatever a message says: times before it cannot all be subtracted from.
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)


class Endings:
    """The endings of one installation. Each question takes a channel, one after the other."""

    def __init__(
        self, connection: GuardedConnection, publish: Publish, stream: str, lock: asyncio.Lock
    ) -> None:
        """Prepare.

        Args:
            connection: Where to read; it never publishes.
            publish: Publishes a marker, and returns once that is confirmed.
            stream: The name of the endings.
            lock: Held while it reads: some brokers allow few channels.
        """
        self._connection = connection
        self._publish = publish
        self._stream = stream
        self._lock = lock

    async def end_of(self, job_id: str, ended_at: datetime | None) -> StoredEnd:
        """Return the `end` of a job.

        Args:
            job_id: The job.
            ended_at: When it ended, by the clock of its worker; None: nobody knows.

        Raises:
            StreamSilent: The broker does not show the endings now.
            StreamUnreadable: There are no endings, or the connection closed.
        """
        if ended_at is not None:
            ended_at = max(ended_at, _EARLIEST)
        async with self._lock:
            body = await self._search(job_id, ended_at)
            if body is not None:
                return StoredEnd(body)
            removed_before = await time_of_first(self._connection, self._stream)
        if removed_before is None:
            return StoredEnd(None)
        return StoredEnd(None, ended_at is None or removed_before > ended_at - _SHORTLY)

    async def _search(self, job_id: str, ended_at: datetime | None) -> bytes | None:
        """Read from shortly before the time; then with what clocks may hide; at last all."""
        if ended_at is not None:
            found = None
            for slack in (_SHORTLY, CLOCK_SLACK):
                # Where nothing comes, this clock is ahead of the broker's.
                with suppress(NothingThere):
                    found = await self._read(job_id, ended_at - slack)
                    if found.body is not None:
                        return found.body
            if found is not None:
                return None
        return (await self._read(job_id, None)).body

    async def _read(self, job_id: str, since: datetime | None) -> StoredEnd:
        """Read up to the `end`, or up to now.

        Raises:
            NothingThere: Nothing comes from there.
        """
        marker, is_over = marker_message(), asyncio.Event()
        identity = (marker.message_id or "").encode()
        bodies: list[bytes] = []

        def take(message: StreamMessage) -> None:
            end = read_milestone(message.body)
            # The id of another job may hold this one.
            if end is not None and end.job_id == job_id:
                bodies.append(message.body)
            if bodies or identity in message.header:
                is_over.set()

        await publish_marker(self._publish, marker, self._stream)
        wanted = (job_id.encode() + b":end", identity)
        async with reading(
            self._connection, self._stream, since, take, wanted=wanted, prefetch=_AHEAD
        ) as reader:
            await reader.until(is_over, from_first=since is None)
        return StoredEnd(bodies[0] if bodies else None)
