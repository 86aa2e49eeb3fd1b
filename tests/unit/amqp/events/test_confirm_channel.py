"""Whatever way the broker answers: each message is reported once, and frames go out in order."""

import asyncio
from collections.abc import Sequence
from typing import cast

from aiormq.connection import Connection
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.base import Frame
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.socket_transport import SocketTransport
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.confirm_channel import CHANNEL_NUMBER, ConfirmChannel
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from aimicromind_worker.amqp.events.snapshots import SnapshotPublisher
from aimicromind_worker.core.chats.return_address import ReturnAddress
from tests.unit.amqp.events.one_address import PATIENCE, a_message, an_attempt

_WITHIN_S = 5.0


class Wire:
    """A socket that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.free = True

    def is_free(self) -> bool:
        return self.free

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Heard:
    """A sender that keeps what it hears."""

    def __init__(self) -> None:
        self.writes = True
        self.acked: list[int] = []
        self.nacked: list[int] = []
        self.returned: list[str] = []

    def may_write(self) -> bool:
        return self.writes

    def on_acks(self, messages: Sequence[PendingMessage]) -> None:
        self.acked += [message.event.seq for message in messages]

    def on_nack(self, message: PendingMessage) -> None:
        self.nacked.append(message.event.seq)

    def on_return(self, message_id: str) -> None:
        self.returned.append(message_id)


class Setting:
    """A channel between a sender and a socket, which was never opened."""

    def __init__(self) -> None:
        self.wire, self.heard = Wire(), Heard()
        connection = Connection("amqp://nowhere/")
        connection.server_properties = {"capabilities": {"publisher_confirms": True}}
        connection.connection_tune = commands.Connection.Tune(frame_max=131_072)
        self.unblocked: asyncio.Event = getattr(connection, "_Connection__connection_unblocked")  # noqa: B009 - a private name
        self.unblocked.set()
        self.channel = ConfirmChannel(connection, cast("SocketTransport", self.wire), self.heard)
        self._buffer = ResendBuffer(NackPeriod("events", PATIENCE))
        self._sent = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            message = a_message(an_attempt(), self._buffer, self._sent)
            self.channel.send(b"%d " % self._sent, message)
            self._sent += 1

    def hear(self, frame: Frame | ContentHeader) -> bool:
        return self.channel.take(marshal(frame, CHANNEL_NUMBER))

    async def flushed(self, text: bytes) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while b"".join(self.wire.written) != text:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans()), max_size=20))
def test_each_message_is_reported_once_with_the_first_answer_that_covers_it(
    answers: list[tuple[int, bool, bool]],
) -> None:
    async def play() -> None:
        at, expected = Setting(), dict[int, bool]()
        at.send(10)

        for tag, multiple, is_ack in answers:
            kind = commands.Basic.Ack if is_ack else commands.Basic.Nack
            at.hear(kind(tag, multiple))
            covered = range(1, (tag or 10) + 1) if multiple else (tag,)
            for each in covered:
                if 1 <= each <= 10:
                    expected.setdefault(each - 1, is_ack)

        oldest = at.channel.oldest
        messages = at.channel.take_back()
        left = [message.event.seq for message in messages]
        assert sorted(at.heard.acked) == sorted(it for it, acked in expected.items() if acked)
        assert sorted(at.heard.nacked) == sorted(it for it in expected if not expected[it])
        assert left == [seq for seq in range(10) if seq not in expected]
        assert [it.message for it in oldest] == messages[:1]
        assert [it.overtaken for it in oldest] == [left != list(range(left[0], 10)) for _ in oldest]

    asyncio.run(play())


async def test_answer_to_a_snapshot_is_not_waited_for() -> None:
    at = Setting()
    publisher = EventPublisher(Names("test"), Window())
    publisher.resume(at.channel)

    SnapshotPublisher(publisher).publish(ReturnAddress("here"), "chat", b"part")
    assert (at.channel.unanswered, at.channel.oldest) == (1, [])
    at.send()
    (waiting,) = at.channel.oldest
    assert waiting.message is at.channel.take_back()[1]


async def test_frames_are_written_together_in_the_order_of_the_calls() -> None:
    at = Setting()

    at.send(3)
    await at.flushed(b"0 1 2 ")

    assert at.wire.written == [b"0 1 2 "]


async def test_nothing_is_written_while_sender_alarm_or_socket_forbids_it() -> None:
    at = Setting()
    at.heard.writes = False
    at.send()
    await asyncio.sleep(0.01)
    at.heard.writes, at.wire.free = True, False
    await asyncio.sleep(0.05)
    at.unblocked.clear()
    at.wire.free = True
    await asyncio.sleep(0.05)
    before, blocked = list(at.wire.written), at.channel.blocked

    at.unblocked.set()
    await at.flushed(b"0 ")

    assert (before, blocked) == ([], True)


async def test_return_is_reported_by_the_id_of_its_message() -> None:
    at = Setting()
    at.send()

    taken = [
        at.hear(commands.Basic.Return(312, "NO_ROUTE", "", "key")),
        at.hear(ContentHeader(0, 2, commands.Basic.Properties(message_id="job:end"))),
        at.hear(commands.Basic.Ack(1)),
    ]

    assert taken == [True] * 3
    assert at.heard.returned == ["job:end"]
    assert at.heard.acked == [0]


async def test_frames_that_are_no_answers_are_left_to_others() -> None:
    at = Setting()

    assert not at.hear(commands.Channel.CloseOk())
