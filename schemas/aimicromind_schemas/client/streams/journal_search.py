"""Look jobs up in the journal without following it: read all of it since they were submitted."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from msgspec.structs import replace

from aimicromind_schemas.client.streams.markers import Publish, read_up_to_now, time_of_first
from aimicromind_schemas.client.streams.reader import NothingThere
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.journal.history import History, Milestone, read_milestone

CLOCK_SLACK: Final = timedelta(minutes=15)
"""How far the clocks of producers, workers and broker may differ."""
LONGEST_LIFETIME: Final = timedelta(days=1)
"""A job that does not say when it was submitted is no older."""


def begin_of(since: datetime | None) -> datetime:
    """Return from when on a job may have left something.

    Args:
        since: It was submitted then, aware; None: nobody knows.
    """
    now = datetime.now(UTC)
    return min(since or now - LONGEST_LIFETIME, now) - CLOCK_SLACK


# Of more jobs each milestone is read: that costs less than to look for their ids.
_MOST_LOOKED_FOR: Final = 20


class Found(NamedTuple):
    """What the journal says of a job.

    Attributes:
        history: Its history.
        unended: The same if no `end` of it was published, whatever the journal says.
    """

    history: History = History()
    unended: History = History()

    def after(self, milestone: Milestone) -> "Found":
        """Return the same with the job's next milestone taken in."""
        return Found(self.history.after(milestone), self.unended.after(milestone, ends=False))

    def reaching_back(self, *, is_whole: bool) -> "Found":
        """Return the same, with whether the journal reaches back to the job's submission."""
        return Found(*(replace(each, is_whole=is_whole) for each in self))


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
        self._answers: asyncio.Future[Mapping[str, Found]] | None = None
        self.lock = asyncio.Lock()

    async def look_up(self, job_id: str, since: datetime | None) -> Found:
        """Return what the journal says of a job.

        Args:
            job_id: The job.
            since: It was submitted then, aware; None: nobody knows, and all is read.

        Raises:
            StreamSilent: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        self._asked[job_id] = since and begin_of(since)
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
            # Whoever asked may be gone when it fails.
            self._answers.add_done_callback(lambda it: it.cancelled() or it.exception())
        return (await asyncio.shield(self._answers))[job_id]

    async def _read_for_all(self) -> Mapping[str, Found]:
        async with self.lock:
            # Whoever asks from now on needs a reading that begins later.
            asked, self._asked, self._answers = self._asked, {}, None
            begin = None if None in asked.values() else min(filter(None, asked.values()))
            found = dict.fromkeys(asked, Found())

            def take(message: StreamMessage) -> None:
                milestone = read_milestone(message.body)
                if milestone is not None and milestone.job_id in found:
                    found[milestone.job_id] = found[milestone.job_id].after(milestone)

            few = len(asked) <= _MOST_LOOKED_FOR
            wanted = tuple(job_id.encode() for job_id in asked) if few else ()
            try:
                await read_up_to_now(*self._read, begin, take, wanted=wanted)
            except NothingThere:
                await read_up_to_now(*self._read, None, take, wanted=wanted)
            connection, _, stream = self._read
            removed_before = await time_of_first(connection, stream)
        oldest = begin or begin_of(None)
        is_whole = removed_before is None or oldest >= removed_before
        return {job_id: it.reaching_back(is_whole=is_whole) for job_id, it in found.items()}
