"""Publish the events of all jobs, each attempt's by a publisher of its own."""

from collections.abc import Callable

from aimicromind_schemas import Names
from aimicromind_worker.amqp.events.attempt_publisher import AttemptPublisher, CopyPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.confirm_channel import CHANNEL_NUMBER
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.telemetry.event_counts import EventCounts


class EventPublisher(MessagePublisher):
    """Publishes events to their chats, and copies to the queues that jobs name."""

    def __init__(
        self,
        names: Names,
        window: Window,
        may_write: Callable[[], bool] = lambda: True,
        counts: EventCounts | None = None,
        copies: Callable[[str, EventFrames], CopyPublisher] | None = None,
    ) -> None:
        """Prepare; see the base class.

        Args:
            names: The topology's names.
            window: What may be in flight.
            may_write: Asked before anything is written.
            counts: What became of the events.
            copies: Returns what publishes copies to a queue; None where nobody asks for any.
        """
        super().__init__(names, window, may_write, counts)
        self._copies = copies
        # All events meet the same queues.
        self._nack_period = NackPeriod("events", window.resend_for)

    def attempt_publisher(self, address: Address) -> AttemptPublisher:
        """Return what publishes the events of one attempt."""
        frames = EventFrames(address, self.names.events, CHANNEL_NUMBER, self.sender.frame_max)
        copies = None
        if address.reply_to is not None and self._copies is not None:
            copies = self._copies(address.reply_to, frames)
        buffer = self.buffer(address.chat_id, self._nack_period)
        return AttemptPublisher(self, frames, buffer, copies)
