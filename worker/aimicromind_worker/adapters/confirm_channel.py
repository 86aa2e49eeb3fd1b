"""A publishing channel whose confirms are pipelined: no task, future or drain per message.

It rests on inner parts of aiormq (hence the upper bound in pyproject.toml): this is the only
file that knows them, and `check_parts` says at start when they are not as expected.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Generic, TypeVar

from aiormq.abc import ChannelFrame, ConfirmationFrameType
from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from typing_extensions import override

Item = TypeVar("Item")

# The only channel that publishes events, and the first of its connection.
CHANNEL_NUMBER = 1
_QUEUE_FULL_PAUSE_S = 0.001


class PartsChanged(RuntimeError):
    """The installed aiormq has other inner parts than this file was written for."""

    def __init__(self, part: str) -> None:
        super().__init__(
            f"aiormq {version('aiormq')} has no {part} as expected: install aiormq 7.2"
        )


class ConfirmChannel(Channel, Generic[Item]):
    """Sends ready frames and reports the broker's answer to each, by the item sent with it.

    Call `send` from the event loop's thread only. `on_confirm(item)` and
    `on_refuse(item)` are called once for each item, unless the channel closes first.
    """

    def __init__(
        self,
        connection: Connection,
        on_confirm: Callable[[Item], None],
        on_refuse: Callable[[Item], None],
        on_return: Callable[[str], None],
    ) -> None:
        super().__init__(connection, CHANNEL_NUMBER, frame_buffer=connection.FRAME_BUFFER_SIZE)
        self._on_confirm = on_confirm
        self._on_refuse = on_refuse
        self._on_return = on_return
        self._unconfirmed: dict[int, Item] = {}
        self._oldest_tag = 1
        self._last_tag = 0
        self._batch: list[bytes] = []
        self._flush_is_due = False

    @classmethod
    async def open_on(
        cls,
        connection: Connection,
        on_confirm: Callable[[Item], None],
        on_refuse: Callable[[Item], None],
        on_return: Callable[[str], None],
        timeout_s: float,
    ) -> "ConfirmChannel[Item]":
        """Open the channel, in confirm mode, as the first of its connection."""
        check_parts()
        channel = cls(connection, on_confirm, on_refuse, on_return)
        connection.channels[CHANNEL_NUMBER] = channel
        await channel.open(timeout=timeout_s)
        return channel

    def send(self, frames: bytes, item: Item) -> None:
        """Send one message's frames with the next turn of the event loop."""
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = item
        self._batch.append(frames)
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self.is_closed:
            return
        if self.write_queue.full():
            self.loop.call_later(_QUEUE_FULL_PAUSE_S, self._flush)
            return
        self._flush_is_due = False
        self.write_queue.put_nowait(ChannelFrame(b"".join(self._batch), should_close=False))
        self._batch.clear()

    @override
    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        settle = self._on_confirm if isinstance(frame, commands.Basic.Ack) else self._on_refuse
        last = frame.delivery_tag or self._last_tag
        if not getattr(frame, "multiple", False):
            if last in self._unconfirmed:
                settle(self._unconfirmed.pop(last))
            return
        # Tags below the oldest are settled for good; a dict would walk over their graves.
        for tag in range(self._oldest_tag, last + 1):
            if tag in self._unconfirmed:
                settle(self._unconfirmed.pop(tag))
        self._oldest_tag = max(self._oldest_tag, last + 1)

    @override
    async def _on_return_frame(self, frame: commands.Basic.Return) -> None:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise PartsChanged("content header after Basic.Return")
        left = header.body_size or 0
        while left > 0:
            part = await self._get_frame()
            if not isinstance(part, ContentBody):
                raise PartsChanged("content body after Basic.Return")
            left -= len(part.value)
        self._on_return(header.properties.message_id or "")


def check_parts() -> None:
    """Say clearly, before the first message, when aiormq is not as this file expects.

    Raises:
        PartsChanged: Naming the part.
    """
    for name in ("_on_confirm_frame", "_on_return_frame", "_get_frame"):
        if not asyncio.iscoroutinefunction(getattr(Channel, name, None)):
            raise PartsChanged(f"Channel.{name}")
    if list(ChannelFrame.__dataclass_fields__) != ["payload", "should_close", "drain_future"]:
        raise PartsChanged("ChannelFrame(payload, should_close, drain_future)")
