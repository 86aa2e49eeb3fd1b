import asyncio

import pytest
from aio_pika import Message

from aimicromind_worker.amqp.events import confirm_channel
from aimicromind_worker.amqp.events.confirm_channel import PartsChanged
from aimicromind_worker.core.job.numbering import NumberedEvent
from tests.integration.outgoing import sink_at
from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support.amqp import WITHIN_S, Inbox
from tests.support.proxy import Proxy

FRAME_MAX = 131_072
FRAME_OVERHEAD = 8


async def test_thousands_of_events_over_many_lanes_arrive_in_the_order_of_each(wire: Wire) -> None:
    attempt_publishers, each = 40, 150
    async with wire.events(messages=64) as (way, box):

        async def speak(number: int) -> None:
            speaker = Speaker(way.publisher, f"job-{number}", chat_id=f"chat-{number}")
            for _ in range(each):
                speaker.say("token", "word ")
                if speaker.attempt_publisher.full:
                    await speaker.attempt_publisher.room()
            await speaker.attempt_publisher.confirmed()

        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
            for number in range(attempt_publishers):
                group.create_task(speak(number))
        await box.received(attempt_publishers * each)

    orders: dict[str, list[int]] = {}
    for said in box.bodies():
        orders.setdefault(said["jobId"], []).append(said["seq"])
    assert orders == {f"job-{number}": list(range(each)) for number in range(attempt_publishers)}


@pytest.mark.parametrize(
    "size",
    [
        1,
        FRAME_MAX - FRAME_OVERHEAD - 1,
        FRAME_MAX - FRAME_OVERHEAD,
        FRAME_MAX - FRAME_OVERHEAD + 1,
        2 * (FRAME_MAX - FRAME_OVERHEAD),
        8 * 1024 * 1024,
    ],
)
async def test_body_of_any_size_arrives_as_it_was(wire: Wire, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with wire.events() as (way, box):
        speaker = Speaker(way.publisher)

        speaker.publish(NumberedEvent("token", 0, b"job:1:0", 1_700_000_000, body))
        speaker.publish(NumberedEvent("token", 1, b"job:1:1", 1_700_000_000, b"next"))
        messages = await box.received(2)

    # Not `==` in the assertion itself: pytest would print megabytes.
    arrived_whole = messages[0].body == body
    assert arrived_whole
    assert messages[1].body == b"next"


async def test_events_are_confirmed_only_when_the_broker_says_so(wire: Wire, proxy: Proxy) -> None:
    async with wire.events(proxy.url) as (way, box):
        speaker = Speaker(way.publisher)
        proxy.hold()
        speaker.say("token", "Once")
        speaker.say("end")
        confirmed = asyncio.create_task(speaker.attempt_publisher.confirmed())
        await box.received(2)

        confirmed_before = confirmed.done()
        proxy.release()
        await asyncio.wait_for(confirmed, WITHIN_S)

    assert not confirmed_before


@pytest.mark.parametrize("window", [{"messages": 4}, {"size_bytes": 4096}])
async def test_full_window_opens_again_when_the_broker_confirms(
    wire: Wire, proxy: Proxy, window: dict[str, int]
) -> None:
    async with wire.events(proxy.url, **window) as (way, box):
        speaker, other = Speaker(way.publisher), Speaker(way.publisher, "other")
        proxy.hold()
        while not speaker.attempt_publisher.full:
            speaker.say("token", "x" * 800)
        other_is_full = other.attempt_publisher.full
        room = asyncio.create_task(other.attempt_publisher.room())
        await box.received(2)

        opened_before = room.done()
        proxy.release()
        await asyncio.wait_for(room, WITHIN_S)

        assert not speaker.attempt_publisher.full
    assert other_is_full
    assert not opened_before


async def test_copies_reach_a_client_that_uses_direct_reply_to_until_it_has_gone(
    wire: Wire,
) -> None:
    async with wire.connection.channel() as channel, wire.publishing() as way:
        replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        copies = Inbox()
        await replies.consume(copies.take, no_ack=True)
        asked = Message(b"{}", reply_to="amq.rabbitmq.reply-to")
        await channel.default_exchange.publish(asked, wire.names.jobs)
        job = await (await channel.get_queue(wire.names.jobs)).get(no_ack=True)
        assert job is not None
        speaker = Speaker(way.publisher, reply_to=job.reply_to)

        speaker.say("token", "Once")
        await copies.received(1)
        await channel.close()
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)

    assert [copy.type for copy in copies.messages] == ["token"]


@pytest.mark.parametrize("reply_to", ["nobody.here", "amq.rabbitmq.reply-to.gone", "é" * 100])
async def test_reply_queue_that_is_not_there_hurts_nothing(wire: Wire, reply_to: str) -> None:
    async with wire.events() as (way, box):
        speaker = Speaker(way.publisher, reply_to=reply_to)

        speaker.say("token", "Once")
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await box.received(2)

        assert way.publisher.counts.passed_over == 0
    assert [message.type for message in box.messages] == ["token", "end"]


async def test_missing_part_of_aiormq_is_named(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm_channel, "_UNBLOCKED", "_Connection__renamed")

    with pytest.raises(PartsChanged, match=r"aiormq \S+ has no Connection\._Connection__renamed"):
        async with sink_at(wire.broker.url, wire.names):
            pass
