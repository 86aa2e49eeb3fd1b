"""Keep the messages to one address in order, also while the broker nacks some of them.

An address is a chat, or the queue that a job's `reply_to` names. Pure: the publisher reports what
happened, and carries out the actions that are returned, in their order.

A nack names no queue, and other queues took the message. What follows a nacked message is held.
The nacked message is sent again, as a probe, until it is confirmed or the time for that is over.
Then all that is held is sent. Invariants:

1. Messages have positions, in the order of publishing. But for records, they are sent for the
   first time in this order, whatever the broker answers.
2. A message is in one place: in flight, held, straight (in flight to a stream alone) or settled.
   It is settled once, and nothing is done with it after that.
3. While a nacked message is held, no message is sent for the first time. A probe is sent when
   nothing else is in flight.
4. While there is time, a nacked message is sent again, and what was confirmed after its nack
   follows it again. Thus a queue that takes messages again in time gets all of them in order.
   What was confirmed before the nack does not: RabbitMQ sends the confirms of a batch before its
   nacks (`send_confirms_and_nacks` in rabbit_channel.erl).
5. On one connection, a message is sent twice only if it was nacked, or was confirmed while
   another one was held.
6. A record is straight from the beginning. It is sent at once, thus before its event, and until the
   journal takes it. No queue of a consumer gets it: its answers say nothing of theirs.
7. Held and in flight are at most what was published and is not settled: the window bounds it.
"""

from itertools import takewhile
from operator import attrgetter

import msgspec

from aimicromind_worker.amqp.events.backpressure import AttemptMessages
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.steps import (
    NOTHING,
    PASS_OVER,
    PASS_OVER_END,
    SEND,
    SEND_AGAIN,
    SEND_STRAIGHT,
    SETTLE,
    Do,
    Step,
    Steps,
)
from aimicromind_worker.core.job.numbering import NumberedEvent

_by_position = attrgetter("position")
_is_acked = attrgetter("acked")


class PendingMessage(msgspec.Struct, eq=False):
    """One event or record, published and not settled. Only publisher and buffers change it.

    Attributes:
        attempt: The attempt that it belongs to.
        buffer: Keeps its order.
        event: What is published.
        frames: The same as AMQP frames.
        is_end: Whether it must reach the endings, if nothing else.
        position: Its place in the order of its buffer, from 1.
        acked: Whether the broker's last answer was a confirm; None before the first answer.
        returned: Whether no queue took it; its confirm follows.
        straight: Whether it is outside its buffer's order, for a stream alone.
    """

    attempt: AttemptMessages
    buffer: "ResendBuffer"
    event: NumberedEvent
    frames: bytes
    is_end: bool = False
    position: int = 0
    acked: bool | None = None
    returned: bool = False
    straight: bool = False

    # A struct shows its members, and an event's are not for a log.
    __repr__ = object.__repr__


class ResendBuffer:
    """The messages to one address, of any number of attempts.

    Attributes:
        nack_period: The nacks of all messages that may have met the same queue. The publisher
            reads and tells it the time.
        is_holding: Whether a nacked message is held, and all that comes behind it.
        sends_again: Whether what a lost connection left without an answer is sent again.
    """

    sends_again = True

    def __init__(self, nack_period: NackPeriod) -> None:
        self.nack_period = nack_period
        self.is_holding = False
        self._last_position = 0
        self._in_flight = 0
        self._held: list[PendingMessage] = []
        self._probe: PendingMessage | None = None
        self._straight: list[PendingMessage] = []

    @property
    def needs_tick(self) -> bool:
        """Whether `on_tick` is to be called after a while."""
        return self.is_holding or bool(self._straight)

    def on_record(self, message: PendingMessage) -> Steps:
        """Take in a message for the journal alone."""
        self._last_position += 1
        message.position = self._last_position
        message.straight = True
        return SEND

    def on_publish(self, message: PendingMessage) -> Steps:
        """Take in a message behind all others: send it, or hold it behind a nacked one."""
        self._last_position += 1
        message.position = self._last_position
        if self.is_holding:
            self._held.append(message)
            return NOTHING
        self._in_flight += 1
        return SEND

    def on_ack(self, message: PendingMessage) -> Steps:
        """Take the confirm of a message."""
        if message.returned:
            return self._on_ack_of_returned(message)
        if message.straight:
            return SETTLE
        self._in_flight -= 1
        if not self.is_holding:
            return SETTLE
        if message is self._probe:
            return (*SETTLE, *self._send_held())
        # A queue may have it without the nacked one before it: it follows that one once more.
        message.acked = True
        self._held.append(message)
        return NOTHING

    def on_nack(self, message: PendingMessage, *, may_resend: bool) -> Steps:
        """Take the nack of a message.

        Args:
            message: The message.
            may_resend: Whether the nack period has time left.
        """
        if message.straight:
            self._straight.append(message)
            return NOTHING
        self._in_flight -= 1
        if may_resend:
            message.acked = False
            self._held.append(message)
            self.is_holding, self._probe = True, None
            return NOTHING
        message.straight = message.is_end
        return PASS_OVER_END if message.is_end else PASS_OVER

    def on_return(self, message: PendingMessage) -> Steps:
        """Take the return of a message: no queue took it, and its confirm does not say that."""
        message.returned = True
        return NOTHING

    def on_connection_lost(self, message: PendingMessage) -> Steps:
        """Take a message that a lost connection left without an answer."""
        message.returned = False
        return SEND_AGAIN

    def on_drop(self, message: PendingMessage) -> Steps:
        """Take a message that the publisher does not send, or waits for, any more."""
        self._in_flight -= not message.straight
        return SETTLE

    def on_tick(self, *, may_resend: bool) -> Steps:
        """Send a probe, or all that is held once the time is over; and straight ones again.

        Args:
            may_resend: Whether the nack period has time left.
        """
        straight, self._straight = self._straight, []
        again = [Step(Do.SEND_AGAIN, message) for message in straight]
        if self.is_holding and not may_resend:
            # What is nacked from now on is passed over.
            again += self._send_held()
        elif self.is_holding and not self._in_flight:
            again += self._send_probe()
        return tuple(again)

    def _on_ack_of_returned(self, message: PendingMessage) -> Steps:
        message.returned = False
        if message.straight:
            self._straight.append(message)
            return NOTHING
        self._in_flight -= 1
        message.straight = True
        return SEND_STRAIGHT

    def _send_probe(self) -> list[Step]:
        held = sorted(self._held, key=_by_position)
        # Those were confirmed late, and nothing before them is nacked.
        first = list(takewhile(_is_acked, held))
        self._held = held[len(first) :]
        self._probe = self._held.pop(0) if self._held else None
        self.is_holding = self._probe is not None
        again = [self._send(self._probe)] if self._probe is not None else []
        return [*(Step(Do.SETTLE, message) for message in first), *again]

    def _send_held(self) -> list[Step]:
        held, self._held = sorted(self._held, key=_by_position), []
        self.is_holding, self._probe = False, None
        return [self._send(message) for message in held]

    def _send(self, message: PendingMessage) -> Step:
        self._in_flight += 1
        return Step(Do.SEND if message.acked is None else Do.SEND_AGAIN, message)
