"""A resend buffer, a broker beside it, and what carries out the actions of the one on the other."""

from collections import Counter, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from aimicromind_worker.amqp.events.backpressure import AttemptMessages
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from aimicromind_worker.amqp.events.steps import Do, Steps
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent

PATIENCE: Final = timedelta(seconds=2)
PATIENCE_S: Final = PATIENCE.total_seconds()
TICK_S: Final = 0.25
_FRAMES: Final = EventFrames(Address("chat", "flow", 1, "job"), "events", 1, 131_072)


def an_attempt() -> AttemptMessages:
    return AttemptMessages(_FRAMES)


def a_message(
    attempt: AttemptMessages, buffer: ResendBuffer, seq: int, *, is_end: bool = False
) -> PendingMessage:
    event = NumberedEvent("end" if is_end else "token", seq, b"job:1:%d" % seq, 0, b"")
    return PendingMessage(attempt, buffer, event, b"", is_end=is_end)


class OneAddress:
    """Two attempts publish to one address, which has a good queue and one that may refuse.

    The second attempt may fail. An `end` that is sent straight goes to the endings alone, a record
    to the journal. Records have numbers of their own: -1, -2 …

    Attributes:
        now_s: The time.
        takes: Whether the bad queue and the endings take what comes.
        journal_takes: Whether the journal does.
        routes: Whether there are queues at all; a message that meets none is returned.
        good: What the first queue took, in order, by position.
        bad: What the second took.
        endings: What the endings took.
        journal: What the journal took.
        records: How many records were written.
        settled: What is settled, in order.
        passed_over: What was nacked when no patience was left.
        failed: The attempt that may fail.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.takes = self.journal_takes = True
        self.routes = True
        self.good: list[int] = []
        self.bad: list[int] = []
        self.endings: list[int] = []
        self.journal: list[int] = []
        self.records = 0
        self.settled: list[int] = []
        self.passed_over: list[int] = []
        self.messages: list[PendingMessage] = []
        self.nack_period = NackPeriod("events", PATIENCE)
        self.buffer = ResendBuffer(self.nack_period)
        self.sound, self.failed = an_attempt(), an_attempt()
        self._wire: deque[PendingMessage] = deque()
        self._answers: deque[tuple[PendingMessage, bool]] = deque()
        self._unanswered: list[PendingMessage] = []
        self._sent_here: Counter[PendingMessage] = Counter()
        self._may_repeat: set[PendingMessage] = set()

    @property
    def in_flight(self) -> int:
        return len(self._unanswered)

    @property
    def due_answers(self) -> int:
        return len(self._answers)

    def say(self, *, is_end: bool = False, failing: bool = False) -> None:
        attempt = self.failed if failing else self.sound
        message = a_message(attempt, self.buffer, len(self.messages), is_end=is_end)
        self.messages.append(message)
        self._carry_out(self.buffer.on_publish(message), message)

    def record(self) -> None:
        self.records += 1
        message = a_message(self.sound, self.buffer, -self.records)
        self._carry_out(self.buffer.on_record(message), message)

    def arrive(self) -> None:
        """Have the broker take all that was sent so far."""
        while self._wire:
            message = self._wire.popleft()
            seq = message.event.seq
            if message.straight:
                came, takes = self.endings, self.takes
                if seq < 0:
                    came, takes = self.journal, self.journal_takes
                self._answers.append((message, takes))
                if takes:
                    came.append(seq)
            elif message.is_end and not self.routes:
                self.buffer.on_return(message)
                self._answers.append((message, True))
            else:
                self.good.append(seq)
                if self.takes:
                    self.bad.append(seq)
                self._answers.append((message, self.takes))

    def answer(self, position: int = 0) -> None:
        """Give one of the answers that are due; a confirm may be late, but overtakes no nack."""
        nacks = (at for at, (_, taken) in enumerate(self._answers) if not taken)
        position = min(position, next(nacks, position), len(self._answers) - 1)
        message, taken = self._answers[position]
        del self._answers[position]
        self._unanswered.remove(message)
        (self._confirm if taken else self._nack)(message)

    def lose(self) -> None:
        """Lose the connection: what has not arrived never does, and no answer comes."""
        unanswered, self._unanswered = self._unanswered, []
        self._wire.clear()
        self._answers.clear()
        self._sent_here.clear()
        for message in unanswered:
            self._carry_out(self.buffer.on_connection_lost(message), message)

    def fail(self) -> None:
        """Have the one attempt fail: nothing of it is sent from now on."""
        self.failed.fault = RuntimeError("failed")

    def tick(self) -> None:
        may_resend = self.nack_period.patience_left_s(self.now_s) > 0
        self._carry_out(self.buffer.on_tick(may_resend=may_resend))

    def rest(self) -> None:
        """Let time pass in which nothing new is published, until all is settled."""
        for _ in range(100):
            self.arrive()
            while self._answers:
                self.answer()
            self.tick()
            self.now_s += TICK_S
            if not (self._wire or self.buffer.needs_tick):
                return
        raise AssertionError("it does not come to rest")

    def _confirm(self, message: PendingMessage) -> None:
        if self.buffer.is_holding:
            self._may_repeat.add(message)
        if not (message.straight or message.returned):
            self.nack_period.on_ack(message.event.name, self.now_s)
        if message.returned:
            self._may_repeat.add(message)
        self._carry_out(self.buffer.on_ack(message), message)

    def _nack(self, message: PendingMessage) -> None:
        self._may_repeat.add(message)
        if not message.straight:
            self.nack_period.on_nack(message.event.name, self.now_s)
        may_resend = self.nack_period.patience_left_s(self.now_s) > 0
        self._carry_out(self.buffer.on_nack(message, may_resend=may_resend), message)

    def _carry_out(self, actions: Steps, reported: PendingMessage | None = None) -> None:
        does: dict[Do, Callable[[PendingMessage], None]] = {
            Do.SEND: self._send,
            Do.SEND_AGAIN: self._send,
            Do.SEND_STRAIGHT: self._send,
            Do.PASS_OVER: lambda message: self.passed_over.append(message.event.seq),
            Do.SETTLE: lambda message: self.settled.append(message.event.seq),
        }
        for do, other in actions:
            message = other or reported
            assert message is not None
            assert message.event.seq not in self.settled
            does[do](message)

    def _send(self, message: PendingMessage) -> None:
        if message.attempt.fault is not None:
            self._carry_out(self.buffer.on_drop(message), message)
            return
        assert message not in self._unanswered
        assert not self._sent_here[message] or message in self._may_repeat
        self._may_repeat.discard(message)
        self._sent_here[message] += 1
        self._unanswered.append(message)
        self._wire.append(message)
