"""Follow a chat over any number of connections, by the rule for consumers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aimicromind_schemas.client.errors import BrokerGone, NoEventLog, NoSuchQueue
from aimicromind_schemas.client.joined import Joined, Wanted
from aimicromind_schemas.client.link import Link
from aimicromind_schemas.client.subscription import to_the_end
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Gap, Reader

CLOCK_SLACK: Final = timedelta(minutes=5)
"""How far the clocks of workers, broker and client may differ."""

_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Replay:
    """What is read besides what is published from now on.

    Attributes:
        streams: Where to read what went by while the connection was lost: the first that there is.
        before: Whether to begin with what the first of them has from before.
        since: From when on; None: all that it has.
    """

    streams: tuple[str, ...]
    before: bool
    since: datetime | None


class Following:
    """One follower. Open it, iterate over `items` once, close it."""

    def __init__(
        self, link: Link, wanted: Wanted, history: Replay, reader: Reader, until: str | None
    ) -> None:
        """Prepare.

        Args:
            link: Where to read.
            wanted: Which events.
            history: Which of those from before.
            reader: What counts as read already.
            until: Stop after the end of this job; None: never.
        """
        self._link = link
        self._wanted = wanted
        self._history = history
        self._reader = reader
        self._until = until
        self._opened_at = datetime.now(UTC)
        self._latest: datetime | None = None
        self._again = False
        self._joined: Joined | None = None

    async def open(self) -> None:
        """Begin: nothing that is published from now on is missed.

        Raises:
            NothingToListenTo: There is no exchange of events.
            NoEventLog: There is no stream to read from before.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission.
        """
        stream = self._history.streams[0] if self._history.before else None
        while self._joined is None:
            connection = await self._link.connection()
            try:
                self._joined = await Joined.open(
                    connection, self._wanted, stream, self._history.since
                )
            except NoSuchQueue as error:
                raise NoEventLog(self._history.streams[0]) from error
            except BrokerGone:
                await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        """Leave nothing on the broker."""
        joined, self._joined = self._joined, None
        if joined is not None:
            await joined.close()

    async def items(self) -> AsyncGenerator[Event | Gap, None]:
        """Yield the events and the gaps; goes on over a lost connection.

        Raises:
            BrokerUnreachable: No broker answered for as long as the link is patient.
        """
        while True:
            try:
                joined = self._joined or await self._reopened()
                async with aclosing(joined.events(self._reader.knows)) as events:
                    async for event in events:
                        for item in self._shown(event):
                            yield item
                        if self._until is not None and self._reader.ended(self._until):
                            return
            except BrokerGone:
                await self.close()
                await asyncio.sleep(_PAUSE_S)

    def _shown(self, event: Event) -> list[Event | Gap]:
        # After a lost connection the log is read from a little before we began, too.
        early = self._again and not self._history.before and event.time < self._opened_at
        if early and not self._reader.seen(event.job_id):
            return []
        self._latest = event.time if self._latest is None else max(self._latest, event.time)
        return self._reader.take(event)

    async def _reopened(self) -> Joined:
        self._again = True
        connection = await self._link.connection()
        if self._latest is None and self._history.before:
            since = self._history.since
        else:
            since = (self._latest or self._opened_at) - CLOCK_SLACK
        for stream in self._history.streams:
            try:
                self._joined = await Joined.open(connection, self._wanted, stream, since)
            except NoSuchQueue:
                continue
            return self._joined
        self._joined = await Joined.open(connection, self._wanted, None, None)
        return self._joined


@asynccontextmanager
async def opened(following: Following) -> AsyncIterator[AsyncIterator[Event | Gap]]:
    """Open a follower, give its items, and close it at the end."""
    await following.open()
    try:
        async with aclosing(following.items()) as items:
            yield items
    finally:
        await to_the_end(following.close())
