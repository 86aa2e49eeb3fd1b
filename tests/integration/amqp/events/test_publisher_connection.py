"""The connection that events go out by is lost: the next one brings what was not confirmed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Final

import pytest
from aio_pika import Message
from aiormq.abc import FieldTable

from aimicromind_schemas import PARTITIONS, partition_of
from aimicromind_schemas.client import BrokerUnreachable
from aimicromind_worker.amqp.differences import TopologyDiffers
from aimicromind_worker.amqp.events.isolation import FramesTooLarge
from aimicromind_worker.amqp.topology import Exchange, Queue, Retention, Topology, topology
from tests.integration.outgoing import Way, publishing_at
from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support import erlang
from tests.support.amqp import (
    WITHIN_S,
    Inbox,
    close_connections,
    delete_exchange,
    delete_queue,
)
from tests.support.proxy import Proxy

# A frame of a method that has a delivery tag and a flag.
CONFIRM_BYTES: Final = 21
IMPATIENT: Final = timedelta(seconds=1)
LEFT_OUT: Final = "the broker does not answer for all messages"
SHORT_BEAT: Final = timedelta(seconds=2)
TAKES_ONE: Final[FieldTable] = {"x-max-length": 1, "x-overflow": "reject-publish"}


def check_repeats(inbox: Inbox) -> None:
    """Check that what came twice is the same, byte for byte."""
    first: dict[str | None, object] = {}
    for it in inbox.messages:
        said = (it.body, it.headers, it.routing_key, it.timestamp, it.correlation_id, it.type)
        assert first.setdefault(it.message_id, said) == said


async def reached(inbox: Inbox, count: int) -> None:
    """Wait until so many different events came."""
    await inbox.until(lambda: len(inbox.ids) == count)


@asynccontextmanager
async def impatient(wire: Wire, proxy: Proxy) -> AsyncIterator[tuple[Way, Inbox]]:
    """Keep a connection for publishing that waits for no answer for long."""
    async with (
        wire.events(proxy.url, answer_timeout=IMPATIENT) as (way, box),
        asyncio.timeout(WITHIN_S),
    ):
        yield way, box


async def confirms_lost(proxy: Proxy, count: int) -> None:
    """Wait until so many confirms are lost, and lose no more."""
    while proxy.lost() < count * CONFIRM_BYTES:  # noqa: ASYNC110 - a proxy rings no bell
        await asyncio.sleep(0.01)
    proxy.release()


async def test_unconfirmed_events_come_again_in_order_before_the_new_ones(
    wire: Wire, proxy: Proxy
) -> None:
    async with wire.events(proxy.url) as (way, box):
        speaker = Speaker(way.publisher)
        proxy.hold()
        for _ in range(500):
            speaker.say("token", "word ")
        await box.received(500)
        proxy.reset()
        await way.lost()
        for _ in range(500):
            speaker.say("token", "late ")
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await box.received(1501)

    assert list(box.ids) == [*(f"job:1:{seq}" for seq in range(1000)), "job:end"]
    assert len(box.messages) == 1501
    check_repeats(box)


async def test_streams_pause_when_the_window_is_full_and_go_on_with_the_next_connection(
    wire: Wire, proxy: Proxy
) -> None:
    async with wire.events(proxy.url, messages=10) as (way, box):
        speaker = Speaker(way.publisher)
        proxy.to_port = 1
        proxy.reset()
        await way.lost()
        for _ in range(9):
            speaker.say("token")
        assert not way.publisher.backpressure.is_full
        speaker.say("token")
        assert way.publisher.backpressure.is_full

        proxy.to_port = wire.broker.port
        await asyncio.wait_for(speaker.attempt_publisher.room(), WITHIN_S)
        await box.received(10)

    assert list(box.ids) == [f"job:1:{seq}" for seq in range(10)]


async def test_refused_events_are_sent_again_over_a_loss_and_the_order_holds(
    wire: Wire, proxy: Proxy
) -> None:
    async with wire.connection.channel() as channel:
        full = await channel.declare_queue(exclusive=True, arguments=TAKES_ONE)
        await full.bind(wire.names.events, "#")
        async with wire.events(proxy.url, resend_for=timedelta(minutes=1)) as (way, box):
            speaker, refused = Speaker(way.publisher), 0
            for turn in range(3):
                for _ in range(20):
                    speaker.say("token", f"turn {turn} ")
                # What follows the refused one is held, and its next turn may be under way.
                while way.publisher.counts.refused == refused:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.005)
                refused = way.publisher.counts.refused
                proxy.reset()
                await way.lost()
                await way.usable()
            speaker.say("end")
            late = Inbox()
            await full.consume(late.take, no_ack=True)
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)

            assert way.publisher.counts.passed_over == 0
            assert not way.publisher.backpressure.is_full
    assert list(box.ids) == [*(f"job:1:{seq}" for seq in range(60)), "job:end"]
    check_repeats(box)


async def test_deleted_exchange_is_declared_again_and_nothing_is_missing(wire: Wire) -> None:
    wanted = topology(wire.names, Retention("1h", 10_000_000))
    async with (
        wire.publishing(wanted=wanted) as way,
        wire.reading(wire.names.events_log_stream(partition_of("chat", PARTITIONS))) as log,
    ):
        speaker = Speaker(way.publisher)
        speaker.say("token", "before")
        await speaker.attempt_publisher.confirmed()
        await delete_exchange(wire.connection, wire.names.events)

        speaker.say("token", "gone")
        assert "NOT_FOUND" in await way.lost()
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await log.received(3)

    assert list(log.ids) == ["job:1:0", "job:1:1", "job:end"]


async def test_queue_that_differs_when_it_is_declared_again_ends_it(wire: Wire) -> None:
    wanted = Topology(
        (Exchange(wire.names.events),), (Queue("other", {"x-queue-type": "classic"}),)
    )
    async with wire.publishing(wanted=wanted) as way:
        await delete_queue(wire.connection, "other")
        async with wire.connection.channel() as channel:
            await channel.declare_queue("other", durable=True, arguments={"x-max-length": 1})

        await close_connections(wire.broker, "aimicromind-worker events")

        with pytest.raises(TopologyDiffers, match="other"):
            await way.ended()
    await delete_queue(wire.connection, "other")


async def test_broker_with_smaller_frames_ends_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wire.publishing() as way:
        Speaker(way.publisher).say("token", "Once")
        await erlang.evaluate(wire.broker, "application:set_env(rabbit, frame_max, 65536)")
        try:
            await close_connections(wire.broker, "aimicromind-worker events")

            with pytest.raises(FramesTooLarge, match="65536 bytes"):
                await way.ended()
        finally:
            await erlang.evaluate(wire.broker, "application:set_env(rabbit, frame_max, 131072)")


async def test_no_broker_to_begin_with_ends_it(wire: Wire) -> None:
    with pytest.raises(BrokerUnreachable):
        async with publishing_at("amqp://127.0.0.1:1/", wire.names):
            pass


async def test_silent_connection_is_replaced(wire: Wire, proxy: Proxy) -> None:
    async with wire.events(proxy.url, beat=SHORT_BEAT) as (way, box):
        speaker = Speaker(way.publisher)
        speaker.say("token", "heard")
        await speaker.attempt_publisher.confirmed()

        proxy.silence()
        speaker.say("token", "unheard")
        assert await way.lost() == "the publishing connection is lost: the broker is silent"
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await box.received(3)

    assert list(box.ids) == ["job:1:0", "job:1:1", "job:end"]


async def test_event_left_without_an_answer_is_sent_again_on_another_connection(
    wire: Wire, proxy: Proxy
) -> None:
    async with impatient(wire, proxy) as (way, box):
        speaker = Speaker(way.publisher)
        speaker.say("token", "answered")
        await speaker.attempt_publisher.confirmed()
        proxy.lose()
        speaker.say("token", "without an answer")
        await box.received(2)
        await confirms_lost(proxy, 1)
        speaker.say("token", "answered, and not sent again")

        assert (await way.lost()).endswith(LEFT_OUT)
        speaker.say("end")
        await speaker.attempt_publisher.confirmed()
        await box.until(lambda: "job:end" in box.ids)

    ids = [it.message_id for it in box.messages]
    assert ids == ["job:1:0", "job:1:1", "job:1:2", "job:1:1", "job:end"]
    assert way.publisher.counts.reconnected == 1
    check_repeats(box)


async def test_job_left_without_an_answer_is_published_again_on_another_connection(
    wire: Wire, proxy: Proxy
) -> None:
    async with impatient(wire, proxy) as (way, _):

        async def publish(name: bytes) -> None:
            await way.publishing.publish(Message(name), "", wire.names.jobs_dead)

        await publish(b"answered")
        proxy.lose()
        job = asyncio.create_task(publish(b"without an answer"))
        await confirms_lost(proxy, 1)
        await publish(b"answered, and not sent again")

        assert (await way.lost()).endswith(LEFT_OUT)
        await job
        assert await wire.in_queue(wire.names.jobs_dead) == 4
    assert way.publisher.counts.reconnected == 1


async def test_connection_on_which_all_is_answered_is_kept(wire: Wire, proxy: Proxy) -> None:
    async with impatient(wire, proxy) as (way, _):
        speaker, until = Speaker(way.publisher), monotonic() + 3 * IMPATIENT.total_seconds()
        while monotonic() < until:
            speaker.say("token")
            await way.publishing.publish(Message(b"job"), "", wire.names.jobs_dead)
            await speaker.attempt_publisher.confirmed()
    assert way.publisher.counts.reconnected == 0


async def test_nothing_is_written_once_the_fence_is_shut(wire: Wire) -> None:
    async with wire.events() as (way, box):
        speaker = Speaker(way.publisher)
        speaker.say("token", "heard")
        await speaker.attempt_publisher.confirmed()

        speaker.say("token", "waits for the next turn of the loop")
        way.ownership.shut("said a test")
        speaker.say("token", "later")
        await way.lost()
        await way.usable()
        await asyncio.sleep(0.3)

    assert list(box.ids) == ["job:1:0"]


async def test_connection_on_which_only_confirms_come_is_kept(wire: Wire) -> None:
    beat = timedelta(seconds=1)
    async with wire.publishing(beat=beat) as way:
        speaker = Speaker(way.publisher)
        ends = monotonic() + 4 * beat.total_seconds()
        while monotonic() < ends:
            speaker.say("token", "Once")
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
            assert way.publishing.obstacle() is None
            await asyncio.sleep(0.02)

    assert way.publisher.counts.sent_again == 0
