"""Look jobs up in the journal without following it: read all of it since they were submitted."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from aimicromind_schemas.client.streams.markers import Publish, read_up_to_now, time_of_first
from aimicromind_schemas.client.streams.reader import NothingThere
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.journal.history import History, read_milestone

CLOCK_SLACK: Final = timedelta(minutes=15)
"""How far the clocks of producers, workers and broker may differ."""
LONGEST_LIFETIME: Final = timedelta(days=1)
"""A job that does not say when it was submitted is no older."""

# Of more jobs each milestone is read: that costs less than to look for their ids.
_MOST_LOOKED_FOR: Final = 20


class JournalSearch:
    """Searches one journal. One reading at a time serves all who ask before it begins.

    Attributes:
        lock: Held while it reads: each reading takes a channel, and some brokers allow few.
    """

    def __init__(self, connection: GuardedConnection, publish: Publish, stream: str) -> None:
        """Prepare.

        Args:
            connection: Where to read; it never publishes.
            publish: Publishes a marker, and returns once that is confirmed.
            stream: The journal's name.
        """
        self._read = (connection, publish, stream)
        self._asked: dict[str, datetime | None] = {}
        self._answers: asyncio.Future[Mapping[str, History]] | None = None
        self.lock = asyncio.Lock()

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return what the journal says of a job since a time, aware; None: all of it.

        Raises:
            StreamSilent: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        self._asked[job_id] = since
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
            # Whoever asked may be gone when it fails.
            self._answers.add_done_callback(lambda it: it.cancelled() or it.exception())
        return (await asyncio.shield(self._answers))[job_id]

    async def _read_for_all(self) -> Mapping[str, History]:
        async with self.lock:
            # Whoever asks from now on needs a reading that begins later.
            asked, self._asked, self._answers = self._asked, {}, None
            begin = None if None in asked.values() else min(filter(None, asked.values()))
            histories = dict.fromkeys(asked, History())

            def take(message: StreamMessage) -> None:
                milestone = read_milestone(message.body)
                if milestone is not None and milestone.job_id in histories:
                    known = histories[milestone.job_id]
                    histories[milestone.job_id] = known.after(milestone)

            few = len(asked) <= _MOST_LOOKED_FOR
            wanted = tuple(job_id.encode() for job_id in asked) if few else ()
            try:
                await read_up_to_now(*self._read, begin, take, wanted=wanted)
            except NothingThere:
                await read_up_to_now(*self._read, None, take, wanted=wanted)
            connection, _, stream = self._read
            removed_before = await time_of_first(connection, stream)
        oldest = begin or datetime.now(UTC) - LONGEST_LIFETIME - CLOCK_SLACK
        is_whole = removed_before is None or oldest >= removed_before
        return {job_id: replace(it, is_whole=is_whole) for job_id, it in histories.items()}
