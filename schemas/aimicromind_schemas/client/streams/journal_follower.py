"""Follow the journal, and answer from memory what became of a job.

Invariants:

- One consumer reads the journal: what a live job may have left, then what is added. Until it has
  caught up, a look-up reads for its jobs alone.
- A look-up is answered once the consumer has passed a marker that was written after the question.
  One marker serves all who ask meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Never

from aimicromind_schemas.client.streams.journal_search import CLOCK_SLACK, JournalSearch, begin_of
from aimicromind_schemas.client.streams.markers import (
    Publish,
    is_marker,
    marker_message,
    publish_marker,
    time_of_first,
)
from aimicromind_schemas.client.streams.reader import NothingThere, StreamSilent, reading
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.journal.history import History, HistoryUnknown, read_milestone
from aimicromind_schemas.journal.memory import JobMemory

_log = logging.getLogger(__name__)

_SILENCE_S: Final = 30.0
# Few, because a journal may still hold whole `end`s of an earlier version. At the reader's pace
# they last 13 ms, which is longer than a round trip.
_AHEAD: Final = 200
_SILENT_PAUSE_S: Final = 1.0
# A stream whose leader was killed may have lost its last messages; others then take their place.
_READ_AGAIN: Final = 1000


@dataclass(slots=True)
class JournalState:
    """What a process keeps of the journal, over all its connections.

    Attributes:
        jobs: What is known of jobs.
        last: The message that was read last; None before the first one.
    """

    jobs: JobMemory = field(default_factory=JobMemory)
    last: StreamMessage | None = None


class JournalFollower:
    """Reads the journal of one connection.

    Attributes:
        on_live: A callback for each time that the reading caught up.
        on_behind: A callback with the ids of a job and its chat, once the job is behind its chat:
            it has ended, or waits after a failure of its own. Not called for what is read back.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        publish: Publish,
        stream: str,
        state: JournalState,
        lifetime: timedelta,
        take_other: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            connection: Where to read; it never publishes.
            publish: Publishes a marker, and returns once that is confirmed.
            stream: The journal's name.
            state: What is known from earlier connections.
            lifetime: How far back jobs that are alive may have left something.
            take_other: Gets the bodies that are no milestones.
        """
        self._connection = connection
        self._publish = publish
        self._stream = stream
        self._state = state
        self._lifetime = lifetime
        self._take_other = take_other
        self._markers: dict[bytes, asyncio.Event] = {}
        self._next_marker: asyncio.Future[None] | None = None
        self._marking = asyncio.Lock()
        self._came = asyncio.Event()
        self._known: StreamMessage | None = None
        self._is_another = False
        self._is_from_first = False
        self.search = JournalSearch(connection, publish, stream)
        self._live = asyncio.Event()
        self.on_live: Callable[[], None] = lambda: None
        self.on_behind: Callable[[str, str], None] = lambda _job, _chat: None

    @property
    def is_live(self) -> bool:
        """Whether the reading has caught up."""
        return self._live.is_set()

    async def run(self) -> Never:
        """Read until the connection is lost.

        Raises:
            StreamUnreadable: There is no such stream, or the connection closed.
        """
        while True:
            try:
                await self._run()
            except StreamSilent as error:
                _log.warning("%s", error)
                await asyncio.sleep(_SILENT_PAUSE_S)

    async def _run(self) -> Never:
        state, since = self._state, datetime.now(UTC) - self._lifetime - CLOCK_SLACK
        if state.last is not None:
            with suppress(NothingThere):
                await self._follow(max(0, state.last.offset - _READ_AGAIN))
            # It is another stream of that name, or what came next in it was removed unread.
            state.jobs.clear()
            state.last = None
        with suppress(NothingThere):
            await self._follow(since)
        # This clock is ahead of the broker's.
        await self._follow(None)

    async def until_live(self) -> None:
        """Wait until the reading has caught up.

        Raises:
            HistoryUnknown: It has not, within 30 s.
        """
        try:
            async with asyncio.timeout(_SILENCE_S):
                await self._live.wait()
        except TimeoutError as error:
            raise HistoryUnknown(f"{self._stream} is still being read") from error

    async def _follow(self, begin: datetime | int | None) -> Never:
        """Read from there on for ever.

        Raises:
            NothingThere: Nothing comes from there, or not what was read there before.
        """
        self._came.clear()
        self._known = self._state.last if isinstance(begin, int) else None
        self._is_another = self._is_from_first = False
        async with (
            self._marker() as caught_up,
            reading(self._connection, self._stream, begin, self._take, prefetch=_AHEAD) as reader,
        ):
            await reader.until(self._came, from_first=begin is None)
            pacing = asyncio.create_task(reader.pace())
            try:
                await reader.until(caught_up)
                if self._is_another:
                    raise NothingThere(self._stream)
                if not isinstance(begin, int):
                    await self._note_begin(begin)
                self._live.set()
                self.on_live()
                await reader.lost()
            finally:
                self._live.clear()
                pacing.cancel()

    async def _note_begin(self, begin: datetime | None) -> None:
        removed_before = await time_of_first(self._connection, self._stream)
        complete = datetime.min.replace(tzinfo=UTC)
        if begin is not None and not self._is_from_first:
            complete = begin
        self._state.jobs.note_complete(max(complete, removed_before or complete), CLOCK_SLACK)

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return what is known of a job.

        Args:
            job_id: The job.
            since: It has left nothing from before this time; None: nobody knows.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        try:
            if self.is_live and self._covers(since):
                await self.passed_now()
                # For what was read meanwhile, other jobs may have been forgotten: this one, too.
                if self._covers(since):
                    return self._state.jobs.history(job_id) or History()
            return (await self.search.look_up(job_id, since)).history
        except StreamSilent as error:
            raise HistoryUnknown(str(error)) from error

    def _covers(self, since: datetime | None) -> bool:
        return self._state.jobs.covers(begin_of(since), is_told=since is not None)

    async def passed_now(self) -> None:
        """Wait until all that was in the journal when this was called has been read.

        Raises:
            StreamSilent: It was not, within 30 s.
            StreamUnreadable: The broker did not take the marker.
        """
        if self._next_marker is None:
            self._next_marker = asyncio.ensure_future(self._passed_marker())
            # Whoever asked may be gone when it fails.
            self._next_marker.add_done_callback(lambda it: it.cancelled() or it.exception())
        await asyncio.shield(self._next_marker)

    async def _passed_marker(self) -> None:
        async with self._marking:
            # Whoever asks from now on needs a marker that is written later.
            self._next_marker = None
            # While the broker has an alarm, the marker waits, however long that takes.
            async with self._marker() as passed:
                try:
                    async with asyncio.timeout(_SILENCE_S):
                        await passed.wait()
                except TimeoutError as error:
                    raise StreamSilent(self._stream) from error

    @asynccontextmanager
    async def _marker(self) -> AsyncIterator[asyncio.Event]:
        """Write a marker; the body waits for the reading to pass it."""
        marker, passed = marker_message(), asyncio.Event()
        identity = (marker.message_id or "").encode()
        self._markers[identity] = passed
        try:
            await publish_marker(self._publish, marker, self._stream)
            yield passed
        finally:
            del self._markers[identity]

    def _take(self, message: StreamMessage) -> None:
        self._came.set()
        # There is nothing before it.
        self._is_from_first |= message.offset == 0
        if self._known is not None and message.offset >= self._known.offset:
            self._is_another = message.header != self._known.header
            self._known = None
        self._state.last = message
        if not message.body and is_marker(message):
            for identity, passed in self._markers.items():
                if identity in message.header:
                    passed.set()
            return
        milestone = read_milestone(message.body)
        if milestone is None:
            self._take_other(message.body)
        elif self._state.jobs.take(milestone) and self.is_live:
            self.on_behind(milestone.job_id, milestone.chat_id)
