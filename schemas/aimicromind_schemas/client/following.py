"""Follow a chat or a job by the rule for consumers, across lost connections.

Events come live, or from the past (`past.py`): before the first live event, and after some were
missed. Missed are those of a lost connection, and those that a full buffer did not take.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from typing_extensions import override

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone, NoEventLog
from aimicromind_schemas.client.jobs.handles import handle_in
from aimicromind_schemas.client.live.buffer import Buffer
from aimicromind_schemas.client.live.live_events import PAUSE_S, LiveEvents
from aimicromind_schemas.client.past.log_place import CLOCK_SLACK
from aimicromind_schemas.client.past.sources import Missed, Past, Replay, first_answer
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.worker_events import EndEvent
from aimicromind_schemas.reading import Gap, Position, Reader

_REPAIRED_EVERY_S: Final = 60.0
"""A follower that is always too slow would have the log read again and again."""
_MOST_OF_REPLAY: Final = 0.999
"""What is read may not have been yielded yet."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to read events that were published before.

    Attributes:
        before: Sources of the events to begin with; empty to begin with live ones.
        missed: Sources of the events that were missed.
        since: Where to begin; None for the first event that is left.
        handle: Handle of the job; None where it is not known.
        after: The event of the job behind which to begin; None for its first one.
        log: Name of the event log, for errors.
    """

    before: Sequence[Past]
    missed: Sequence[Past]
    since: datetime | None
    handle: str | None
    after: Position | None
    log: str


def reader_of(chat_id: str | None, job_id: str | None, after: Position | None) -> Reader:
    """Return a reader for a chat or a job.

    Raises:
        ValueError: Neither is named, or there is a position without a job.
    """
    if chat_id is None and job_id is None:
        raise ValueError("chat_id and job_id are both absent: name a chat or a job")
    reader = Reader()
    if after is not None:
        if job_id is None:
            raise ValueError("after is a position in a job: name the job by job_id")
        reader.resume(job_id, after)
    return reader


@dataclass(eq=False)
class Following:
    """Follows once. `open` it, iterate over `items` once, then `close` it.

    Attributes:
        live: The live events.
        sources: Where earlier events are read.
        wanted: Which events.
        reader: Applies the rule for consumers; what it knows is not yielded.
        until: Stop after the `end` of this job; None for never.
        ended: Called with each `end` that is yielded.
    """

    live: LiveEvents
    sources: Sources
    wanted: Wanted
    reader: Reader
    until: str | None
    ended: Callable[[EndEvent], None]
    _buffer: Buffer = field(default_factory=Buffer)
    _opened_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _latest: datetime | None = None
    _replay: Replay | None = None
    _is_lost: bool = False
    _was_missing: bool = False
    _repaired_at: float | None = None

    @property
    def progress(self) -> float:
        """How much of the earlier events is read, from 0 to 1; 1 while events come live."""
        return 1.0 if self._replay is None else min(self._replay.progress, _MOST_OF_REPLAY)

    def put(self, delivery: Delivery) -> None:
        """Take a live message."""
        self._buffer.put(delivery)

    def miss(self) -> None:
        """Remember that the connection was lost."""
        self._is_lost = True
        self._buffer.miss()

    async def open(self) -> None:
        """Subscribe; nothing published after this returns is missed.

        Raises:
            NothingToListenTo: The exchange of events does not exist.
            NoEventLog: No source of earlier events exists.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        await self.live.join(self)
        if self.sources.before:
            self._replay = await self._answer(self.sources.before)
            if self._replay is None:
                raise NoEventLog(self.sources.log)

    def close(self) -> None:
        """Leave the live events, and stop reading earlier ones."""
        if self._replay is not None:
            self._replay.close()
        self.live.leave(self)

    async def items(self) -> AsyncGenerator[Event | Gap, None]:
        """Yield events and gaps; after a lost connection, continue on a new one.

        Raises:
            BrokerUnreachable: No broker answered within the connection's patience.
        """
        async with aclosing(self._events()) as events:
            async for event in events:
                for item in self._shown(event):
                    if isinstance(item, EndEvent):
                        self.ended(item)
                    yield item
                if self.until is not None and self.reader.ended(self.until):
                    return

    async def _events(self) -> AsyncGenerator[Event, None]:
        """Yield earlier and live events; some of them twice."""
        ends: list[Delivery] = []
        while True:
            async with aclosing(self._earlier()) as earlier:
                async for event in earlier:
                    yield event
            for end in ends:
                if (ending := self.wanted.event(end)) is not None:
                    yield ending
            while (delivery := await self._buffer.next()) is not None:
                if (live := self.wanted.event(delivery)) is not None:
                    yield live
            ends = await self._begin_again()

    async def _earlier(self) -> AsyncGenerator[Event, None]:
        """Yield the events of the source that was asked, asking again for what is missing."""
        while self._replay is not None:
            replay = self._replay
            try:
                async with aclosing(replay.events()) as events:
                    async for event in events:
                        yield event
                is_whole = replay.is_whole
            except BrokerGone:
                is_whole = False
                await asyncio.sleep(PAUSE_S)
            replay.close()
            before = self.sources.before if self._latest is None else ()
            self._replay = None if is_whole else await self._answer(before or self.sources.missed)

    async def _begin_again(self) -> list[Delivery]:
        """Take live events again, ask for the missed ones, and return each `end` that was kept."""
        was_lost, self._is_lost = self._is_lost, False
        await self.live.restored(self)
        ends = self._buffer.begin_again()
        self._was_missing = True
        now = asyncio.get_running_loop().time()
        repaired = self._repaired_at is not None and now - self._repaired_at < _REPAIRED_EVERY_S
        if was_lost or not repaired:
            self._repaired_at = now
            self._replay = await self._answer(self.sources.missed)
        return ends

    async def _answer(self, sources: Sequence[Past]) -> Replay | None:
        begins = self._latest is None and self.sources.before
        since = self.sources.since if begins else (self._latest or self._opened_at) - CLOCK_SLACK
        handle, after, knows = self.sources.handle, self.sources.after, self.reader.knows
        missed = Missed(self.wanted, since, handle, after, self._buffer, knows)
        while True:
            try:
                return await first_answer(sources, missed)
            except BrokerGone:
                await asyncio.sleep(PAUSE_S)

    def _shown(self, event: Event) -> list[Event | Gap]:
        # What was missed is read from before the subscription on: clocks differ.
        early = self._was_missing and not self.sources.before and event.time < self._opened_at
        if early and not self.reader.seen(event.job_id):
            return []
        self._latest = event.time if self._latest is None else max(self._latest, event.time)
        return self.reader.take(event)


class Followed(AsyncIterator[Event | Gap]):
    """What a follower yields.

    Attributes:
        handle: Handle of the job whose `start` or `end` was yielded last; None before.
    """

    def __init__(self, items: AsyncIterator[Event | Gap], following: Following) -> None:
        self.handle = following.sources.handle
        self._items = items
        self._following = following

    @property
    def progress(self) -> float:
        """How much of the earlier events is read, from 0 to 1.

        Below 1, events that were published before are yielded: those to begin with, or those that
        were missed. At 1, events come live.
        """
        return self._following.progress

    @override
    async def __anext__(self) -> Event | Gap:
        item = await anext(self._items)
        if not isinstance(item, Gap):
            self.handle = handle_in(item) or self.handle
        return item


@asynccontextmanager
async def opened(following: Following) -> AsyncIterator[Followed]:
    """Open a follower for the time of the body, and yield its items."""
    try:
        await following.open()
        async with aclosing(following.items()) as items:
            yield Followed(items, following)
    finally:
        following.close()
