"""Follow a chat or a job by the rule for consumers, across lost connections."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.errors import BrokerGone, NoEventLog, NoSuchQueue
from aimicromind_schemas.client.joined import Joined, Place
from aimicromind_schemas.client.log_place import CLOCK_SLACK, LogPlace, place_in_log
from aimicromind_schemas.client.transport.cancelling import uncancelled
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Gap, Reader
from aimicromind_schemas.routing import Names

_PAUSE_S: Final = 0.1
# They can be large, and the broker's prefetch counts messages.
_ENDINGS_AHEAD: Final = 20


@dataclass(frozen=True, slots=True)
class Replay:
    """Where to read events that were published before.

    Attributes:
        names: Names of the installation.
        log: Whether the event log is read, or the endings alone. After a lost connection, the
            endings are read where there is no event log.
        before: Whether to begin with events that were published before.
        since: Begin with those from this time on; None for all of them.
    """

    names: Names
    log: bool
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
        history = self._history
        place = self._places(history.since)[0] if history.before else None
        while self._joined is None:
            connection = await self._connection.connection()
            try:
                self._joined = await Joined.open(connection, self._wanted, place)
            except NoSuchQueue as error:
                raise NoEventLog(history.names.events_log) from error
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
        for place in self._places(since):
            try:
                self._joined = await Joined.open(connection, self._wanted, place)
            except NoSuchQueue:
                continue
            return self._joined
        self._joined = await Joined.open(connection, self._wanted, None)
        return self._joined

    def _places(self, since: datetime | None) -> list[Place]:
        """Return where to read, in the order of preference."""
        names, chat_id = self._history.names, self._wanted.chat_id
        in_log = partial(place_in_log, names=names, chat_id=chat_id, since=since)
        in_endings = partial(_place_in_endings, names=names, since=since)
        return [in_log, in_endings] if self._history.log else [in_endings]


async def _place_in_endings(
    _: GuardedConnection, *, names: Names, since: datetime | None
) -> LogPlace:
    return LogPlace((names.endings,), since, prefetch=_ENDINGS_AHEAD)


@asynccontextmanager
async def opened(following: Following) -> AsyncIterator[AsyncIterator[Event | Gap]]:
    """Open a follower for the time of the body, and yield its items."""
    await following.open()
    try:
        async with aclosing(following.items()) as items:
            yield items
    finally:
        await uncancelled(following.close())
