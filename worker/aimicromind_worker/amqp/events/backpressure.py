"""Count the messages that are not settled, and make attempts wait while there are too many.

A message is settled once it needs no more sending: it was confirmed, passed over or dropped.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from aimicromind_worker.amqp.events.frames import EventFrames

# A full window opens again when this part of it is left: streams would take turns otherwise.
_REOPENS_AT = 0.75


@dataclass(frozen=True, slots=True)
class Window:
    """What may be in flight, over all jobs.

    Attributes:
        messages: Most messages, those that are held behind a nacked one included.
        size_bytes: Most bytes; a message larger than this goes alone.
        confirm_timeout: Longest wait for the confirms of one job's events, not counted while
            the broker has an alarm.
        answer_timeout: Longest wait for the answer to one message, before another connection is
            opened. See `AnswerWatch`.
        resend_for: How long nacked events are sent again, from the first of them; what follows
            one in its chat comes later by so much at most.
    """

    messages: int = 2048
    size_bytes: int = 32 * 1024 * 1024
    confirm_timeout: timedelta = timedelta(minutes=5)
    answer_timeout: timedelta = timedelta(seconds=15)
    resend_for: timedelta = timedelta(seconds=2)


class EventTooLarge(Exception):
    """The broker takes no message as large as an event of the job."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the broker takes no message of more than {most_bytes} bytes")


class AttemptMessages:
    """Counts the messages of one attempt that are not settled.

    Attributes:
        frames: Writes them.
        fault: Why no more of them is sent: the attempt would have a gap.
        unsettled: How many there are. The attempt's publisher adds to it.
    """

    def __init__(self, frames: EventFrames) -> None:
        self.frames = frames
        self.fault: Exception | None = None
        self.unsettled = 0
        # Made by whoever waits: an event takes 760 bytes.
        self._idle: asyncio.Event | None = None

    def on_settled(self) -> None:
        """Count one message less."""
        self.unsettled -= 1
        if not self.unsettled and self._idle is not None:
            self._idle.set()

    async def settled(self) -> None:
        """Wait until all are settled; the caller sets a deadline."""
        while self.unsettled:
            self._idle = self._idle or asyncio.Event()
            self._idle.clear()
            await self._idle.wait()


class Backpressure:
    """Counts the unsettled messages of all attempts. Use it from the event loop only.

    Attempts wait while the window is full, and go on one after the other: to wake all at once
    would cost a turn of the loop for each, and the first may fill the window again.

    Attributes:
        is_full: Whether nothing more should be published now.
        messages: How many messages are not settled.
    """

    def __init__(self, window: Window) -> None:
        self.is_full = False
        self.messages = 0
        self._size_bytes = 0
        self._most_messages, self._most_bytes = window.messages, window.size_bytes
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def add(self, size_bytes: int) -> None:
        """Count one message more."""
        self.messages += 1
        self._size_bytes += size_bytes
        if self.messages >= self._most_messages or self._size_bytes >= self._most_bytes:
            self.is_full = True

    def remove(self, size_bytes: int) -> None:
        """Count one message less; it may release who waits, first come, first served."""
        self.messages -= 1
        self._size_bytes -= size_bytes
        if (
            self.is_full
            and self.messages <= self._most_messages * _REOPENS_AT
            and self._size_bytes <= self._most_bytes * _REOPENS_AT
        ):
            self.is_full = False
            self._wake_next()

    def resize(self, by_bytes: int) -> None:
        """Count a message by so many bytes more or less."""
        self._size_bytes += by_bytes

    async def wait(self) -> None:
        """Wait until the window is not full."""
        while self.is_full:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                # The next one follows once this one, if it goes on, has published what it had.
                self._loop.call_soon(self._wake_next)

    def _wake_next(self) -> None:
        while self._waiting and not self.is_full:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
