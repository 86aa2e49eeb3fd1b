"""Keep the events of one chat, or of one reply queue, in order, also while some are nacked.

What follows a nacked event is held, and the nacked one is sent again, until it is confirmed or the
patience of `nack_period` is over. Then all that was held is sent, in order. Thus each nacked event
is sent again at least once, however late it came.
"""

from collections import deque
from operator import attrgetter
from typing import Protocol

from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.core.job.numbering import NumberedEvent

_by_place = attrgetter("place")


class SentFor(Protocol):
    """The attempt, or its copies, for which an event was published.

    Attributes:
        fault: Why nothing more of it is sent: it would have a gap.
    """

    fault: Exception | None

    def settled(self) -> None:
        """Record that one event needs no more sending."""

    def frames_straight(self, queue: str, beside: str, event: NumberedEvent) -> bytes:
        """Write an event's frames for two queues."""


class Sent:
    """One message, in flight or held. Belongs to the publisher.

    Attributes:
        place: Where it is in the order of its buffer.
        refused: Whether the broker last nacked it, None if it has not answered yet.
        returned: Whether no queue took it.
        straight: Whether it left its buffer, for endings and journal alone.
    """

    __slots__ = (
        "buffer",
        "event",
        "frames",
        "is_end",
        "lane",
        "place",
        "refused",
        "returned",
        "straight",
    )

    def __init__(
        self,
        lane: "SentFor",
        buffer: "ResendBuffer",
        event: NumberedEvent,
        frames: bytes,
        *,
        is_end: bool,
    ) -> None:
        self.lane = lane
        self.buffer = buffer
        self.event = event
        self.frames = frames
        self.is_end = is_end
        self.place = 0
        self.refused: bool | None = None
        self.returned = False
        self.straight = False


class Out(Protocol):
    """Who sends the messages of a buffer: the publisher."""

    def write(self, sent: Sent) -> bool:
        """Send a message; False if it never can be."""

    def write_again(self, sent: Sent) -> bool:
        """Send a message once more; False if it never can be."""

    def settle(self, sent: Sent) -> None:
        """Record that a message needs no more sending."""

    def pass_over(self, sent: Sent) -> None:
        """Skip a nacked message: it is not sent to its address again."""

    def straight(self, sent: Sent) -> None:
        """Send an `end` to endings and journal alone."""

    def hold(self, buffer: "ResendBuffer") -> None:
        """Schedule `look`, and repeat it as long as it returns True."""


class ResendBuffer:
    """Messages to one address, of any number of attempts. Belongs to the publisher.

    Attributes:
        nack_period: The nacks of its messages, and of other buffers for the same queues.
    """

    def __init__(self, out: Out, nack_period: NackPeriod) -> None:
        self.nack_period = nack_period
        self._out = out
        self._places = 0
        self._in_flight = 0
        self._holding = False
        self._held: list[Sent] = []
        self._probe: Sent | None = None

    def send(self, sent: Sent) -> None:
        """Send a message, or hold it behind one that was nacked."""
        self._places += 1
        sent.place = self._places
        if self._holding:
            self._held.append(sent)
        else:
            self._write(sent)

    def resume(self, sent: Sent) -> None:
        """Send a message again that a lost connection left without an answer."""
        self._in_flight -= 1
        self._write_again(sent)

    def taken(self, sent: Sent) -> None:
        """Take the confirm of a message."""
        self._in_flight -= 1
        if self.nack_period.going_on:
            self.nack_period.taken(sent.event.name)
        if not self._holding:
            self._out.settle(sent)
        elif sent is self._probe:
            self._out.settle(sent)
            self._go_on()
        else:
            # It may have overtaken a nacked one, which it then must follow once more.
            sent.refused = False
            self._held.append(sent)

    def refused(self, sent: Sent) -> None:
        """Take the nack of a message."""
        self._in_flight -= 1
        self.nack_period.refused(sent.event.name)
        if not self.nack_period.patience_s:
            self._out.pass_over(sent)
            return
        sent.refused = True
        self._held.append(sent)
        self._probe = None
        if not self._holding:
            self._holding = True
            self._out.hold(self)

    def returned(self, sent: Sent) -> None:
        """Take the return of a message: there is no queue for it."""
        self._in_flight -= 1
        self._out.straight(sent)

    def dropped(self, sent: Sent) -> None:
        """Record that a message, sent or kept, is not sent again."""
        self._in_flight -= 1
        self._out.settle(sent)

    def look(self) -> bool:
        """Send the nacked message again; once patience is over, for the last time.

        Returns:
            Whether to look again.
        """
        if self._holding and not self.nack_period.patience_s:
            # What is nacked once more is passed over, what is held is sent behind it.
            self._go_on()
        elif self._holding and not self._in_flight:
            self._try()
        return self._holding

    def _try(self) -> None:
        held = deque(sorted(self._held, key=_by_place))
        # They were confirmed late, and stand before the nacked one.
        while held and held[0].refused is False:
            self._out.settle(held.popleft())
        self._probe = held.popleft() if held else None
        self._held, self._holding = list(held), self._probe is not None
        if self._probe is not None:
            self._write_any(self._probe)

    def _go_on(self) -> None:
        held, self._held = sorted(self._held, key=_by_place), []
        self._holding, self._probe = False, None
        for sent in held:
            self._write_any(sent)

    def _write_any(self, sent: Sent) -> None:
        if sent.refused is None:
            self._write(sent)
        else:
            self._write_again(sent)

    def _write(self, sent: Sent) -> None:
        if self._out.write(sent):
            self._in_flight += 1

    def _write_again(self, sent: Sent) -> None:
        if self._out.write_again(sent):
            self._in_flight += 1
