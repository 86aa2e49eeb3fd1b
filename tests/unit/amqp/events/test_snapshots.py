"""Snapshots stand beside the events: sent once, few at a time, outside the window."""

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from aimicromind_schemas import Names
from aimicromind_worker.amqp.events import snapshots as module
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage
from aimicromind_worker.amqp.events.snapshots import SnapshotMessage, SnapshotPublisher
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent
from tests.support.builders import SECRET

FRAME_MAX = 4_096
HERE = ReturnAddress("here", "request-7")


class Channel:
    """A channel of which each message is answered when a test wants it."""

    frame_max = FRAME_MAX

    def __init__(self) -> None:
        self.blocked = False
        self.is_closed = False
        self.sent: list[bytes] = []
        self.in_flight: list[PendingMessage] = []

    @property
    def unanswered(self) -> int:
        return len(self.in_flight)

    def send(self, frames: bytes, message: PendingMessage) -> None:
        self.sent.append(frames)
        self.in_flight.append(message)

    def take_back(self) -> list[PendingMessage]:
        left, self.in_flight = self.in_flight, []
        return left


class Setting:
    """A publisher of events, its snapshots, and the channel of both."""

    def __init__(self) -> None:
        self.may_write = True
        window = Window(messages=2, resend_for=timedelta(seconds=9))
        self.publisher = EventPublisher(Names("test"), window, lambda: self.may_write)
        self.snapshots = SnapshotPublisher(self.publisher)
        self.connect()
        self.attempt = self.publisher.attempt_publisher(Address("chat", "flow", 1, "job"))

    def connect(self, *, closed_on_us: bool = False) -> int:
        self.channel = Channel()
        return self.publisher.resume(
            cast("ConfirmChannel", self.channel), closed_on_us=closed_on_us
        )

    def event(self, seq: int) -> None:
        self.attempt.publish(NumberedEvent("token", seq, b"job:1:%d" % seq, 0, b"{}"))

    def snapshot(self, queue: str = "here", size_bytes: int = 100) -> None:
        self.snapshots.publish(ReturnAddress(queue), "chat", b"x" * size_bytes)

    def ack(self) -> None:
        self.publisher.on_acks([self.channel.in_flight.pop(0)])

    def nack(self) -> None:
        self.publisher.on_nack(self.channel.in_flight.pop(0))


def frames_of(data: bytes) -> Iterator[object]:
    while data:
        size, _, frame = unmarshal(data)
        yield frame
        data = data[size:]


async def test_snapshot_is_written_as_frames_of_the_channel_with_what_came_with_the_request() -> (
    None
):
    setting = Setting()

    setting.snapshots.publish(HERE, "chat.ü", b"x" * 10_000)

    publish, header, *body = frames_of(setting.channel.sent[0])
    assert getattr(publish, "routing_key", None) == "here"
    assert isinstance(header, ContentHeader)
    assert header.body_size == 10_000
    assert header.properties.message_type == "snapshot"
    assert header.properties.correlation_id == "request-7"
    assert header.properties.headers == {"x-stream-filter-value": "chat.ü"}
    assert b"".join(getattr(it, "value", b"") for it in body) == b"x" * 10_000


async def test_snapshot_keeps_its_place_among_the_events() -> None:
    setting = Setting()

    setting.event(0)
    setting.snapshot()
    setting.event(1)

    kinds = [isinstance(it, SnapshotMessage) for it in setting.channel.in_flight]
    assert kinds == [False, True, False]


async def test_snapshot_counts_neither_in_the_window_nor_as_an_event() -> None:
    setting = Setting()

    setting.snapshot()
    setting.snapshot()
    setting.nack()

    assert (setting.publisher.unsettled, setting.attempt.full) == (0, False)
    assert not setting.publisher.counts.published
    assert setting.publisher.counts.of_refusals() == {
        "refused": 0,
        "sent_again": 0,
        "passed_over": 0,
        "ends_straight": 0,
    }


async def test_nack_of_a_snapshot_holds_no_event_and_its_queue_gets_no_more() -> None:
    setting = Setting()
    setting.snapshot("full")

    setting.nack()
    setting.event(0)

    assert len(setting.channel.in_flight) == 1
    assert setting.snapshots.avoids("full")
    assert not setting.snapshots.avoids("here")


async def test_lost_connection_sends_events_again_and_no_snapshot() -> None:
    setting = Setting()
    setting.event(0)
    setting.snapshot()

    setting.connect()

    assert [isinstance(it, SnapshotMessage) for it in setting.channel.in_flight] == [False]
    assert setting.snapshots.may_publish()
    assert not setting.snapshots.avoids("here")


async def test_queue_whose_snapshot_was_in_flight_when_the_broker_closed_gets_no_more() -> None:
    setting = Setting()
    setting.snapshot("hostile")

    setting.connect(closed_on_us=True)

    assert setting.snapshots.avoids("hostile")
    assert setting.publisher.addresses_at_fault == 0


async def test_no_snapshot_is_sent_for_10_s_after_the_broker_closed_beside_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now_s)
    setting = Setting()
    setting.snapshot("hostile")

    setting.connect(closed_on_us=True)
    now_s += 9
    early = setting.snapshots.may_publish()
    now_s += 2

    assert (early, setting.snapshots.may_publish()) == (False, True)


async def test_nothing_is_sent_while_events_wait() -> None:
    setting = Setting()
    obstacles = []

    setting.channel.blocked = True
    obstacles.append(setting.snapshots.may_publish())
    setting.channel.blocked = False
    setting.may_write = False
    obstacles.append(setting.snapshots.may_publish())
    setting.may_write = True
    setting.channel.is_closed = True
    obstacles.append(setting.snapshots.may_publish())
    setting.channel.is_closed = False
    setting.event(0)
    setting.event(1)
    obstacles.append(setting.snapshots.may_publish())
    setting.ack()
    setting.ack()

    assert obstacles == [False] * 4
    assert setting.snapshots.may_publish()


async def test_unconfirmed_snapshots_are_bounded_in_bytes() -> None:
    setting = Setting()

    setting.snapshot(size_bytes=1_000_000)
    while_unconfirmed = setting.snapshots.may_publish()
    setting.ack()

    assert not while_unconfirmed
    assert setting.snapshots.may_publish()


async def test_snapshot_that_is_never_confirmed_stops_others_for_5_s_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now_s)
    setting = Setting()
    setting.snapshot("stuck", size_bytes=1_000_000)

    now_s += 4
    early = setting.snapshots.may_publish()
    now_s += 2
    late = setting.snapshots.may_publish()

    assert (early, late) == (False, True)
    assert setting.snapshots.avoids("stuck")
    now_s += 61
    assert not setting.snapshots.avoids("stuck")


async def test_frames_of_a_snapshot_are_not_kept_until_its_confirm() -> None:
    setting = Setting()

    setting.snapshot(size_bytes=100_000)

    assert setting.channel.in_flight[0].frames == b""


async def test_broker_that_takes_small_messages_gets_small_parts() -> None:
    setting = Setting()
    setting.publisher.limit_size(100_000)

    setting.snapshot(size_bytes=100_001)

    assert setting.channel.sent == []
    assert setting.snapshots.part_bytes == 50_000


async def test_report_is_sent_like_a_snapshot_with_a_type_of_its_own() -> None:
    setting = Setting()

    setting.snapshots.publish_report(HERE, b"{}")

    publish, header, _ = frames_of(setting.channel.sent[0])
    assert getattr(publish, "routing_key", None) == "here"
    assert isinstance(header, ContentHeader)
    assert header.properties.message_type == "workerReport"
    assert header.properties.correlation_id == "request-7"
    assert not header.properties.headers


async def test_repr_of_what_is_in_flight_shows_no_content() -> None:
    setting = Setting()

    setting.attempt.publish(NumberedEvent("token", 0, b"job:1:0", 0, SECRET.encode()))
    setting.snapshots.publish(HERE, "chat", SECRET.encode())

    assert len(setting.channel.in_flight) == 2
    assert SECRET not in repr(setting.channel.in_flight)
