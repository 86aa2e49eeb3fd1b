"""Events → RabbitMQ, in order, each confirmed by the broker; a bounded window is on its way.

One queue that refuses holds up the others for a bounded time: `event_track` sends what it
refused again, `refusals` says for how long, then it is counted and passed over.
"""

import asyncio
import sys
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog

from aimicromind_schemas import EVENT_NAMES, Names
from aimicromind_worker.adapters.confirm_channel import CHANNEL_NUMBER, ConfirmChannel
from aimicromind_worker.adapters.event_counts import EventCounts
from aimicromind_worker.adapters.event_frames import EventFrames
from aimicromind_worker.adapters.event_lane import EventLane, EventTooLarge, Window
from aimicromind_worker.adapters.event_track import Sent, Track
from aimicromind_worker.adapters.refusals import Refusals
from aimicromind_worker.adapters.window_room import WindowRoom
from aimicromind_worker.core.exchange import Address

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
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
        counts: What became of the events.
        frame_max: Most bytes of one frame that the broker takes, 0 before the first `resume`.
    """

    def __init__(
        self,
        names: Names,
        window: Window,
        may_write: Callable[[], bool] = lambda: True,
        counts: EventCounts | None = None,
    ) -> None:
        """Prepare; nothing can be published before the first `resume`."""
        self.names = names
        self.window = window
        self.may_write = may_write
        self.counts = counts or EventCounts()
        self._loop = asyncio.get_running_loop()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._room = WindowRoom()
        self._refusals = self._new_refusals("events")
        self._chats: WeakValueDictionary[str, Track] = WeakValueDictionary()
        self._reply_queues: WeakValueDictionary[str, Track] = WeakValueDictionary()
        self._holding: set[Track] = set()
        self._ends_to_try: list[Sent] = []
        self._look_is_due = False
        self._ends: dict[str, Sent] = {}
        self._channel: ConfirmChannel[Sent] | None = None
        self.frame_max = 0
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
            self.frame_max = channel.frame_max
        elif channel.frame_max < self.frame_max:
            raise FramesTooLarge(self.frame_max, channel.frame_max)
        else:
            again = self._channel.take_back()
            self.counts.reconnected += 1
        self._channel = channel
        for sent in again:
            sent.returned = False
            if sent.straight:
                self.write_again(sent)
            else:
                sent.track.resume(sent)
        return len(again)

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no events."""
        return self._channel is not None and self._channel.blocked

    def lane(self, address: Address) -> EventLane:
        """Open a lane for the events of one attempt."""
        frames = EventFrames(address, self.names.events, CHANNEL_NUMBER, self.frame_max)
        # Attempts of a chat share a track: none overtakes the one before.
        chat = self._chats.get(address.chat_id)
        if chat is None:
            chat = self._chats[address.chat_id] = Track(self, self._refusals)
        return EventLane(self, frames, chat, self._copies_to(address.reply_to))

    def _copies_to(self, queue: str | None) -> tuple[str, Track] | None:
        if queue is None:
            return None
        track = self._reply_queues.get(queue)
        if track is None:
            track = self._reply_queues[queue] = Track(self, self._new_refusals("reply_to"))
        return queue, track

    def _new_refusals(self, to: str) -> Refusals:
        return Refusals(to, self.window.resend_for, self.counts, self._loop.time)

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
        """Take in one message. For the lanes."""
        self._unsettled += 1
        self._unsettled_bytes += len(sent.frames)
        name = sent.event.name
        self.counts.published[name if name in EVENT_NAMES else "other"] += 1
        window = self.window
        if self._unsettled >= window.messages or self._unsettled_bytes >= window.size_bytes:
            self._room.fill()
        if sent.is_end:
            self._ends[sent.event.message_id.decode()] = sent
        sent.track.send(sent)

    def write(self, sent: Sent) -> bool:
        """Send a message, unless its lane has a gap already. For the tracks."""
        lane = sent.lane
        if lane.fault is None and len(sent.event.body) > self._most_bytes:
            log.error("event.too_large", event_name=sent.event.name, seq=sent.event.seq)
            lane.fault = EventTooLarge(self._most_bytes)
        if lane.fault is not None:
            self.settle(sent)
            return False
        if self._channel is None:
            raise RuntimeError("an event was published before `resume`")
        self._channel.send(sent.frames, sent)
        return True

    def write_again(self, sent: Sent) -> bool:
        """Send a message once more. For the tracks."""
        self.counts.sent_again += 1
        return self.write(sent)

    def settle(self, sent: Sent) -> None:
        """Be done with a message. For the tracks."""
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
        """Give up on a refused message; an `end` goes straight to its streams. For the tracks."""
        sent.track.refusals.passed_over()
        if sent.is_end:
            self.straight(sent)
        else:
            self.settle(sent)

    def hold(self, track: Track) -> None:
        """Look after a track that holds messages. For the tracks."""
        self._holding.add(track)
        self._look_soon()

    def confirmed(self, sent: Sent) -> None:
        """Take a confirm. For the channel."""
        if sent.returned:
            sent.returned = False
            if sent.straight:
                self._try_straight_again(sent)
            else:
                sent.track.returned(sent)
        elif sent.straight:
            self.settle(sent)
        else:
            sent.track.taken(sent)

    def returned(self, message_id: str) -> None:
        """Note that no queue took an `end`, which its confirm, that follows, does not say."""
        if message_id in self._ends:
            self._ends[message_id].returned = True

    def refused(self, sent: Sent) -> None:
        """Take a refusal. For the channel."""
        self.counts.refused += 1
        if sent.straight:
            self._try_straight_again(sent)
        else:
            sent.track.refused(sent)

    def straight(self, sent: Sent) -> None:
        """Send an `end` to endings and journal alone. For the tracks."""
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
            patience_s = (track.refusals.patience_s for track in self._holding)
            self._loop.call_later(min((_LOOK_EVERY_S, *patience_s)), self._look)

    def _look(self) -> None:
        self._look_is_due = False
        ends, self._ends_to_try = self._ends_to_try, []
        for end in ends:
            self.write_again(end)
        self._holding = {track for track in self._holding if track.look()}
        if self._holding:
            self._look_soon()
