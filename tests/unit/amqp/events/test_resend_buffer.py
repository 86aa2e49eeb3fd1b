"""Whatever a queue refuses: the others get all in order, and it does if it takes in time."""

from collections import deque
from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import Out, ResendBuffer, Sent
from aimicromind_worker.core.job.numbering import NumberedEvent
from aimicromind_worker.telemetry.event_counts import EventCounts

PATIENCE_S = 2.0


class Lane:
    """A lane without a fault."""

    fault: Exception | None = None

    def settled(self) -> None:
        """Nobody waits."""

    def frames_straight(self, queue: str, beside: str, event: NumberedEvent) -> bytes:
        return f"{queue} {beside} {event.seq}".encode()


class TwoQueues(Out):
    """An exchange with a queue that takes all and one that does as it is told, and a clock.

    Attributes:
        good: What the first took.
        bad: What the second took.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.counts = EventCounts()
        nack_period = NackPeriod(
            "events", timedelta(seconds=PATIENCE_S), self.counts, lambda: self.now
        )
        self.buffer = ResendBuffer(self, nack_period)
        self.good: list[int] = []
        self.bad: list[int] = []
        self.settled: list[int] = []
        self.answers: deque[tuple[Sent, bool]] = deque()
        self.takes = True
        self.said = 0

    def say(self) -> None:
        event = NumberedEvent("token", self.said, b"job:1:0", 0, b"")
        self.buffer.send(Sent(Lane(), self.buffer, event, b"", is_end=False))
        self.said += 1

    def answer(self, position: int = 0) -> None:
        """Give one of the answers that are due; confirms may be late, but overtake no refusal."""
        nack_period = (at for at, (_, taken) in enumerate(self.answers) if not taken)
        position = min(position, next(nack_period, position))
        sent, taken = self.answers[position]
        del self.answers[position]
        (self.buffer.taken if taken else self.buffer.refused)(sent)

    def look_until_quiet(self) -> None:
        """Let time pass in which nothing new is said."""
        while self.buffer.look() or self.answers:
            while self.answers:
                self.answer()
            self.now += 0.25

    @override
    def write(self, sent: Sent) -> bool:
        self.good.append(sent.event.seq)
        if self.takes:
            self.bad.append(sent.event.seq)
        self.answers.append((sent, self.takes))
        return True

    @override
    def write_again(self, sent: Sent) -> bool:
        return self.write(sent)

    @override
    def settle(self, sent: Sent) -> None:
        self.settled.append(sent.event.seq)

    @override
    def pass_over(self, sent: Sent) -> None:
        sent.buffer.nack_period.passed_over()
        self.settle(sent)

    @override
    def straight(self, sent: Sent) -> None:
        raise AssertionError

    @override
    def hold(self, buffer: ResendBuffer) -> None:
        """The test looks when it wants."""


def strictly(came: list[int]) -> list[int]:
    """Give what a consumer has that takes nothing but the next event."""
    taken: list[int] = []
    for seq in came:
        if seq == len(taken):
            taken.append(seq)
    return taken


# A number: one of the answers that are due is given, the last one if there are not so many.
Step = str | int


def scripts() -> st.SearchStrategy[list[Step]]:
    kinds = st.sampled_from(["say", "say", "turn", "look", "wait"])
    return st.lists(kinds | st.integers(0, 3), max_size=60)


def play(queues: TwoQueues, script: list[Step], *, longest_s: float) -> None:
    for step in script:
        if step == "say":
            queues.say()
        elif isinstance(step, int) and queues.answers:
            queues.answer(min(step, len(queues.answers) - 1))
        elif step == "turn":
            queues.takes = not queues.takes
        elif step == "look":
            queues.buffer.look()
        elif step == "wait":
            queues.now = min(queues.now + 0.25, longest_s)


@given(scripts())
def test_others_get_every_event_in_order_whatever_one_queue_does(script: list[Step]) -> None:
    queues = TwoQueues()

    play(queues, script, longest_s=1e9)
    queues.look_until_quiet()

    everything = list(range(queues.said))
    assert list(dict.fromkeys(queues.good)) == everything
    assert sorted(queues.settled) == everything


# Refused for the first time so late that patience ends before the next look.
@example(["turn", "say", 0, "turn", "look", *["wait"] * 5, 0, "turn", "say", "wait", "wait"])
@given(scripts())
def test_queue_that_takes_again_in_time_has_it_all_in_order(script: list[Step]) -> None:
    queues = TwoQueues()

    play(queues, script, longest_s=PATIENCE_S - 0.25)
    queues.takes = True
    queues.look_until_quiet()

    assert strictly(queues.bad) == list(range(queues.said))
    assert queues.counts.passed_over == 0


@given(scripts())
def test_nothing_is_held_for_longer_than_patience_lasts(script: list[Step]) -> None:
    queues = TwoQueues()
    queues.takes = False
    queues.say()
    queues.answer()
    play(queues, script, longest_s=PATIENCE_S - 0.25)

    queues.now = PATIENCE_S
    held = queues.buffer.look()

    assert not held
    assert list(dict.fromkeys(queues.good)) == list(range(queues.said))


def test_later_refusals_are_passed_over_at_once() -> None:
    queues = TwoQueues()
    queues.takes = False
    queues.say()
    queues.look_until_quiet()

    queues.say()
    queues.answer()
    queues.say()

    assert queues.counts.passed_over == 2
    assert queues.good[-2:] == [1, 2]
    assert queues.good.count(1) == 1


def test_queue_that_took_events_for_a_while_is_waited_for_again() -> None:
    queues = TwoQueues()
    queues.takes = False
    queues.say()
    queues.look_until_quiet()
    queues.takes = True
    queues.now += 5 * PATIENCE_S
    queues.say()
    queues.answer()

    queues.takes = False
    queues.say()
    queues.answer()
    queues.takes = True
    queues.look_until_quiet()

    assert queues.bad == [1, 2]
    assert queues.counts.passed_over == 1


def test_queue_that_takes_and_refuses_in_turns_is_not_waited_for_again() -> None:
    queues = TwoQueues()
    queues.takes = False
    queues.say()
    queues.look_until_quiet()
    for _ in range(20):
        queues.takes = not queues.takes
        queues.now += 0.5
        queues.say()
        queues.answer()

    assert queues.counts.passed_over == 11
    assert not queues.buffer.look()


def test_event_of_another_name_that_is_taken_says_nothing_of_the_queue() -> None:
    counts, now = EventCounts(), [0.0]
    nack_period = NackPeriod("events", timedelta(seconds=PATIENCE_S), counts, lambda: now[0])
    nack_period.refused("token")
    now[0] = 100.0

    nack_period.taken("start")
    other = nack_period.going_on
    nack_period.taken("token")

    assert other
    assert not nack_period.going_on
