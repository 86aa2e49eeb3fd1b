"""Break off streams that were silent for too long, with one timer for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

from aimicromind_worker.core.endpoint.errors import StreamStalled


class Watched:
    """One stream that is watched.

    Attributes:
        last: The time of the last frame in seconds, by the monotonic clock; infinite while paused.
        scope: The timeout that breaks the stream off.
    """

    __slots__ = ("last", "scope")

    def __init__(self, scope: asyncio.Timeout) -> None:
        self.last = monotonic()
        self.scope = scope

    def progressed(self) -> None:
        """Record that a frame came."""
        self.last = monotonic()

    def paused(self) -> None:
        """Record that the worker does not read until `progressed`: silence does not count."""
        self.last = float("inf")


class IdleTimeout:
    """The idle timeout of any number of streams. One for the process."""

    def __init__(self, limit: timedelta) -> None:
        """Begin with no streams.

        Args:
            limit: The longest silence, above zero.
        """
        self._limit = limit
        self._streams: set[Watched] = set()

    async def run(self) -> None:
        """Check all streams at least once a second, until the task is cancelled."""
        limit_s = self._limit.total_seconds()
        while True:
            await asyncio.sleep(min(1.0, limit_s / 10))
            oldest = monotonic() - limit_s
            for stream in self._streams:
                if stream.last < oldest and not stream.scope.expired():
                    stream.scope.reschedule(0)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watched]:
        """Watch the stream that the body reads.

        Raises:
            StreamStalled: The stream was silent for longer than the limit.
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
