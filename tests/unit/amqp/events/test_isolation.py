"""Whatever comes while addresses are isolated: one is in flight at a time, and each in order."""

from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_worker.amqp.events.isolation import Isolation
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from tests.unit.amqp.events.one_address import a_message, an_attempt

_LONG_S = 3.0


class Connections:
    """One connection after the other, which answers when it is told to, and closes on an address.

    The first is opened by the first `lose`.

    Attributes:
        taken: What was answered, by address, in order.
        found: The addresses that were found at fault.
    """

    def __init__(self, addresses: int, closes_on: int | None) -> None:
        self.buffers = [ResendBuffer(NackPeriod("events", timedelta())) for _ in range(addresses)]
        self.taken: dict[int, list[int]] = {address: [] for address in range(addresses)}
        self.found: list[int] = []
        self.now_s = 0.0
        self._closes_on = closes_on
        self._isolation = Isolation()
        self._in_flight: list[PendingMessage] = []
        self._said = [0] * addresses

    def say(self, address: int) -> None:
        buffer = self.buffers[address]
        message = a_message(an_attempt(), buffer, self._said[address])
        self._said[address] += 1
        buffer.on_publish(message)
        self._send(message)

    def answer(self) -> None:
        """Answer for the first message in flight, or close because of it."""
        if not self._in_flight:
            return
        address = self.buffers.index(self._in_flight[0].buffer)
        if address == self._closes_on:
            self.lose(closed_on_us=True)
            return
        self.taken[address].append(self._in_flight.pop(0).event.seq)
        self._release()

    def lose(self, *, closed_on_us: bool = False) -> None:
        """Be lost, for a reason of the network or because of a message."""
        unanswered, self._in_flight = self._in_flight, []
        if self._isolation.on_connection_lost(unanswered, closed_on_us=closed_on_us):
            self.found.append(self.buffers.index(unanswered[0].buffer))
            unanswered = []
        for message in unanswered:
            self._send(message)
        self._release()

    def tick(self) -> None:
        """Be silent for longer than an address is waited for."""
        self._isolation.on_tick(self.now_s, may_answer=True)
        self.now_s += _LONG_S
        if self._isolation.on_tick(self.now_s, may_answer=True):
            self._in_flight += self._isolation.next(self.now_s)

    def finish(self) -> None:
        self._release()
        while self._in_flight:
            self.answer()

    @property
    def addresses_in_flight(self) -> int:
        return len({message.buffer for message in self._in_flight})

    @property
    def isolates(self) -> bool:
        return self._isolation.is_on

    def _send(self, message: PendingMessage) -> None:
        if not self._isolation.keeps(message):
            self._in_flight.append(message)

    def _release(self) -> None:
        while self._isolation.is_on and not self._in_flight:
            self._in_flight += self._isolation.next(self.now_s)


def steps(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    says = st.tuples(st.just("say"), st.integers(0, 3))
    return st.lists(says | st.tuples(st.sampled_from(names), st.just(0)), max_size=60)


def play(link: Connections, does: tuple[str, int]) -> None:
    what, address = does
    if what == "say":
        link.say(address)
    else:
        getattr(link, what)()


@given(steps("answer", "lose"), st.none() | st.integers(0, 3))
def test_address_that_closes_connections_is_the_only_one_to_lose_messages(
    script: list[tuple[str, int]], closes_on: int | None
) -> None:
    link = Connections(4, closes_on)

    for does in script:
        play(link, does)
        assert link.addresses_in_flight <= 1 or not link.isolates
    link.finish()

    for address in {0, 1, 2, 3} - {closes_on}:
        assert link.taken[address] == list(range(script.count(("say", address))))
    assert set(link.found) <= {closes_on}
    assert not link.isolates


# An event is published while the one before is in flight, and not waited for; both are kept then.
@example([("say", 0), ("say", 1), ("lose", 0), ("tick", 0), ("say", 0), ("lose", 0)])
@given(steps("answer", "lose", "tick"))
def test_address_that_is_waited_for_no_longer_keeps_its_order(
    script: list[tuple[str, int]],
) -> None:
    link = Connections(4, None)

    for does in script:
        play(link, does)
    link.finish()

    for address in range(4):
        assert link.taken[address] == list(range(script.count(("say", address))))
