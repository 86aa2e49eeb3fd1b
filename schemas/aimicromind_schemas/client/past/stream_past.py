"""The past in a stream, such as the event log: one reading serves many followers.

Invariants:

- A reading begins before the first event that one of its followers asked for, and shows each
  follower what it asked for.
- It is over for a follower whose next live event is known from the stream. It is over for all at
  what the stream had a second after the reading began.
- A follower that does not take its events holds up the others for `_PATIENCE_S` in all. It is then
  left out, and has to ask again.
- A follower without a chat reads all partitions of the event log, at the same time. The events of a
  chat are in one of them, thus in order.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from typing_extensions import override

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.live.buffer import Buffer
from aimicromind_schemas.client.live.dispatch import Dispatch
from aimicromind_schemas.client.past.batches import Batches, Readings
from aimicromind_schemas.client.past.log_place import LogPlace, earliest
from aimicromind_schemas.client.past.log_reading import LogReading
from aimicromind_schemas.client.past.sources import Missed, Past, Replay
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event

_PATIENCE_S: Final = 1.0
_LOOK_S: Final = 0.1

Find = Callable[[GuardedConnection, Missed], Awaitable[LogPlace]]
"""Returns where to read what a follower asks for, or raises NoSuchQueue or BrokerGone."""


class StreamPast(Past):
    """The past in one stream, or in the partitions of a log."""

    def __init__(self, readings: Readings, find: Find) -> None:
        """Prepare; nothing is sent before somebody asks.

        Args:
            readings: Where to read.
            find: Returns where to read.
        """
        self._readings = readings
        self._find = find
        self._finding = asyncio.Lock()
        self._batches: dict[str, Batches[_StreamReplay]] = {}

    async def close(self) -> None:
        """End all readings."""
        for batches in self._batches.values():
            await batches.close()

    @override
    async def ask(self, missed: Missed) -> Replay:
        connection = await self._readings.connection()
        # The first one finds out for all how many partitions there are.
        async with self._finding:
            place = await self._find(connection, missed)
        replay = _StreamReplay(missed, place, [self._of(it) for it in place.streams])
        try:
            await replay.begun
        except BaseException:
            replay.close()
            raise
        return replay

    def _of(self, stream: str) -> "Batches[_StreamReplay]":
        if stream not in self._batches:
            read, fail = partial(self._read, stream), partial(_fail, stream)
            self._batches[stream] = Batches(self._readings, read, fail)
        return self._batches[stream]

    async def _read(
        self, stream: str, replays: list["_StreamReplay"], connection: GuardedConnection
    ) -> None:
        reading = _Reading(stream, replays, self._of(stream))
        place = earliest(stream, [it.place for it in replays])
        log = await LogReading.open(connection, place, *(it.wanted for it in replays))
        for replay in replays:
            replay.begin(stream)
        await reading.run(log)


def _fail(stream: str, replays: list["_StreamReplay"], error: ClientError) -> None:
    for replay in replays:
        replay.over(stream, error)


class _StreamReplay(Replay):
    """What one follower gets of some readings.

    Attributes:
        missed: What it asked for.
        place: Where that is.
        begun: Done once all streams are being read.
        buffer: What it has not taken yet.
        readings: The readings that have begun.
    """

    def __init__(
        self, missed: Missed, place: LogPlace, batches: Sequence["Batches[_StreamReplay]"]
    ) -> None:
        self.missed = missed
        self.place = place
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when it fails.
        self.begun.add_done_callback(lambda it: it.cancelled() or it.exception())
        self.buffer = Buffer()
        self.is_whole = False
        self.readings: list[_Reading] = []
        self._waiting = set(place.streams)
        self._left = set(place.streams)
        self._batches = batches
        self._error: ClientError | None = None
        for each in batches:
            each.ask(self)

    @property
    def wanted(self) -> Wanted:
        return self.missed.wanted

    @property
    @override
    def progress(self) -> float:
        begun = (it.log.progress for it in self.readings if it.log is not None)
        return sum(begun) / len(self.place.streams)

    def put(self, delivery: Delivery) -> None:
        self.buffer.put(delivery)
        if self.buffer.is_full:
            for reading in self.readings:
                reading.full.append(self)

    def miss(self) -> None:
        self.buffer.miss()

    def begin(self, stream: str) -> None:
        self._waiting.discard(stream)
        if not self._waiting and not self.begun.done():
            self.begun.set_result(None)

    def over(self, stream: str, error: ClientError | None) -> None:
        """Show nothing more of a stream: its reading is done, or failed."""
        self._left.discard(stream)
        self._error = self._error or error
        if error is not None and not self.begun.done():
            self.begun.set_exception(error)
        if error is not None or not self._left:
            self.is_whole = self._error is None and not self.buffer.is_missing
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
        for batches in self._batches:
            batches.withdraw(self)
        for reading in self.readings:
            reading.leave(self)

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
    """One reading of a stream, for some followers.

    Attributes:
        full: Followers that must take something before the reading goes on.
        log: What is read; None before `run`.
    """

    def __init__(
        self, stream: str, replays: Sequence[_StreamReplay], batches: Batches[_StreamReplay]
    ) -> None:
        self.full: list[_StreamReplay] = []
        self._stream = stream
        self._replays = dict.fromkeys(replays)
        self._batches = batches
        self._task = asyncio.current_task()
        self._dispatch = Dispatch()
        self.log: LogReading | None = None
        self._patience_s = _PATIENCE_S
        for replay in replays:
            replay.readings.append(self)
            self._dispatch.add(replay)

    async def run(self, log: LogReading) -> None:
        """Read up to what is written a second from now."""
        self.log = log
        async with aclosing(log.deliveries()) as deliveries:
            async for delivery in deliveries:
                self._dispatch.route(delivery)
                while self.full:
                    await self._until_taken(self.full.pop())
        self._task = None
        for replay in list(self._replays):
            replay.over(self._stream, None)

    def leave(self, replay: _StreamReplay) -> None:
        """Show somebody nothing more, and end the reading with the last."""
        if replay in self._replays:
            del self._replays[replay]
            self._dispatch.remove(replay)
            if not self._replays and self._task is not None:
                self._task.cancel()

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
