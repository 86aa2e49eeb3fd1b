"""Break off streams on which nothing has come for too long, with one timer for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

from aimicromind_worker.core.endpoint.errors import StreamStalled


class Watched:
    """One stream under watch.

    Attributes:
        last: When something came, by the monotonic clock; infinite while nobody reads.
    """

    __slots__ = ("last", "scope")

    def __init__(self, scope: asyncio.Timeout) -> None:
        self.last = monotonic()
        self.scope = scope

    def progressed(self) -> None:
        """Record that something came."""
        self.last = monotonic()

    def paused(self) -> None:
        """Record that we do not read, so that nothing can come, until `progressed`."""
        self.last = float("inf")


class IdleTimeout:
    """Watches any number of streams. One for the process."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._streams: set[Watched] = set()

    async def run(self) -> None:
        """Look at all streams from time to time, for ever."""
        limit_s = self._limit.total_seconds()
        while True:
            await asyncio.sleep(min(1.0, limit_s / 10))
            oldest = monotonic() - limit_s
            for stream in self._streams:
                if stream.last < oldest and not stream.scope.expired():
                    stream.scope.reschedule(0)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watched]:
        """Watch what the body reads.

        Raises:
            StreamStalled: Nothing came for the limit's time.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                stream = Watched(scope)
                self._streams.add(stream)
                try:
                    yield stream
                finally:
                    self._streams.discard(stream)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise StreamStalled(self._limit) from error
