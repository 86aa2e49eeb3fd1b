"""Publish ready frames on a channel, and match the broker's confirms to the messages.

No task, future or drain is made for a message. Invariants:

1. The broker counts what is published on a channel from 1 (RabbitMQ: publisher confirms). Nothing
   else is published on this one. Thus the tag of a message is its number in the calls of `send`.
2. Frames are written in the order of the calls, whole, and nothing is written while the sender,
   the broker's alarm or the socket forbids it.
3. The sender gets one answer for each message: a confirm or a nack. If the channel closes before,
   `take_back` returns the message instead. A return is reported before its confirm.

It rests on inner parts of aiormq 7 (hence the upper bound in pyproject.toml). No other file knows
them, and `check_parts` names the one that is not as expected.
"""

import asyncio
import struct
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
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
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage
from aimicromind_worker.amqp.waiting import Waiting

# The same on every connection, so that frames can be sent again on another one.
CHANNEL_NUMBER = 1
_UNBLOCKED = "_Connection__connection_unblocked"
# Frames that come so soon after a write wait for others, and are written together: the broker reads
# one write at once, and mostly confirms it at once. While so few are in flight, none waits.
_GATHERED_FOR_S = 0.002
_FEW = 16
_ACK, _NACK, _RETURN = map(
    method_number, (commands.Basic.Ack, commands.Basic.Nack, commands.Basic.Return)
)
# Behind a frame's start, class and method: a delivery tag, and flags of which one is `multiple`.
_answer = struct.Struct(">11xQB").unpack_from
_MULTIPLE = 1
# Between attempts to write while that is forbidden; it doubles from the first to the second.
_SHORT_PAUSE_S, _LONG_PAUSE_S = 0.001, 0.032


class PartsChanged(RuntimeError):
    """The installed aiormq has other inner parts than this module was written for."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"aiormq {version('aiormq')} has no {part} as expected: install aiormq 7.2"
        )


class Sender(Protocol):
    """The publisher whose messages a channel sends."""

    def may_write(self) -> bool:
        """Return whether anything may be written now."""

    def on_acks(self, messages: Sequence[PendingMessage]) -> None:
        """Take the confirms of messages, in the order in which they were sent."""

    def on_nack(self, message: PendingMessage) -> None:
        """Take a nack."""

    def on_return(self, message_id: str) -> None:
        """Take the return of the message with this id; its confirm follows."""


class ConfirmChannel(Channel):
    """Sends the frames of messages, and reports the broker's answer to each message.

    Use it from the event loop only.
    """

    def __init__(self, connection: Connection, wire: SocketTransport, sender: Sender) -> None:
        super().__init__(connection, CHANNEL_NUMBER, frame_buffer=connection.FRAME_BUFFER_SIZE)
        self._wire = wire
        self._sender = sender
        self._unblocked: asyncio.Event = getattr(connection, _UNBLOCKED)
        self._unconfirmed: dict[int, PendingMessage] = {}
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
        """How many messages the broker has not answered for."""
        return len(self._unconfirmed)

    @property
    def oldest(self) -> list[Waiting]:
        """The message that has waited longest for its answer, if any is sent again without one."""
        waiting = ((tag, it) for tag, it in self._unconfirmed.items() if it.buffer.sends_again)
        return [
            Waiting(message, overtaken=self._last_tag - tag >= len(self._unconfirmed))
            for tag, message in islice(waiting, 1)
        ]

    def send(self, frames: bytes, message: PendingMessage) -> None:
        """Send one message's frames soon, or once nothing forbids it."""
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

    def take_back(self) -> list[PendingMessage]:
        """Return what was sent and is not answered, in order, and forget it."""
        messages = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._batch.clear()
        return messages

    def _flush(self) -> None:
        if self.is_closed or not self._batch:
            return
        # aiormq may write between two batches, since it writes whole frames, too.
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
        """Take a confirm, a nack or a return; False for other frames. For the demultiplexer."""
        if frame[0] != FRAME_METHOD:
            # Nothing is consumed on this channel: header and body belong to a returned message.
            if frame[0] == FRAME_HEADER:
                self._take_returned(frame)
            return True
        method = method_of(frame)
        if method in {_ACK, _NACK}:
            answered = self._answered(*_answer(frame))
            if method == _ACK:
                self._sender.on_acks(answered)
            else:
                for message in answered:
                    self._sender.on_nack(message)
            return True
        return method == _RETURN

    def _answered(self, tag: int, flags: int) -> list[PendingMessage]:
        """Return the messages that an answer is for, unless they were answered before."""
        first = last = tag
        if flags & _MULTIPLE:
            # All tags below the oldest are answered, and not looked for again.
            first, last = self._oldest_tag, tag or self._last_tag
            self._oldest_tag = max(first, last + 1)
        take = self._unconfirmed.pop
        return [it for at in range(first, last + 1) if (it := take(at, None)) is not None]

    def _take_returned(self, frame: bytes) -> None:
        header = unmarshal(frame)[2]
        if isinstance(header, ContentHeader):
            self._sender.on_return(header.properties.message_id or "")


def check_parts(connection: Connection) -> None:
    """Check, before the first message, that aiormq is as this module expects.

    Raises:
        PartsChanged: Naming the part.
    """
    if not isinstance(getattr(connection, _UNBLOCKED, None), asyncio.Event):
        raise PartsChanged(f"Connection.{_UNBLOCKED}")
