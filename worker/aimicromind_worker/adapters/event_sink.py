"""Events → RabbitMQ, in order, each confirmed by the broker; a bounded window is on its way.

What a refusal means for a job is decided in `relay`; here a refused event is sent again for
a bounded time, then counted and passed over, so that one bad queue holds up nobody.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

import structlog

from aimicromind_schemas import Names
from aimicromind_worker.adapters.confirm_channel import CHANNEL_NUMBER, ConfirmChannel
from aimicromind_worker.adapters.event_frames import EventFrames
from aimicromind_worker.adapters.event_lane import EventLane, EventTooLarge, Sent, Window
from aimicromind_worker.core.exchange import Address

log = structlog.get_logger()

_RESEND_EVERY_S = 0.25
# A full window opens again when this part of it is left, so that streams do not take turns.
_REOPENS_AT = 0.75


class FramesTooLarge(ConnectionError):
    """Frames that were written for one broker are too large for the one that answers now."""

    def __init__(self, frame_max: int, now: int) -> None:
        super().__init__(
            f"the broker takes frames of {now} bytes, and those of the running jobs were "
            f"written for one that takes {frame_max}"
        )


class EventSink:
    """Publishes the events of all jobs over one channel. Use it from the event loop only.

    A channel that closes is followed by another one, on which `resume` sends again what was not
    confirmed: in order, as it was, before anything new.

    Attributes:
        may_write: Asked before anything is written.
        passed_over: Events that the broker went on refusing; the refusing queue has a gap.
    """

    def __init__(
        self, names: Names, window: Window, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        """Prepare; nothing can be published before the first `resume`."""
        self.names = names
        self.window = window
        self.may_write = may_write
        self.passed_over = 0
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._refused: deque[Sent] = deque()
        self._ends: dict[str, Sent] = {}
        self._channel: ConfirmChannel[Sent] | None = None
        self._frame_max = 0
        self._most_bytes = sys.maxsize

    def limit_size(self, most_bytes: int) -> None:
        """Send no event, not even again, whose body is larger: the broker closes the channel."""
        self._most_bytes = most_bytes

    def resume(self, channel: ConfirmChannel[Sent]) -> int:
        """Go on with a channel on which nothing was sent yet.

        Returns:
            How many events were sent again.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
        """
        again = []
        if self._channel is None:
            self._frame_max = channel.frame_max
        elif channel.frame_max < self._frame_max:
            raise FramesTooLarge(self._frame_max, channel.frame_max)
        else:
            again = self._channel.take_back()
        self._channel = channel
        for sent in again:
            sent.returned = False
            self._landed(sent)
            self.send(sent)
        return len(again)

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no events."""
        return self._channel is not None and self._channel.blocked

    def lane(self, address: Address) -> EventLane:
        """Open a lane for the events of one attempt."""
        frames = EventFrames(address, self.names.events, CHANNEL_NUMBER, self._frame_max)
        return EventLane(self, frames, address.reply_to)

    @property
    def full(self) -> bool:
        """Whether nothing more should be published now."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until the window has emptied far enough; first come, first served."""
        while not self._room.is_set():
            await self._room.wait()

    def send(self, sent: Sent) -> None:
        """Send one message. For the lanes."""
        lane = sent.lane
        if lane.fault is None and len(sent.event.body) > self._most_bytes:
            log.error("event.too_large", event_name=sent.event.name, seq=sent.event.seq)
            lane.fault = EventTooLarge(self._most_bytes)
        if lane.fault is not None:
            self._ends.pop(sent.event.message_id.decode(), None)
            lane.settled()
            return
        self._in_flight += 1
        self._in_flight_bytes += len(sent.frames)
        window = self.window
        if self._in_flight >= window.messages or self._in_flight_bytes >= window.size_bytes:
            self._room.clear()
        if sent.is_end:
            self._ends[sent.event.message_id.decode()] = sent
        if self._channel is None:
            raise RuntimeError("an event was published before `resume`")
        self._channel.send(sent.frames, sent)

    def _landed(self, sent: Sent) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= len(sent.frames)
        if (
            not self._room.is_set()
            and self._in_flight <= self.window.messages * _REOPENS_AT
            and self._in_flight_bytes <= self.window.size_bytes * _REOPENS_AT
        ):
            self._room.set()

    def confirmed(self, sent: Sent) -> None:
        """Take a confirm. For the channel."""
        if sent.returned:
            self.refused(sent)
            return
        self._landed(sent)
        if sent.is_end:
            self._ends.pop(sent.event.message_id.decode(), None)
        sent.lane.settled()

    def returned(self, message_id: str) -> None:
        """Note that no queue took an `end`; its confirm, which follows, counts as a refusal."""
        if message_id in self._ends:
            self._ends[message_id].returned = True

    def refused(self, sent: Sent) -> None:
        """Take a refusal. For the channel."""
        self._landed(sent)
        sent.returned = False
        now = self._loop.time()
        if sent.passes_over_at is None:
            sent.passes_over_at = now + self.window.resend_for.total_seconds()
            sent.lane.refused += 1
        elif now >= sent.passes_over_at and not self._pass_over(sent):
            return
        if not self._refused:
            self._loop.call_later(_RESEND_EVERY_S, self._resend)
        self._refused.append(sent)

    def _pass_over(self, sent: Sent) -> bool:
        """Give up on a refused event; an `end` goes straight to the journal instead.

        Returns:
            Whether there is something left to send.
        """
        if not sent.to_journal:
            self.passed_over += 1
            log.warning("event.passed_over", event_name=sent.event.name, seq=sent.event.seq)
        if not sent.is_end:
            sent.lane.settled()
            return False
        sent.to_journal = True
        sent.frames = sent.lane.frames_to_queue(self.names.journal, sent.event)
        return True

    def _resend(self) -> None:
        again, self._refused = self._refused, deque()
        for sent in again:
            self.send(sent)
