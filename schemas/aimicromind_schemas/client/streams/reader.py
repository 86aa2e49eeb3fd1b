"""Read the messages of a stream, as fast as unwanted ones can be skipped.

AMQP tells neither where a stream ends nor that an offset lies beyond its end: both are silence.
Thus whatever waits for messages has a deadline.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Never

from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.transport.cancelling import uncancelled, unless_cancelled
from aimicromind_schemas.client.transport.opening import close_channel, kept_channel
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamFrames, StreamMessage

_log = logging.getLogger(__name__)

PREFETCH: Final = 1000
"""Messages that the broker sends ahead. Fewer where they can be large: it counts no bytes."""

Take = Callable[[StreamMessage], None]

# aiormq also raises CancelledError, for a connection that closes.
_FAILURES: Final = (AMQPError, ChannelInvalidStateError, RuntimeError, TimeoutError)
_SILENCE_S: Final = 30.0
# What is there begins to come at once.
_FIRST_WITHIN_S: Final = 5.0
# A broker spends up to half a core on sending so many.
_MESSAGES_A_SECOND: Final = 15_000
_PAUSE_S: Final = 0.05
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)


class StreamUnreadable(ClientError, ConnectionError):
    """A stream could not be read."""

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(f"{stream} could not be read: {reason}")


class StreamSilent(StreamUnreadable):
    """The broker answers, and shows nothing of the stream; it may later."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "the broker shows nothing of it")


class NothingThere(StreamUnreadable):
    """Nothing comes from where the reading was to begin: it may be beyond the stream's end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "nothing comes from where it was to begin")


class StreamReader:
    """A consumer of one stream; `reading` opens it."""

    def __init__(self, stream: str, channel: AbstractChannel, frames: StreamFrames) -> None:
        self._stream = stream
        self._frames = frames
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        channel.closing.add_done_callback(lambda _: self._end("the channel closed"))
        channel.on_consumer_cancel_callbacks.add(lambda _: self._end("the broker cancelled it"))

    @property
    def count(self) -> int:
        """Messages that came, wanted or not."""
        return self._frames.count

    @property
    def position(self) -> int:
        """Offset of the message that came last, wanted or not; -1 before the first."""
        return self._frames.position

    @property
    def first(self) -> int:
        """Offset of the message that came first; -1 before that."""
        return self._frames.first

    @property
    def failure(self) -> StreamUnreadable | None:
        """Why no more messages can come; None if they can."""
        return StreamUnreadable(self._stream, self._ended.result()) if self._ended.done() else None

    def hold(self) -> None:
        """Acknowledge nothing until `go_on`: at most `PREFETCH` more messages come."""
        self._frames.held = True

    def go_on(self) -> None:
        """Acknowledge what came, and what comes."""
        self._frames.held = False
        self._frames.acknowledge()

    async def pace(self) -> Never:
        """Limit the reading: it goes on no faster than a broker can bear beside its other work.

        What came is acknowledged meanwhile, also on a quiet stream: a broker closes a channel that
        leaves a message unacknowledged for its `consumer_timeout`.
        """
        while True:
            before = self.count
            await asyncio.sleep(_PAUSE_S)
            too_early_s = (self.count - before) / _MESSAGES_A_SECOND - _PAUSE_S
            if too_early_s > 0:
                self.hold()
                await asyncio.sleep(too_early_s)
            self.go_on()

    async def lost(self) -> Never:
        """Wait until no more messages can come.

        Raises:
            StreamUnreadable: They cannot.
        """
        raise StreamUnreadable(self._stream, await asyncio.shield(self._ended))

    async def until(self, done: asyncio.Event, *, from_first: bool = False) -> None:
        """Wait for what a message is to bring.

        Args:
            done: Set by whoever takes the messages.
            from_first: Whether the reading begins with the first message that is left: then
                silence says nothing of where it begins.

        Raises:
            NothingThere: The first message did not come within 5 s.
            StreamSilent: No message came for 30 s.
            StreamUnreadable: No more can come.
        """
        waiting = asyncio.ensure_future(done.wait())
        try:
            while not done.is_set():
                seen = self.count
                patience_s = _SILENCE_S if seen or from_first else _FIRST_WITHIN_S
                await asyncio.wait(
                    (waiting, self._ended),
                    timeout=patience_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if done.is_set():
                    return
                if self._ended.done():
                    raise StreamUnreadable(self._stream, self._ended.result())
                if self.count == seen:
                    raise (StreamSilent if seen or from_first else NothingThere)(self._stream)
        finally:
            waiting.cancel()

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)


@asynccontextmanager
async def reading(  # noqa: PLR0913 - three have a default
    connection: GuardedConnection,
    stream: str,
    offset: datetime | int | str | None,
    take: Take,
    *,
    wanted: tuple[bytes, ...] = (),
    filter_values: Sequence[str] = (),
    prefetch: int = PREFETCH,
) -> AsyncIterator[StreamReader]:
    """Read a stream during the body.

    Args:
        connection: It must not publish: a broker with an alarm reads nothing from publishers.
        stream: Its name.
        offset: A time (aware; earlier messages may come), an offset, `last`, `next`; None: all.
        take: Gets the messages in order.
        wanted: Bytes, of which a wanted message's properties hold one. Empty: all are wanted.
        filter_values: The wanted `x-stream-filter-value`s, which brokers from 3.13 on look at.
            They leave out whole chunks only. Empty: all are wanted.
        prefetch: Messages that the broker sends ahead.

    Raises:
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    channel = await _opened(connection, stream)
    take, every = _never_raising(take), max(1, prefetch // 2)
    frames = StreamFrames(channel.number, connection.wire.write, take, wanted, every)
    streams = connection.wire.demultiplexer.streams
    streams[channel.number] = frames
    try:
        reader, arguments = StreamReader(stream, channel, frames), _arguments(offset, filter_values)
        with _unreadable(stream):
            async with asyncio.timeout(_SILENCE_S):
                await channel.basic_qos(prefetch_count=prefetch)
                await channel.basic_consume(stream, _unused, arguments=arguments)
        yield reader
    finally:
        await uncancelled(_close(channel, frames, streams))


def _arguments(offset: datetime | int | str | None, filter_values: Sequence[str]) -> dict[str, Any]:
    if offset is None or (isinstance(offset, datetime) and offset < _EARLIEST):
        offset = "first"
    arguments: dict[str, Any] = {"x-stream-offset": offset}
    if filter_values:
        arguments |= {"x-stream-filter": list(filter_values), "x-stream-match-unfiltered": True}
    return arguments


async def _opened(connection: GuardedConnection, stream: str) -> AbstractChannel:
    with _unreadable(stream):
        async with asyncio.timeout(_SILENCE_S):
            return await kept_channel(connection)


async def _close(
    channel: AbstractChannel, frames: StreamFrames, streams: dict[int, StreamFrames]
) -> None:
    """Close a channel; do not wait for a broker that ignores that."""
    frames.stop()
    await close_channel(channel)
    if streams.get(channel.number) is frames:
        del streams[channel.number]


@contextmanager
def _unreadable(stream: str) -> Iterator[None]:
    """Turn what a reading fails by into `StreamUnreadable`."""
    try:
        yield
    except (*_FAILURES, asyncio.CancelledError) as error:
        unless_cancelled()
        raise StreamUnreadable(stream, str(error) or type(error).__name__) from error


def _never_raising(take: Take) -> Take:
    def safely(message: StreamMessage) -> None:
        try:
            take(message)
        except Exception as error:  # noqa: BLE001 - one message must not cost the connection
            # Without its text, which might quote the message.
            _log.warning("skipped a message of a stream: %s", type(error).__name__)

    return safely


async def _unused(_: object) -> None:
    """Deliveries never reach aiormq."""
