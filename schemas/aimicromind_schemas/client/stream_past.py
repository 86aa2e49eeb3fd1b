"""The past in a stream, such as the event log: one reading serves many followers.

Invariants:

- A reading begins before the first event that one of its followers asked for, and shows each
  follower what it asked for.
- It is over for a follower whose next live event is known from the stream. It is over for all at
  the offset that the stream had a second after the reading began, or where nothing comes.
- A follower that does not take its events holds up the others for `_PATIENCE_S` in all. It is then
  left out, and has to ask again.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final

from aiormq.abc import DeliveredMessage
from typing_extensions import override

from aimicromind_schemas.client.batches import Batches, Readings
from aimicromind_schemas.client.buffer import Buffer
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.dispatch import Dispatch
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.log_reading import LogReading, offset_of
from aimicromind_schemas.client.past import Missed, Past, Replay
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event

_SILENCE_S: Final = 3.0
# A broker that filters sends nothing while it passes over the chunks of others.
_SILENCE_OF_FILTER_S: Final = 10.0
_PATIENCE_S: Final = 1.0
_LOOK_S: Final = 0.1


class StreamPast(Past):
    """The past in one stream."""

    def __init__(self, readings: Readings, stream: str) -> None:
        """Prepare; nothing is sent before somebody asks.

        Args:
            readings: Where to read.
            stream: Name of the stream.
        """
        self._stream = stream
        self._batches: Batches[_StreamReplay] = Batches(readings, self._read, _fail)

    async def close(self) -> None:
        """End all readings."""
        await self._batches.close()

    @override
    async def ask(self, missed: Missed) -> Replay:
        replay = _StreamReplay(missed, self._batches)
        self._batches.ask(replay)
        try:
            await replay.begun
        except BaseException:
            replay.close()
            raise
        return replay

    async def _read(self, replays: list["_StreamReplay"], connection: GuardedConnection) -> None:
        reading = _Reading(replays, self._batches)
        begins = [it.missed.since for it in replays]
        since = None if None in begins else min(filter(None, begins))
        log = await LogReading.open(connection, self._stream, since, reading.chat_id)
        try:
            for replay in replays:
                replay.begin()
            await reading.run(log)
        finally:
            await log.close()


def _fail(replays: list["_StreamReplay"], error: ClientError) -> None:
    for replay in replays:
        replay.over(error)


class _StreamReplay(Replay):
    """What one follower gets of a reading.

    Attributes:
        missed: What it asked for.
        wanted: Which events.
        begun: Done once the stream is being read.
        buffer: What it has not taken yet.
        reading: The reading; None before it begins.
    """

    def __init__(self, missed: Missed, batches: "Batches[_StreamReplay]") -> None:
        self.missed = missed
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when it fails.
        self.begun.add_done_callback(lambda it: it.cancelled() or it.exception())
        self.buffer = Buffer()
        self.is_whole = False
        self.reading: _Reading | None = None
        self._batches = batches
        self._error: ClientError | None = None

    @property
    def wanted(self) -> Wanted:
        return self.missed.wanted

    def put(self, delivery: Delivery) -> None:
        self.buffer.put(delivery)
        if self.buffer.is_full and self.reading is not None:
            self.reading.full.append(self)

    def miss(self) -> None:
        self.buffer.miss()

    def begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def over(self, error: ClientError | None) -> None:
        """Show nothing more: the reading is done, or failed."""
        self.is_whole = error is None and not self.buffer.is_missing
        self._error = error
        if error is not None and not self.begun.done():
            self.begun.set_exception(error)
        self.buffer.miss()

    @override
    async def events(self) -> AsyncGenerator[Event, None]:
        while (delivery := await self.buffer.next()) is not None:
            event = self.wanted.event(delivery)
            if event is None:
                continue
            yield event
            live = self._next_live()
            if live is not None and self.missed.knows(live):
                self.is_whole = True
                return
        if self._error is not None:
            raise self._error

    @override
    def close(self) -> None:
        self._batches.withdraw(self)
        if self.reading is not None:
            self.reading.leave(self)

    def _next_live(self) -> Event | None:
        """Return the next live event without taking it; None if there is none yet."""
        live = self.missed.live
        while (first := live.first()) is not None:
            event = self.wanted.event(first)
            if event is not None:
                return event
            live.take()
        return None


class _Reading:
    """One reading of the stream, for some followers.

    Attributes:
        full: Followers that must take something before the reading goes on.
    """

    def __init__(self, replays: Sequence[_StreamReplay], batches: Batches[_StreamReplay]) -> None:
        self.full: list[_StreamReplay] = []
        self._replays = dict.fromkeys(replays)
        self._batches = batches
        self._task = asyncio.current_task()
        self._dispatch = Dispatch()
        self._patience_s = _PATIENCE_S
        for replay in replays:
            replay.reading = self
            self._dispatch.add(replay)

    @property
    def chat_id(self) -> str | None:
        """The only chat that is asked for; None for several."""
        chats = {replay.wanted.chat_id for replay in self._replays}
        return chats.pop() if len(chats) == 1 else None

    async def run(self, log: LogReading) -> None:
        """Read up to what is written a second from now."""
        silence_s = _SILENCE_S if self.chat_id is None else _SILENCE_OF_FILTER_S
        try:
            async with asyncio.timeout(silence_s):
                await log.begin()
        except TimeoutError:
            self._over()
            return
        end = asyncio.create_task(log.end())
        try:
            while (message := await _next(log, silence_s)) is not None:
                if end.done() and offset_of(message) >= end.result():
                    break
                await log.acknowledge(message)
                self._dispatch.route(Delivery.of_aiormq(message))
                while self.full:
                    await self._until_taken(self.full.pop())
        finally:
            end.cancel()
            await asyncio.wait((end,))
            if not end.cancelled():
                # asyncio logs an exception that nobody has retrieved.
                end.exception()
        self._over()

    def leave(self, replay: _StreamReplay) -> None:
        """Show somebody nothing more, and end the reading with the last."""
        if replay in self._replays:
            del self._replays[replay]
            self._dispatch.remove(replay)
            if not self._replays and self._task is not None:
                self._task.cancel()

    def _over(self) -> None:
        """Tell all that nothing more comes."""
        self._task = None
        for replay in list(self._replays):
            replay.over(None)

    async def _until_taken(self, replay: _StreamReplay) -> None:
        """Wait for a follower; leave it out if others wait longer than they should."""
        loop = asyncio.get_running_loop()
        while replay in self._replays and replay.buffer.is_full:
            others = len(self._replays) > 1 or self._batches.is_crowded
            if others and self._patience_s <= 0:
                replay.miss()
                self.leave(replay)
                return
            began = loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await replay.buffer.taken()
            if others:
                self._patience_s -= loop.time() - began


async def _next(log: LogReading, silence_s: float) -> DeliveredMessage | None:
    """Return the next message; None where the stream is silent."""
    try:
        async with asyncio.timeout(silence_s):
            return await log.next()
    except TimeoutError:
        return None
