"""Publish the events of all jobs to RabbitMQ: in order, confirmed, with a bounded window in flight.

A queue that nacks delays the others for a bounded time: `resend_buffer` sends the event again,
`nack_period` says for how long. After that the event is counted and passed over. `isolation` finds
the address for which the broker closes the connection; its messages are dropped.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog

from aimicromind_schemas import EVENT_NAMES, Names
from aimicromind_worker.amqp.events.attempt_publisher import (
    AttemptPublisher,
    ClosesConnection,
    Copying,
    EventTooLarge,
    Window,
)
from aimicromind_worker.amqp.events.backpressure import Backpressure
from aimicromind_worker.amqp.events.confirm_channel import CHANNEL_NUMBER, ConfirmChannel
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.outlet import Outlet
from aimicromind_worker.amqp.events.resend_buffer import ResendBuffer, Sent
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.telemetry.event_counts import EventCounts

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
# A full window opens again when this part of it is left, so that streams do not take turns.
_REOPENS_AT = 0.75


class EventPublisher:
    """Publishes the events of all jobs over one channel. Use it from the event loop only.

    A channel that closes is followed by another one, on which `resume` sends again what was not
    confirmed: in order, as it was, before anything new.

    Attributes:
        may_write: Asked before anything is written.
        counts: What became of the events.
        given_up: How many addresses were found to have the broker close the connection.
    """

    def __init__(
        self,
        names: Names,
        window: Window,
        may_write: Callable[[], bool] = lambda: True,
        counts: EventCounts | None = None,
        copies: Callable[[str, EventFrames], Copying] | None = None,
    ) -> None:
        """Prepare; what is published before the first `resume` waits for it.

        Args:
            names: The topology's names.
            window: What may be in flight.
            may_write: See above.
            counts: See above.
            copies: Takes the copies for a reply queue; None where nobody asks for any.
        """
        self.names = names
        self.window = window
        self.may_write = may_write
        self.counts = counts or EventCounts()
        self._loop = asyncio.get_running_loop()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._room = Backpressure()
        self._nack_period = NackPeriod("events", window.resend_for, self.counts, self._loop.time)
        self._copies = copies
        self._buffers: WeakValueDictionary[str, ResendBuffer] = WeakValueDictionary()
        self._outlet = Outlet(self._drop, self._loop.time)
        self.given_up = 0
        self._holding: set[ResendBuffer] = set()
        self._ends_to_try: list[Sent] = []
        self._look_is_due = False
        self._ends: dict[str, Sent] = {}
        self._most_bytes = sys.maxsize

    def limit_size(self, most_bytes: int) -> None:
        """Send no event, not even again, whose body is larger: the broker closes the channel."""
        self._most_bytes = most_bytes

    def resume(self, channel: ConfirmChannel[Sent], *, at_fault: bool = False) -> int:
        """Go on with a channel on which nothing was sent yet.

        Args:
            channel: The channel.
            at_fault: Whether the broker closed the one before because of what was sent on it.
                Then addresses get their messages one after the other, until all are answered.

        Returns:
            How many events are sent again.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
        """
        again, found = self._outlet.replace(channel, at_fault=at_fault)
        if found:
            self._give_up(found)
        for sent in again:
            sent.returned = False
            if sent.straight:
                self.write_again(sent)
            else:
                sent.buffer.resume(sent)
        self._release()
        return len(again)

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame that the broker takes, 0 before the first `resume`."""
        return self._outlet.frame_max

    def expect_frames(self, frame_max: int) -> None:
        """Take no channel whose frames are smaller: such messages were written elsewhere."""
        self._outlet.frame_max = max(self._outlet.frame_max, frame_max)

    @property
    def isolates(self) -> bool:
        """Whether one address after the other gets its messages, to find one that is at fault."""
        return self._outlet.isolates

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no events."""
        return self._outlet.blocked

    def lane(self, address: Address) -> AttemptPublisher:
        """Return what publishes the events of one attempt."""
        frames = EventFrames(address, self.names.events, CHANNEL_NUMBER, self.frame_max)
        copies = None
        if address.reply_to is not None and self._copies is not None:
            copies = self._copies(address.reply_to, frames)
        return AttemptPublisher(
            self, frames, self.buffer(address.chat_id, self._nack_period), copies
        )

    def buffer(self, address: str, nack_period: NackPeriod) -> ResendBuffer:
        """Return the buffer of an address: attempts of a chat share one, so that none overtakes."""
        buffer = self._buffers.get(address)
        if buffer is None:
            buffer = self._buffers[address] = ResendBuffer(self, nack_period)
        return buffer

    @property
    def unsettled(self) -> int:
        """How many messages the broker has not answered for."""
        return self._unsettled

    @property
    def full(self) -> bool:
        """Whether nothing more should be published now."""
        return self._room.is_full

    async def room(self) -> None:
        """Wait until the window has emptied far enough; first come, first served."""
        await self._room.wait()

    def send(self, sent: Sent) -> None:
        """Take in one message. For the attempt publishers."""
        self._unsettled += 1
        self._unsettled_bytes += len(sent.frames)
        name = sent.event.name
        self.counts.published[name if name in EVENT_NAMES else "other"] += 1
        window = self.window
        if self._unsettled >= window.messages or self._unsettled_bytes >= window.size_bytes:
            self._room.fill()
        if sent.is_end:
            self._ends[sent.event.message_id.decode()] = sent
        sent.buffer.send(sent)

    def write(self, sent: Sent) -> bool:
        """Send a message, unless its attempt has a gap already. For the resend buffers."""
        lane = sent.lane
        if lane.fault is None and len(sent.event.body) > self._most_bytes:
            log.error("event.too_large", event_name=sent.event.name, seq=sent.event.seq)
            lane.fault = EventTooLarge(self._most_bytes)
        if lane.fault is not None:
            self.settle(sent)
            return False
        self._outlet.send(sent)
        return True

    def write_again(self, sent: Sent) -> bool:
        """Send a message once more. For the resend buffers."""
        self.counts.sent_again += 1
        return self.write(sent)

    def settle(self, sent: Sent) -> None:
        """Settle a message. For the resend buffers."""
        self._unsettled -= 1
        self._unsettled_bytes -= len(sent.frames)
        if (
            self._room.is_full
            and self._unsettled <= self.window.messages * _REOPENS_AT
            and self._unsettled_bytes <= self.window.size_bytes * _REOPENS_AT
        ):
            self._room.reopen()
        if sent.is_end:
            self._ends.pop(sent.event.message_id.decode(), None)
        sent.lane.settled()

    def pass_over(self, sent: Sent) -> None:
        """Skip a nacked message; send an `end` straight to its streams. For the resend buffers."""
        sent.buffer.nack_period.passed_over()
        if sent.is_end:
            self.straight(sent)
        else:
            self.settle(sent)

    def hold(self, buffer: ResendBuffer) -> None:
        """Look at a buffer that holds messages, until it holds none. For the resend buffers."""
        self._holding.add(buffer)
        self._look_soon()

    def confirmed(self, sent: Sent) -> None:
        """Take a confirm. For the channel."""
        if sent.returned:
            sent.returned = False
            if sent.straight:
                self._try_straight_again(sent)
            else:
                sent.buffer.returned(sent)
        elif sent.straight:
            self.settle(sent)
        else:
            sent.buffer.taken(sent)
        if self._outlet.isolates:
            self._release()

    def returned(self, message_id: str) -> None:
        """Record that no queue took an `end`, which its confirm, that follows, does not say."""
        if message_id in self._ends:
            self._ends[message_id].returned = True

    def refused(self, sent: Sent) -> None:
        """Take a nack. For the channel."""
        self.counts.refused += 1
        if sent.straight:
            self._try_straight_again(sent)
        else:
            sent.buffer.refused(sent)
        if self._outlet.isolates:
            self._release()

    def straight(self, sent: Sent) -> None:
        """Send an `end` to endings and journal alone. For the resend buffers."""
        self.counts.ends_straight += 1
        sent.straight = True
        self._unsettled_bytes -= len(sent.frames)
        sent.frames = sent.lane.frames_straight(self.names.endings, self.names.journal, sent.event)
        self._unsettled_bytes += len(sent.frames)
        self.write(sent)

    def _try_straight_again(self, sent: Sent) -> None:
        self._ends_to_try.append(sent)
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            patience_s = (buffer.nack_period.patience_s for buffer in self._holding)
            self._loop.call_later(min((_LOOK_EVERY_S, *patience_s)), self._look)

    def _look(self) -> None:
        self._look_is_due = False
        ends, self._ends_to_try = self._ends_to_try, []
        for end in ends:
            self.write_again(end)
        self._holding = {buffer for buffer in self._holding if buffer.look()}
        if self._outlet.look() or self._holding:
            self._look_soon()

    def _release(self) -> None:
        self._outlet.release()
        if self._outlet.isolates:
            self._look_soon()

    def _give_up(self, in_flight: Sequence[Sent]) -> None:
        self.given_up += 1
        self.counts.passed_over += len(in_flight)
        jobs = sorted({sent.event.message_id.decode().partition(":")[0] for sent in in_flight})
        log.error("connection.closed_by", to=in_flight[0].buffer.nack_period.to, jobs=jobs)
        for sent in in_flight:
            sent.lane.fault = sent.lane.fault or ClosesConnection()
        for sent in in_flight:
            self._drop(sent)

    def _drop(self, sent: Sent) -> None:
        if sent.straight:
            self.settle(sent)
        else:
            sent.buffer.dropped(sent)
