"""Publish messages to RabbitMQ: confirmed, in the order of each address, over one channel.

A channel that closes is followed by another one. What was not confirmed is sent again on it, as
it was, before anything new. `resend_buffer` decides what follows the broker's answers, and
`isolation` finds the address for which the broker closes connections. This module does it.
"""

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import structlog

from aimicromind_schemas import EVENT_NAMES, Names
from aimicromind_worker.amqp.events.backpressure import Backpressure, EventTooLarge, Window
from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel
from aimicromind_worker.amqp.events.isolation import ChannelSender, ClosesConnection
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from aimicromind_worker.amqp.events.steps import SEND, SETTLE, Do, Steps
from aimicromind_worker.telemetry.event_counts import EventCounts

log = structlog.get_logger()

_TICK_S = 0.25


class MessagePublisher:
    """Publishes the messages of all attempts. Use it from the event loop only.

    Attributes:
        names: The topology's names.
        window: What may be in flight.
        backpressure: Whether the window is full.
        sender: Sends the messages.
        may_write: Asked before anything is written.
        counts: What became of the messages.
        most_bytes: The largest body that the broker takes, as far as is known.
        addresses_at_fault: For how many addresses the broker was found to close connections.
    """

    def __init__(
        self,
        names: Names,
        window: Window,
        may_write: Callable[[], bool] = lambda: True,
        counts: EventCounts | None = None,
    ) -> None:
        """Prepare; what is published before the first `resume` waits for it."""
        self.names = names
        self.window = window
        self.backpressure = Backpressure(window)
        self.may_write = may_write
        self.counts = counts or EventCounts()
        self.addresses_at_fault = 0
        self.sender = ChannelSender()
        self._loop = asyncio.get_running_loop()
        self.most_bytes = 1 << 63
        self._buffers: WeakValueDictionary[str, ResendBuffer] = WeakValueDictionary()
        self._ends: dict[str, PendingMessage] = {}
        self._need_tick: set[ResendBuffer] = set()
        self._tick_is_due = False

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no messages."""
        return self.sender.blocked

    @property
    def unsettled(self) -> int:
        """How many messages are in flight or held."""
        return self.backpressure.messages

    def limit_size(self, most_bytes: int) -> None:
        """Send no event, not even again, whose body is larger: the broker closes the channel."""
        self.most_bytes = most_bytes

    def buffer(self, address: str, nack_period: NackPeriod) -> ResendBuffer:
        """Return the buffer of an address: attempts of a chat share one, to keep their order."""
        return self._buffers.setdefault(address, ResendBuffer(nack_period))

    def resume(self, channel: ConfirmChannel, *, closed_on_us: bool = False) -> int:
        """Go on with a channel on which nothing was sent yet.

        Args:
            channel: The channel.
            closed_on_us: Whether the broker closed the one before because of what was sent on
                it. Then each address gets its messages alone, until all are answered.

        Returns:
            How many messages are sent again.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
        """
        again, at_fault = self.sender.replace(channel, closed_on_us=closed_on_us)
        if at_fault:
            self._drop_address(at_fault)
        for message in again:
            self._carry_out(message.buffer.on_connection_lost(message), message)
        self._send_kept()
        return len(again)

    def record(self, message: PendingMessage) -> None:
        """Take in one message for the journal alone. For the attempt publishers."""
        message.attempt.unsettled += 1
        self.backpressure.add(len(message.frames))
        self._carry_out(message.buffer.on_record(message), message)

    def publish(self, message: PendingMessage) -> None:
        """Take in one message. For the attempt publishers."""
        message.attempt.unsettled += 1
        name = message.event.name
        self.counts.published[name if name in EVENT_NAMES else "other"] += 1
        self.backpressure.add(len(message.frames))
        if message.is_end:
            self._ends[message.event.message_id.decode()] = message
        if message.buffer.on_publish(message) is SEND:
            self._send(message)

    def on_acks(self, messages: Sequence[PendingMessage]) -> None:
        """Take the confirms of messages. For the channel."""
        for message in messages:
            buffer = message.buffer
            if buffer.nack_period.began_s is not None:
                self._end_nack_period(message)
            actions = buffer.on_ack(message)
            if actions is SETTLE:
                self._settle(message)
            else:
                self._follow(actions, message)
        if self.sender.isolation.is_on:
            self._send_kept()

    def on_nack(self, message: PendingMessage) -> None:
        """Take a nack. For the channel."""
        self.counts.refused += 1
        period, now_s = message.buffer.nack_period, self._loop.time()
        if not message.straight and period.on_nack(message.event.name, now_s):
            log.warning("events.nacked", to=period.to, event_name=message.event.name)
        may_resend = period.patience_left_s(now_s) > 0
        self._follow(message.buffer.on_nack(message, may_resend=may_resend), message)
        if self.sender.isolation.is_on:
            self._send_kept()

    def on_return(self, message_id: str) -> None:
        """Take the return of an `end`: no queue took it. For the channel."""
        if (message := self._ends.get(message_id)) is not None:
            message.buffer.on_return(message)

    def _end_nack_period(self, message: PendingMessage) -> None:
        if message.straight or message.returned:
            return
        period = message.buffer.nack_period
        if ended := period.on_ack(message.event.name, self._loop.time()):
            log.info(
                "events.taken_again",
                to=period.to,
                refused_for_s=round(ended.nacked_for_s, 3),
                passed_over=ended.passed_over,
            )

    def _follow(self, actions: Steps, message: PendingMessage) -> None:
        self._carry_out(actions, message)
        if message.buffer.needs_tick:
            self._need_tick.add(message.buffer)
            self._tick_soon()

    def _carry_out(self, actions: Steps, reported: PendingMessage | None = None) -> None:
        for do, other in actions:
            if (message := other or reported) is not None:
                self._do(do, message)

    def _do(self, do: Do, message: PendingMessage) -> None:
        match do:
            case Do.SEND:
                self._send(message)
            case Do.SEND_AGAIN:
                self.counts.sent_again += 1
                self._send(message)
            case Do.SEND_STRAIGHT:
                self._send_straight(message)
            case Do.PASS_OVER:
                self._pass_over(message)
            case Do.SETTLE:
                self._settle(message)

    def _send(self, message: PendingMessage) -> None:
        """Send a message, now or when its address has its turn, unless its attempt has a gap."""
        if message.attempt.fault is None and len(message.event.body) <= self.most_bytes:
            self.sender.send(message)
            return
        if message.attempt.fault is None:
            log.error("event.too_large", event_name=message.event.name, seq=message.event.seq)
            message.attempt.fault = EventTooLarge(self.most_bytes)
        self._carry_out(message.buffer.on_drop(message), message)

    def _send_straight(self, end: PendingMessage) -> None:
        self.counts.ends_straight += 1
        write, before = end.attempt.frames, len(end.frames)
        end.frames = write.to_queue(self.names.endings, mandatory=True) + write.content(end.event)
        self.backpressure.resize(len(end.frames) - before)
        self._send(end)

    def _pass_over(self, message: PendingMessage) -> None:
        self.counts.passed_over += 1
        period = message.buffer.nack_period
        if period.on_pass_over():
            log.warning("events.skipped", to=period.to, after_s=period.patience.total_seconds())

    def _settle(self, message: PendingMessage) -> None:
        self.backpressure.remove(len(message.frames))
        if message.is_end:
            self._ends.pop(message.event.message_id.decode(), None)
        message.attempt.on_settled()

    def _send_kept(self) -> None:
        while kept := self.sender.due(self._loop.time()):
            for message in kept:
                self._send(message)
        if self.sender.isolation.is_on:
            self._tick_soon()

    def _drop_address(self, unanswered: Sequence[PendingMessage]) -> None:
        self.addresses_at_fault += 1
        self.counts.passed_over += len(unanswered)
        jobs = sorted({it.event.message_id.decode().partition(":")[0] for it in unanswered})
        log.error("connection.closed_by", to=unanswered[0].buffer.nack_period.to, jobs=jobs)
        for message in unanswered:
            message.attempt.fault = message.attempt.fault or ClosesConnection()
            self._carry_out(message.buffer.on_drop(message), message)

    def _tick_soon(self) -> None:
        if not self._tick_is_due:
            self._tick_is_due = True
            left_s = [self._left_s(buffer) for buffer in self._need_tick if buffer.is_holding]
            self._loop.call_later(min((_TICK_S, *left_s)), self._tick)

    def _left_s(self, buffer: ResendBuffer) -> float:
        return buffer.nack_period.patience_left_s(self._loop.time())

    def _tick(self) -> None:
        self._tick_is_due = False
        for buffer in self._need_tick:
            self._carry_out(buffer.on_tick(may_resend=self._left_s(buffer) > 0))
        self._need_tick = {buffer for buffer in self._need_tick if buffer.needs_tick}
        for message in self.sender.overdue(self._loop.time()):
            self._send(message)
        if self.sender.isolation.is_on or self._need_tick:
            self._tick_soon()
