"""Find the `end` of a job in the stream of endings, from its end backwards.

A job that somebody asks for has mostly ended a short while ago. AMQP reads a stream forwards only,
thus it is read in parts: the last 256 endings, then 16 times as many before them, and so on. Where
it is known when the job began, from its handle or its id, the part from there on comes second.

Invariants:

- The last part is read for a second, and to where the stream ended when the search began. Thus an
  `end` that was published before the question is found, also if the broker is still writing it.
- Offsets of a stream are consecutive. That of the first message is read, the others are counted.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_schemas.client.connection import REFUSALS
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone, BrokerRefused, ClientError
from aimicromind_schemas.client.past.batches import Batches, Readings
from aimicromind_schemas.client.streams.reader import (
    NothingThere,
    StreamUnreadable,
    reading,
)
from aimicromind_schemas.client.transport.labels import labels_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

_FIRST_PART: Final = 256
_GROWTH: Final = 16
_SETTLES_S: Final = 1.0
# They hold whole answers, and the broker's prefetch counts messages.
_AHEAD: Final = 100
_END: Final = b":end"
# Clocks mostly differ by less.
_SHORTLY: Final = timedelta(seconds=5)
# Whatever a handle says: AMQP has no time before 1970.
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)


class _Question:
    """Somebody asks for the `end` of a job."""

    def __init__(self, job_id: str, since: datetime | None) -> None:
        self.job_id = job_id
        self.since = since
        self.answer: asyncio.Future[Delivery | None] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when it fails.
        self.answer.add_done_callback(lambda it: it.cancelled() or it.exception())


class EndingsSearch:
    """Searches one stream of endings. Any number of tasks may ask at once."""

    def __init__(self, readings: Readings, stream: str) -> None:
        """Prepare; nothing is sent before somebody asks.

        Args:
            readings: Where to read.
            stream: Name of the stream.
        """
        self._stream = stream
        self._batches: Batches[_Question] = Batches(readings, self._read, _fail)

    async def find(self, job_id: str, since: datetime | None = None) -> Delivery | None:
        """Return the `end` of a job; None where it is not there.

        Args:
            job_id: The job.
            since: When it began, by any clock; None: unknown.

        Raises:
            BrokerGone: The connection closed.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        question = _Question(job_id, since)
        self._batches.ask(question)
        try:
            return await question.answer
        finally:
            self._batches.withdraw(question)

    async def close(self) -> None:
        """End all searches."""
        await self._batches.close()

    async def _read(self, questions: list[_Question], connection: GuardedConnection) -> None:
        try:
            await _Search(connection, self._stream, questions).run()
        except StreamUnreadable as unreadable:
            if (error := _reason(unreadable)) is not None:
                raise error from unreadable
        for question in questions:
            if not question.answer.done():
                question.answer.set_result(None)


def _fail(questions: list[_Question], error: ClientError) -> None:
    for question in questions:
        if not question.answer.done():
            question.answer.set_exception(error)


class _Search:
    """One search for some jobs.

    Attributes:
        found: Set once nobody waits for an answer.
    """

    def __init__(
        self, connection: GuardedConnection, stream: str, questions: Iterable[_Question]
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._sought: dict[str, list[_Question]] = {}
        self._since: datetime | None = None
        for question in questions:
            if question.since is not None:
                self._since = min(question.since, self._since or question.since)
            self._sought.setdefault(f"{question.job_id}:end", []).append(question)
        # Headers are searched for it. With several jobs, each `end` is looked at.
        self._needle = next(iter(self._sought)).encode() if len(self._sought) == 1 else _END
        self.found = asyncio.Event()

    async def run(self) -> None:
        """Search until all are found, or all is read.

        Raises:
            StreamUnreadable: There are no endings, or the connection closed.
        """
        last = await self._last()
        if last is None:
            return
        begin = max(0, last + 1 - _FIRST_PART)
        part = _Part(self, last)
        newest = asyncio.create_task(self._newest(part, begin))
        is_read = asyncio.create_task(part.is_read.wait())
        try:
            await asyncio.wait((newest, is_read), return_when=asyncio.FIRST_COMPLETED)
            if self._since is not None and begin > 0 and not self.found.is_set():
                first = await self._older(max(_EARLIEST, self._since - _SHORTLY), begin)
                begin = begin if first is None else min(begin, first)
            size = _FIRST_PART
            while begin > 0 and not self.found.is_set():
                size *= _GROWTH
                end, begin = begin, max(0, begin - size)
                if await self._older(begin, end) != begin:
                    # What was before is removed.
                    break
            await newest
        finally:
            newest.cancel()
            is_read.cancel()

    async def _last(self) -> int | None:
        """Return the offset of one of the last messages; None where the stream has none."""
        offsets: list[int] = []
        came = asyncio.Event()

        def take(message: StreamMessage) -> None:
            offsets.append(message.offset)
            came.set()

        with suppress(NothingThere):
            async with reading(self._connection, self._stream, "last", take, prefetch=1) as reader:
                reader.hold()
                await reader.until(came)
        return offsets[0] if offsets else None

    async def _newest(self, part: "_Part", begin: int) -> None:
        """Read the last part, up to what is written within a second."""
        settled = asyncio.get_running_loop().time() + _SETTLES_S
        async with reading(
            self._connection, self._stream, begin, part.take, prefetch=_AHEAD
        ) as reader:
            await reader.until(part.is_read)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(settled):
                    await self.found.wait()

    async def _older(self, begin: datetime | int, end: int) -> int | None:
        """Read from a time or offset to before an offset; return the first offset that came."""
        part = _Part(self, end - 1)
        # Nothing comes from a time on that the broker's clock has not reached.
        with suppress(NothingThere):
            async with reading(
                self._connection, self._stream, begin, part.take, prefetch=_AHEAD
            ) as reader:
                await reader.until(part.is_read)
        return part.first if part.first >= 0 else None

    def check(self, message: StreamMessage) -> None:
        """Answer those who asked for this message."""
        if self._needle not in message.header:
            return
        # The id of another job may hold the one that is sought.
        questions = self._sought.get(labels_of(message.header).message_id)
        if questions is None:
            return
        delivery = Delivery.of_frames(message)
        for question in questions:
            if not question.answer.done():
                question.answer.set_result(delivery)
        if all(it.answer.done() for each in self._sought.values() for it in each):
            self.found.set()


class _Part:
    """Some consecutive messages of the stream.

    Attributes:
        first: Offset of the first one; -1 before it comes.
        is_read: Set once the last one came, or nothing more is sought.
    """

    def __init__(self, search: _Search, last: int) -> None:
        self.first = -1
        self.is_read = asyncio.Event()
        self._search = search
        self._last = last
        self._count = 0

    def take(self, message: StreamMessage) -> None:
        if not self._count:
            self.first = message.offset
        self._count += 1
        self._search.check(message)
        if self.first + self._count > self._last or self._search.found.is_set():
            self.is_read.set()


def _reason(unreadable: StreamUnreadable) -> ClientError | None:
    """Return why a search failed; None where there are no endings."""
    cause = unreadable.__cause__
    if isinstance(cause, ChannelNotFoundEntity):
        return None
    return BrokerRefused(str(cause)) if isinstance(cause, REFUSALS) else BrokerGone()
