"""Whatever comes while addresses are isolated: one is in flight at a time, and each in order."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.amqp.events.isolation import Isolation
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import ResendBuffer, Sent
from aimicromind_worker.core.job.numbering import NumberedEvent
from aimicromind_worker.telemetry.event_counts import EventCounts
from tests.unit.amqp.events.test_resend_buffer import Lane, TwoQueues


class Link:
    """A connection that answers when it is told to, and closes on one of the addresses.

    Attributes:
        taken: What was answered, by address, in order.
        given_up: The addresses that were found at fault.
    """

    def __init__(self, addresses: int, poison: int | None) -> None:
        nack_period = NackPeriod("events", timedelta(), EventCounts(), float)
        out = TwoQueues()
        self.buffers = [ResendBuffer(out, nack_period) for _ in range(addresses)]
        self.taken: dict[int, list[int]] = {address: [] for address in range(addresses)}
        self.given_up: list[int] = []
        self._poison = poison
        self._isolation = Isolation()
        self._in_flight: list[Sent] = []
        self._said = [0] * addresses
        self._release()

    def say(self, address: int) -> None:
        event = NumberedEvent("token", self._said[address], b"job:1:0", 0, b"")
        self._said[address] += 1
        self._send(Sent(Lane(), self.buffers[address], event, b"", is_end=False))

    def answer(self) -> None:
        """Answer for the first message in flight, or close because of it."""
        if not self._in_flight:
            return
        address = self.buffers.index(self._in_flight[0].buffer)
        if address == self._poison:
            self._close()
            return
        self.taken[address].append(self._in_flight.pop(0).event.seq)
        self._release()

    def lose(self) -> None:
        """Be lost for a reason of the network."""
        left, self._in_flight = self._in_flight, []
        self._isolation.pause()
        for sent in left:
            self._send(sent)
        self._release()

    def finish(self) -> None:
        while self._in_flight:
            self.answer()

    @property
    def addresses_in_flight(self) -> int:
        return len({sent.buffer for sent in self._in_flight})

    @property
    def isolates(self) -> bool:
        return self._isolation.going_on

    def _close(self) -> None:
        left, self._in_flight = self._in_flight, []
        self._isolation.pause()
        if self._isolation.at_fault(left):
            self.given_up.append(self.buffers.index(left[0].buffer))
            left = []
        for sent in left:
            self._send(sent)
        self._release()

    def _send(self, sent: Sent) -> None:
        if not self._isolation.keeps(sent):
            self._in_flight.append(sent)

    def _release(self) -> None:
        while self._isolation.going_on and not self._in_flight:
            self._in_flight += self._isolation.next()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["answer", "lose"]), st.just(0)),
    ),
    max_size=60,
)


@given(steps, st.none() | st.integers(0, 3))
def test_address_that_closes_connections_is_the_only_one_to_lose_messages(
    does: list[tuple[str, int]], poison: int | None
) -> None:
    link, said = Link(4, poison), [0] * 4

    for what, address in does:
        if what == "say":
            said[address] += 1
            link.say(address)
        elif what == "answer":
            link.answer()
        else:
            link.lose()
        assert link.addresses_in_flight <= 1 or not link.isolates
    link.finish()

    for address in range(4):
        if address != poison:
            assert link.taken[address] == list(range(said[address]))
    assert set(link.given_up) <= {poison}
    assert not link.isolates
