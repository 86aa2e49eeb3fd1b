"""Follow a chat or a job by the rule for consumers, across lost connections."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.errors import BrokerGone, NoEventLog, NoSuchQueue
from aimicromind_schemas.client.joined import Joined
from aimicromind_schemas.client.subscription import uncancelled
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Gap, Reader

CLOCK_SLACK: Final = timedelta(minutes=5)
"""Largest difference between the clocks of workers, broker and client."""

_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Replay:
    """Where to read events that were published before.

    Attributes:
        streams: Streams to read after a lost connection; the first that exists is taken.
        before: Whether to begin with events of the first stream.
        since: Begin with those from this time on; None for all of them.
    """

    streams: tuple[str, ...]
    before: bool
    since: datetime | None


class Following:
    """Follows once. `open` it, iterate over `items` once, then `close` it."""

    def __init__(
        self,
        connection: ClientConnection,
        wanted: Wanted,
        history: Replay,
        reader: Reader,
        until: str | None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            connection: Opened, and opened again after a loss.
            wanted: Which events.
            history: Which earlier events.
            reader: Applies the rule for consumers; what it knows is not yielded.
            until: Stop after the `end` of this job; None for never.
        """
        self._connection = connection
        self._wanted = wanted
        self._history = history
        self._reader = reader
        self._until = until
        self._opened_at = datetime.now(UTC)
        self._latest: datetime | None = None
        self._again = False
        self._joined: Joined | None = None

    async def open(self) -> None:
        """Subscribe; nothing published after this returns is missed.

        Raises:
            NothingToListenTo: The exchange of events does not exist.
            NoEventLog: The stream of earlier events does not exist.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission.
        """
        stream = self._history.streams[0] if self._history.before else None
        while self._joined is None:
            connection = await self._connection.connection()
            try:
                self._joined = await Joined.open(
                    connection, self._wanted, stream, self._history.since
                )
            except NoSuchQueue as error:
                raise NoEventLog(self._history.streams[0]) from error
            except BrokerGone:
                await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        """Close the channels."""
        joined, self._joined = self._joined, None
        if joined is not None:
            await joined.close()

    async def items(self) -> AsyncGenerator[Event | Gap, None]:
        """Yield events and gaps; after a lost connection, continue on a new one.

        Raises:
            BrokerUnreachable: No broker answered within the connection's patience.
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
        # After a loss, the log is read from before the subscription on: clocks differ.
        early = self._again and not self._history.before and event.time < self._opened_at
        if early and not self._reader.seen(event.job_id):
            return []
        self._latest = event.time if self._latest is None else max(self._latest, event.time)
        return self._reader.take(event)

    async def _reopened(self) -> Joined:
        self._again = True
        connection = await self._connection.connection()
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
    """Open a follower for the time of the body, and yield its items."""
    await following.open()
    try:
        async with aclosing(following.items()) as items:
            yield items
    finally:
        await uncancelled(following.close())
