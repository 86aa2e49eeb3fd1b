"""Send messages on one channel after the other, and find those that have the broker close it.

A broker that closes a connection names no message. What was in flight is then sent again address
by address, each after the one before was answered. Invariants of this isolation:

1. While it is on, one address has messages in flight. Others have some only if the broker did not
   answer for them in time.
2. Messages of an address are sent in the order of their positions.
3. An address is at fault if the broker closes a connection because of a message while isolation
   is on and no other address has one in flight.

The time is an argument, in seconds that never go back.
"""

from collections.abc import Sequence
from operator import attrgetter

from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer

_by_position = attrgetter("position")
# RabbitMQ 3.10 never answers some messages when a stream's leader dies.
_ALONE_AT_MOST_S = 2.0


class FramesTooLarge(ConnectionError):
    """Frames that were written for one broker are too large for the one that answers now."""

    def __init__(self, frame_max: int, now: int) -> None:
        super().__init__(
            f"the broker takes frames of {now} bytes, and those of the running jobs were "
            f"written for one that takes {frame_max}"
        )


class ClosesConnection(Exception):
    """The broker closes the connection whenever an event of the job is published."""

    def __init__(self) -> None:
        super().__init__("the broker closes each connection on which the job's events are sent")


class Isolation:
    """Keeps the messages of all addresses but one. Pure. A resend buffer stands for an address.

    It is on from the beginning until `next` has returned all that was kept.

    Attributes:
        is_on: Whether only one address's messages may be in flight.
    """

    def __init__(self) -> None:
        self.is_on = True
        self._alone: ResendBuffer | None = None
        self._alone_since_s = 0.0
        self._kept: dict[ResendBuffer, list[PendingMessage]] = {}

    def keeps(self, message: PendingMessage) -> bool:
        """Keep a message, unless it may be sent now."""
        if not self.is_on or message.buffer is self._alone:
            return False
        self._kept.setdefault(message.buffer, []).append(message)
        return True

    def on_connection_lost(
        self, unanswered: Sequence[PendingMessage], *, closed_on_us: bool
    ) -> bool:
        """Take the loss of the connection: while isolation is on, all is kept until `next`.

        Args:
            unanswered: What was in flight.
            closed_on_us: Whether the broker closed the connection because of a message.

        Returns:
            Whether the address of these messages is at fault.
        """
        self._alone = None
        if not closed_on_us:
            return False
        found = self.is_on and len({message.buffer for message in unanswered}) == 1
        self.is_on = True
        return found

    def next(self, now_s: float) -> list[PendingMessage]:
        """Return the kept messages of the next address, which may now be in flight.

        Where there are none, isolation is over.
        """
        self._alone_since_s = now_s
        self._alone = next(iter(self._kept), None)
        if self._alone is None:
            self.is_on = False
            return []
        # What was in flight when the connection was lost was kept after what came meanwhile.
        return sorted(self._kept.pop(self._alone), key=_by_position)

    def on_tick(self, now_s: float, *, may_answer: bool) -> bool:
        """Return whether the broker did not answer for the address in time.

        Args:
            now_s: The time.
            may_answer: Whether the connection is open, and without an alarm of the broker.
        """
        if not may_answer:
            self._alone_since_s = now_s
        return self.is_on and now_s - self._alone_since_s > _ALONE_AT_MOST_S


class ChannelSender:
    """Sends messages on the channel that is open now. Before the first channel, it keeps them.

    Attributes:
        frame_max: Most bytes of one frame that the broker takes, 0 before the first channel.
        isolation: Keeps messages.
    """

    def __init__(self) -> None:
        self.frame_max = 0
        self.isolation = Isolation()
        self._channel: ConfirmChannel | None = None

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no messages."""
        return self._channel is not None and self._channel.blocked

    @property
    def is_open(self) -> bool:
        """Whether there is a channel, and it has not closed."""
        return self._channel is not None and not self._channel.is_closed

    def expect_frames(self, frame_max: int) -> None:
        """Take no channel whose frames are smaller: such messages were written elsewhere."""
        self.frame_max = max(self.frame_max, frame_max)

    def send(self, message: PendingMessage) -> None:
        """Send a message, now or when its address has its turn."""
        if self.isolation.is_on and self.isolation.keeps(message):
            return
        if self._channel is not None:
            self._channel.send(message.frames, message)

    def replace(
        self, channel: ConfirmChannel, *, closed_on_us: bool
    ) -> tuple[list[PendingMessage], list[PendingMessage]]:
        """Go on with a channel on which nothing was sent yet.

        Returns:
            What the channel before left unanswered, in order: first what is to be sent again,
            then what is not, because its address is at fault.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
        """
        if channel.frame_max < self.frame_max:
            raise FramesTooLarge(self.frame_max, channel.frame_max)
        self.frame_max = self.frame_max or channel.frame_max
        unanswered = self._channel.take_back() if self._channel is not None else []
        self._channel = channel
        if self.isolation.on_connection_lost(unanswered, closed_on_us=closed_on_us):
            return [], unanswered
        return unanswered, []

    def due(self, now_s: float) -> list[PendingMessage]:
        """Return what is kept of the next address, if all that was sent is answered."""
        if self.isolation.is_on and self._channel is not None and not self._channel.unanswered:
            return self.isolation.next(now_s)
        return []

    def overdue(self, now_s: float) -> list[PendingMessage]:
        """Return the same if the broker did not answer in time. Call it a few times a second."""
        channel = self._channel
        may_answer = channel is not None and not (channel.is_closed or channel.blocked)
        if self.isolation.on_tick(now_s, may_answer=may_answer):
            return self.isolation.next(now_s)
        return []
