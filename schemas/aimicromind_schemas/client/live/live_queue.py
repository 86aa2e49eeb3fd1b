"""The exclusive queue of a client process, and what it delivers.

aiormq and pamqp spend 145 µs of CPU on a message. Here messages are read from the bytes of the
channel.

Invariants:

- A delivery that was given to its takers is acknowledged within a second. A process that is stuck
  receives at most `_PREFETCH` more; the broker keeps `_MOST_BYTES` of the others.
- The broker drops the oldest messages beyond that, and tells nobody. Thus a busy queue is looked at
  each second, and all takers are told that they miss messages before it is full.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aiormq.abc import AbstractChannel

from aimicromind_schemas.client.connection import TIMEOUT_S, broker_errors
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.live.bindings import Bindings
from aimicromind_schemas.client.transport.opening import close_channel, open_channel
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamFrames, StreamMessage

_PREFETCH: Final = 400
_ACKNOWLEDGED_WITHIN_S: Final = 1.0
_MOST_BYTES: Final = 256 * 1024 * 1024
# How often a full queue is looked at before it is half empty.
_LOOKS_WHILE_FULL: Final = 8


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a queue calls; none may raise.

    Attributes:
        take: Gets each message, in order.
        lost: Called once no more messages come.
        behind: Called while so many messages wait on the broker that it may soon drop some.
    """

    take: Callable[[StreamMessage], object]
    lost: Callable[["LiveQueue"], None]
    behind: Callable[[], None]


class LiveQueue:
    """One queue; `open` declares it. It ends with its channel.

    Attributes:
        is_over: Whether no more messages come.
        name: Its name, which the broker made.
        bindings: Its bindings.
    """

    def __init__(self, channel: AbstractChannel, bindings: Bindings, handlers: Handlers) -> None:
        self._channel = channel
        self.bindings = bindings
        self._handlers = handlers
        self.name = ""
        self._frames: StreamFrames | None = None
        self._came = 0
        self._came_bytes = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        self._looking: asyncio.Future[None] | None = None
        self.is_over = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, connection: GuardedConnection, exchange: str, handlers: Handlers) -> Self:
        """Declare the queue, without bindings, and consume it.

        Args:
            connection: A channel is opened on it.
            exchange: Exchange of events.
            handlers: What to call.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await open_channel(connection)
                queue = cls(channel, Bindings(connection, exchange), handlers)
                try:
                    await queue._consume(connection)
                except BaseException:
                    queue._over()
                    raise
        return queue

    async def _consume(self, connection: GuardedConnection) -> None:
        channel = self._channel
        write = connection.wire.write
        frames = StreamFrames(channel.number, write, self._take, (), _PREFETCH // 2)
        self._frames = frames
        streams = connection.wire.demultiplexer.streams
        streams[channel.number] = frames
        channel.closing.add_done_callback(
            lambda _: streams.get(channel.number) is frames and streams.pop(channel.number)
        )
        # drop-head: a queue that nacks would delay the events of all other queues.
        arguments: dict[str, Any] = {"x-max-length-bytes": _MOST_BYTES, "x-overflow": "drop-head"}
        declared = await channel.queue_declare(
            "", exclusive=True, auto_delete=True, arguments=arguments
        )
        self.name = declared.queue or ""
        channel.closing.add_done_callback(self._over)
        # The queue was deleted, or its node is down.
        channel.on_consumer_cancel_callbacks.add(self._over)
        await channel.basic_qos(prefetch_count=_PREFETCH)
        await channel.basic_consume(self.name, _unused)
        await self.bindings.open(self.name, self._over)

    def _take(self, message: StreamMessage) -> None:
        self._handlers.take(message)
        self._came += 1
        self._came_bytes += len(message.body)
        if self._came_bytes >= _MOST_BYTES // _LOOKS_WHILE_FULL:
            self._look_soon()
        if self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(_ACKNOWLEDGED_WITHIN_S, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledging = None
        if self._frames is not None and not self.is_over:
            self._frames.acknowledge()
        if self._came >= _PREFETCH and not self.is_over:
            self._look_soon()

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look(self._came_bytes / self._came))
        self._came = self._came_bytes = 0

    async def _look(self, mean_bytes: float) -> None:
        """Find out whether so many messages wait that the queue is half full."""
        with suppress(ClientError, TimeoutError), broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                found = await self._channel.queue_declare(self.name, passive=True)
            if (found.message_count or 0) * mean_bytes > _MOST_BYTES / 2:
                self._handlers.behind()

    def _over(self, *_: object) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._frames is not None:
            self._frames.stop()
        self.bindings.over()
        self._handlers.lost(self)
        self._closing = asyncio.ensure_future(close_channel(self._channel))


async def _unused(_: object) -> None:
    """Deliveries never reach aiormq."""
