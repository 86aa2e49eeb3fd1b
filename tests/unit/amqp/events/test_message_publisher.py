"""Whatever the broker answers: the window bounds what is kept, and each attempt is confirmed."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import Names
from aimicromind_worker.amqp.events.attempt_publisher import AttemptPublisher, EventPublisher
from aimicromind_worker.amqp.events.backpressure import EventTooLarge, Window
from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent

_MESSAGES = 5
_ATTEMPTS = 3
_WITHIN_S = 5.0


class Channel:
    """A channel of which each message is answered when a test wants it.

    Attributes:
        taken: What the broker took, by chat, in order.
    """

    frame_max = 131_072
    blocked = False
    is_closed = False

    def __init__(self, publisher: EventPublisher, taken: dict[str, list[int]]) -> None:
        self.taken = taken
        self._publisher = publisher
        self._in_flight: list[PendingMessage] = []

    @property
    def unanswered(self) -> int:
        return len(self._in_flight)

    def send(self, _frames: bytes, message: PendingMessage) -> None:
        self.taken[message.event.message_id.decode()].append(message.event.seq)
        self._in_flight.append(message)

    def take_back(self) -> list[PendingMessage]:
        left, self._in_flight = self._in_flight, []
        return left

    def ack(self, count: int = 1) -> None:
        answered, self._in_flight = self._in_flight[:count], self._in_flight[count:]
        self._publisher.on_acks(answered)

    def nack(self) -> None:
        if self._in_flight:
            self._publisher.on_nack(self._in_flight.pop(0))


class Session:
    """Attempts that publish while the window is not full, and one channel after the other."""

    def __init__(self) -> None:
        window = Window(messages=_MESSAGES, resend_for=timedelta())
        self.publisher = EventPublisher(Names("test"), window)
        self.taken: dict[str, list[int]] = {f"job-{n}": [] for n in range(_ATTEMPTS)}
        self.said = [0] * _ATTEMPTS
        self.connect()
        self.attempts: list[AttemptPublisher] = [
            self.publisher.attempt_publisher(Address(f"chat-{n}", "flow", 1, f"job-{n}"))
            for n in range(_ATTEMPTS)
        ]

    def connect(self, *, closed_on_us: bool = False) -> None:
        self.channel = Channel(self.publisher, self.taken)
        self.publisher.resume(cast("ConfirmChannel", self.channel), closed_on_us=closed_on_us)

    def play(self, step: int | str) -> None:
        match step:
            case int() if not self.attempts[step].full:
                event = NumberedEvent("token", self.said[step], b"job-%d" % step, 0, b"{}")
                self.said[step] += 1
                self.attempts[step].publish(event)
            case "ack":
                self.channel.ack()
            case "acks":
                self.channel.ack(3)
            case "nack":
                self.channel.nack()
            case "lose":
                self.connect()
            case _:
                pass

    async def confirmed(self) -> None:
        while self.channel.unanswered:
            self.channel.ack()
        async with asyncio.timeout(_WITHIN_S):
            for attempt in self.attempts:
                await attempt.confirmed()


@given(st.lists(st.integers(0, _ATTEMPTS - 1) | st.sampled_from(["ack", "acks", "nack", "lose"])))
def test_window_bounds_what_is_unsettled_and_each_attempt_is_confirmed_in_order(
    script: list[int | str],
) -> None:
    async def play() -> None:
        session = Session()

        for step in script:
            session.play(step)
            assert session.publisher.unsettled <= _MESSAGES
        await session.confirmed()

        for number, said in enumerate(session.said):
            assert list(dict.fromkeys(session.taken[f"job-{number}"])) == list(range(said))
        assert session.publisher.unsettled == 0

    asyncio.run(play())


async def test_nothing_confirmed_is_sent_again_after_a_loss() -> None:
    session = Session()
    for step in (0, 0, 0, "ack", "lose"):
        session.play(step)

    await session.confirmed()

    assert session.taken["job-0"] == [0, 1, 2, 1, 2]
    assert session.publisher.counts.sent_again == 2


async def test_event_larger_than_the_broker_takes_fails_its_own_attempt_alone() -> None:
    session = Session()
    session.publisher.limit_size(1)
    session.play(0)
    session.publisher.limit_size(2)
    session.play(1)

    with pytest.raises(EventTooLarge, match="more than 1 bytes"):
        await session.attempts[0].confirmed()
    session.channel.ack()
    await session.attempts[1].confirmed()

    assert session.taken == {"job-0": [], "job-1": [0], "job-2": []}
