"""Send the messages of a publisher on one channel after the other.

A broker that closes a connection because of a message does not name it. `isolation` finds it:
from then on one address after the other gets its messages, until all that was kept is sent.
"""

from collections.abc import Callable

from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel
from aimicromind_worker.amqp.events.isolation import Isolation
from aimicromind_worker.amqp.events.resend_buffer import Sent

# Some messages are never answered (RabbitMQ 3.10 when a stream's leader dies).
_ALONE_AT_MOST_S = 2.0


class FramesTooLarge(ConnectionError):
    """Frames that were written for one broker are too large for the one that answers now."""

    def __init__(self, frame_max: int, now: int) -> None:
        super().__init__(
            f"the broker takes frames of {now} bytes, and those of the running jobs were "
            f"written for one that takes {frame_max}"
        )


class Outlet:
    """Sends the messages of a publisher. Use it from the event loop only.

    Attributes:
        frame_max: Most bytes of one frame that the broker takes, 0 before the first channel.
    """

    def __init__(self, drop: Callable[[Sent], None], clock: Callable[[], float]) -> None:
        """Prepare; what is to be sent before the first channel waits for it.

        Args:
            drop: Takes what was kept and needs no more sending: its attempt has a fault.
            clock: Gives seconds that never go back.
        """
        self.frame_max = 0
        self._drop = drop
        self._clock = clock
        self._channel: ConfirmChannel[Sent] | None = None
        self._isolation = Isolation()
        self._alone_since = 0.0

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes nothing."""
        return self._channel is not None and self._channel.blocked

    @property
    def isolates(self) -> bool:
        """Whether one address after the other gets its messages."""
        return self._isolation.going_on

    def send(self, sent: Sent) -> None:
        """Send a message, now or when its address has its turn."""
        if self._isolation.going_on and self._isolation.keeps(sent):
            return
        if self._channel is not None:
            self._channel.send(sent.frames, sent)

    def replace(
        self, channel: ConfirmChannel[Sent], *, at_fault: bool
    ) -> tuple[list[Sent], list[Sent]]:
        """Go on with a channel on which nothing was sent yet; `release` follows.

        Returns:
            What the one before left unanswered, in order: what is to be sent again, and what
            had the broker close it, given that it did so because of what it was sent.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
        """
        if channel.frame_max < self.frame_max:
            raise FramesTooLarge(self.frame_max, channel.frame_max)
        left = self._channel.take_back() if self._channel is not None else []
        self.frame_max = self.frame_max or channel.frame_max
        self._channel = channel
        self._isolation.pause()
        if at_fault and self._isolation.at_fault(left):
            return [], left
        return left, []

    def release(self) -> None:
        """Send the next address its messages, once all that was sent is answered."""
        while self._isolation.going_on and self._channel and not self._channel.unanswered:
            self._release_next()

    def look(self) -> bool:
        """Wait no longer for an address whose messages a healthy channel does not answer.

        Returns:
            Whether to look again.
        """
        channel = self._channel
        if self._isolation.going_on and channel is not None:
            if channel.is_closed or channel.blocked:
                self._alone_since = self._clock()
            elif self._clock() - self._alone_since > _ALONE_AT_MOST_S:
                self._release_next()
        return self._isolation.going_on

    def _release_next(self) -> None:
        self._alone_since = self._clock()
        for sent in self._isolation.next():
            if sent.lane.fault is not None:
                self._drop(sent)
            elif self._channel is not None:
                self._channel.send(sent.frames, sent)
