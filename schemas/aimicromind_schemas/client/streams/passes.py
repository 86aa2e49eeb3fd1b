"""Read a part of a stream: up to an offset, or up to now.

A stream has no sign for its end. What is there now is read once two things are true: the reading
has reached the last chunk that a probe found, and either nothing more comes, or a later probe found
a later chunk.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

from aimicromind_schemas.client.streams.collecting import Collected
from aimicromind_schemas.client.streams.probes import last_chunk
from aimicromind_schemas.client.streams.reader import (
    PREFETCH,
    StreamReader,
    StreamSilent,
    reading,
)
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

Begin = datetime | int | None
"""A time (aware), an offset, or None for the beginning."""

_LOOKS_EVERY_S: Final = 0.005
# A chunk comes in one burst.
_REST_OF_CHUNK_S: Final = 0.05
_BEGINS_WITHIN_S: Final = 1.0
_SILENCE_S: Final = 30.0


class BeginsLate(Exception):
    """A reading by time began behind the offset that it had to begin before, or did not begin."""


class StreamPass:
    """Reads the wanted messages of one stream, with as many consumers as it takes.

    Attributes:
        position: Offset of the last message that came, wanted or not; -1 before the first.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        stream: str,
        wanted: tuple[bytes, ...],
        prefetch: int = PREFETCH,
    ) -> None:
        """Prepare.

        Args:
            connection: See `reading`.
            stream: Its name.
            wanted: See `reading`.
            prefetch: See `reading`.
        """
        self.position = -1
        self._connection = connection
        self._stream = stream
        self._wanted = wanted
        self._prefetch = prefetch

    async def up_to(
        self, begin: Begin, last: int, filter_values: Sequence[str]
    ) -> AsyncGenerator[StreamMessage, None]:
        """Yield the messages up to an offset, and perhaps some behind it.

        Args:
            begin: Where to begin.
            last: Offset of a message that is there.
            filter_values: See `reading`; that of the message at `last` is one of them.

        Raises:
            BeginsLate: From that time on, the stream has nothing up to that offset.
            StreamUnreadable: See `reading`.
        """

        async def is_over(reader: StreamReader, kept: Collected) -> None:
            await self._reached(reader, kept, last)

        async for message in self._messages(begin, last, filter_values, is_over):
            yield message

    async def to_now(self, begin: int | None, now_s: float) -> AsyncGenerator[StreamMessage, None]:
        """Yield the messages that are there at a moment, and perhaps some that come later.

        Args:
            begin: Where to begin.
            now_s: The moment, a time of the event loop.

        Raises:
            StreamUnreadable: See `reading`.
        """

        async def is_over(reader: StreamReader, kept: Collected) -> None:
            await asyncio.sleep(max(0.0, now_s - asyncio.get_running_loop().time()))
            before = await last_chunk(self._connection, self._stream)
            if before is None:
                return
            await self._reached(reader, kept, before.offset)
            while True:
                seen = reader.position
                await asyncio.sleep(_REST_OF_CHUNK_S)
                if reader.position == seen and not kept.is_held:
                    return
                later = await last_chunk(self._connection, self._stream)
                if later is not None and before.offset < later.offset <= reader.position + 1:
                    return

        async for message in self._messages(begin, 0, (), is_over):
            yield message

    async def _messages(
        self,
        begin: Begin,
        last: int,
        filter_values: Sequence[str],
        is_over: Callable[[StreamReader, Collected], Coroutine[Any, Any, None]],
    ) -> AsyncGenerator[StreamMessage, None]:
        while True:
            kept = Collected()
            async with (
                reading(
                    self._connection,
                    self._stream,
                    begin,
                    kept.take,
                    wanted=self._wanted,
                    filter_values=filter_values,
                    prefetch=self._prefetch,
                ) as reader,
                _task(is_over(reader, kept)) as over,
            ):
                kept.follow(reader)
                if isinstance(begin, datetime):
                    await _check_begin(reader, last)
                async for message in self._kept(reader, kept, over):
                    yield message
            if kept.left_out_from is None:
                return
            begin = kept.left_out_from

    async def _kept(
        self, reader: StreamReader, kept: Collected, over: asyncio.Task[None]
    ) -> AsyncGenerator[StreamMessage, None]:
        while True:
            is_last = over.done()
            while (message := kept.pop()) is not None:
                yield message
            self.position = max(self.position, reader.position)
            if kept.left_out_from is not None:
                return
            if is_last:
                over.result()
                return
            kept.changed.clear()
            changed = asyncio.ensure_future(kept.changed.wait())
            try:
                await asyncio.wait((changed, over), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()

    async def _reached(self, reader: StreamReader, kept: Collected, last: int) -> None:
        """Wait until the message at an offset has come.

        Raises:
            StreamUnreadable: No more can come, or none came for 30 s.
        """
        seen, silent_s = reader.count, 0.0
        while reader.position < last:
            await asyncio.sleep(_LOOKS_EVERY_S)
            self.position = max(self.position, reader.position)
            if reader.failure is not None:
                raise reader.failure
            is_silent = seen == reader.count and not kept.is_held
            seen, silent_s = reader.count, silent_s + _LOOKS_EVERY_S if is_silent else 0.0
            if silent_s > _SILENCE_S:
                raise StreamSilent(self._stream)


async def _check_begin(reader: StreamReader, last: int) -> None:
    """Wait for the first message, 1 s at most, which must not be behind an offset.

    Raises:
        BeginsLate: It is, or it did not come.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_BEGINS_WITHIN_S):
            while not reader.count and reader.failure is None:  # noqa: ASYNC110 - counted, not told
                await asyncio.sleep(_LOOKS_EVERY_S)
    if not reader.count or reader.first > last:
        raise BeginsLate


@asynccontextmanager
async def _task(waiting: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a task during the body."""
    task = asyncio.create_task(waiting)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            # asyncio logs an exception that nobody has retrieved.
            task.exception()
