"""A publishing channel whose confirms are pipelined: no task, future or drain per message.

It rests on inner parts of aiormq (hence the upper bound in pyproject.toml): this is the only
file that knows them, and `check_parts` says at start when they are not as expected.
"""

import asyncio
import struct
from collections.abc import Callable
from importlib.metadata import version
from typing import Protocol

from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp import commands
from pamqp.constants import FRAME_HEADER, FRAME_METHOD
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.demultiplexer import method_of
from aimicromind_schemas.client.transport.message_guard import method_number
from aimicromind_schemas.client.transport.socket_transport import SocketTransport, frame_max
from aimicromind_worker.amqp.events.resend_buffer import Message

# The same on every connection, so that frames can be sent again on another one.
CHANNEL_NUMBER = 1
_UNBLOCKED = "_Connection__connection_unblocked"
# What comes so soon after a write is written together with what else comes until then. The broker
# reads one write at once and mostly confirms it at once. Where so few are in flight, none waits.
_GATHERED_FOR_S = 0.002
_FEW = 16
_ACK, _NACK, _RETURN = map(
    method_number, (commands.Basic.Ack, commands.Basic.Nack, commands.Basic.Return)
)
# Behind a frame's start, class and method: a delivery tag, and flags of which one is `multiple`.
_answer = struct.Struct(">11xQB").unpack_from
_MULTIPLE = 1
# Between tries to write while that cannot be done; it grows from the first to the second.
_SHORT_PAUSE_S, _LONG_PAUSE_S = 0.001, 0.032


class PartsChanged(RuntimeError):
    """The installed aiormq has other inner parts than this file was written for."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"aiormq {version('aiormq')} has no {part} as expected: install aiormq 7.2"
        )


class Sender(Protocol):
    """The publisher whose messages a channel sends."""

    def may_write(self) -> bool:
        """Return whether anything may be written now."""

    def on_ack(self, message: Message) -> None:
        """Record that the broker has confirmed a message."""

    def on_nack(self, message: Message) -> None:
        """Record that the broker has nacked a message."""

    def on_return(self, message_id: str) -> None:
        """Record that no queue took a message; its confirm follows."""


class ConfirmChannel(Channel):
    """Sends ready frames and reports the broker's answer to each, by the item sent with it.

    Call `send` and `take_back` from the event loop's thread only. The sender hears of each
    item once, unless the channel closes first.
    """

    def __init__(self, connection: Connection, wire: SocketTransport, sender: Sender) -> None:
        super().__init__(connection, CHANNEL_NUMBER, frame_buffer=connection.FRAME_BUFFER_SIZE)
        self._wire = wire
        self._sender = sender
        self._unblocked: asyncio.Event = getattr(connection, _UNBLOCKED)
        self._unconfirmed: dict[int, Message] = {}
        self._oldest_tag = 1
        self._last_tag = 0
        self._batch: list[bytes] = []
        self._flush_is_due = False
        self._written_at = 0.0
        self._pause_s = _SHORT_PAUSE_S

    @classmethod
    async def open_on(
        cls, connection: Connection, wire: SocketTransport, sender: Sender
    ) -> "ConfirmChannel":
        """Open the channel, in confirm mode; its number must be free."""
        channel = cls(connection, wire, sender)
        connection.channels[CHANNEL_NUMBER] = wire.demultiplexer.handlers[CHANNEL_NUMBER] = channel
        await channel.open()
        return channel

    @property
    def blocked(self) -> bool:
        """Whether the broker takes nothing from this connection: it has an alarm."""
        return not self._unblocked.is_set() and not self.is_closed

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame."""
        return frame_max(self.connection)

    @property
    def unanswered(self) -> int:
        """How many items the broker has not answered for."""
        return len(self._unconfirmed)

    def send(self, frames: bytes, message: Message) -> None:
        """Send one message's frames soon, or once it may be; all in the order of the calls."""
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = message
        self._batch.append(frames)
        if not self._flush_is_due:
            self._flush_is_due = True
            rest_s = self._written_at + _GATHERED_FOR_S - self.loop.time()
            if rest_s > 0 and len(self._unconfirmed) > _FEW:
                self.loop.call_later(rest_s, self._flush)
            else:
                self.loop.call_soon(self._flush)

    def take_back(self) -> list[Message]:
        """Return what was sent and is not answered, in order; this channel is done with it."""
        items = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._batch.clear()
        return items

    def _flush(self) -> None:
        if self.is_closed or not self._batch:
            return
        # Whole frames: what aiormq writes itself, which are whole frames too, may come between.
        if self._wire.is_free() and self._unblocked.is_set() and self._sender.may_write():
            self._wire.write(b"".join(self._batch))
            self._batch.clear()
            self._flush_is_due = False
            self._written_at = self.loop.time()
            self._pause_s = _SHORT_PAUSE_S
            return
        self.loop.call_later(self._pause_s, self._flush)
        self._pause_s = min(self._pause_s * 2, _LONG_PAUSE_S)

    def take(self, frame: bytes) -> bool:
        """Take what the broker says of messages. For the demultiplexer."""
        if frame[0] != FRAME_METHOD:
            # Nothing is consumed here: it belongs to a message that comes back.
            if frame[0] == FRAME_HEADER:
                self._take_returned(frame)
            return True
        method = method_of(frame)
        if method in {_ACK, _NACK}:
            tag, flags = _answer(frame)
            settle = self._sender.on_ack if method == _ACK else self._sender.on_nack
            if flags & _MULTIPLE:
                self._settle_all(tag or self._last_tag, settle)
            elif tag in self._unconfirmed:
                settle(self._unconfirmed.pop(tag))
            return True
        return method == _RETURN

    def _settle_all(self, last: int, settle: Callable[[Message], None]) -> None:
        # Tags below the oldest are settled for good, and not looked for again.
        for tag in range(self._oldest_tag, last + 1):
            if tag in self._unconfirmed:
                settle(self._unconfirmed.pop(tag))
        self._oldest_tag = max(self._oldest_tag, last + 1)

    def _take_returned(self, frame: bytes) -> None:
        header = unmarshal(frame)[2]
        if isinstance(header, ContentHeader):
            self._sender.on_return(header.properties.message_id or "")


def check_parts(connection: Connection) -> None:
    """Check, before the first message, that aiormq is as this file expects.

    Raises:
        PartsChanged: Naming the part.
    """
    if not isinstance(getattr(connection, _UNBLOCKED, None), asyncio.Event):
        raise PartsChanged(f"Connection.{_UNBLOCKED}")
