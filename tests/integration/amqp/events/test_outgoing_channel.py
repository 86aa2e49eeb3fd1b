"""What closes channels or connections is found: it alone is given up, and all else goes out."""

import asyncio

import pytest
from aio_pika import Message

from aimicromind_worker.amqp.events.isolation import ClosesConnection
from aimicromind_worker.amqp.events.outgoing_channel import CannotBePublished
from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support.amqp import WITHIN_S
from tests.support.hostile import HOSTILE
from tests.support.proxy import Proxy

BEYOND_A_FRAME = "x" * 140_000
NAME = HOSTILE["an atom"]


async def test_messages_that_close_the_connection_are_given_up_and_those_beside_them_go_out(
    wire: Wire,
) -> None:
    async with wire.events() as (way, box):
        speaker = Speaker(way.publisher)
        speaker.say("token", "first")
        good = [
            way.publishing.publish(Message(b"%d" % number), "", wire.names.jobs_dead)
            for number in range(20)
        ]
        bad = [
            way.publishing.publish(
                Message(b"", headers={"x": BEYOND_A_FRAME}), "", wire.names.jobs
            ),
            way.publishing.publish(Message(b""), "", NAME),
        ]

        async with asyncio.timeout(WITHIN_S):
            results = await asyncio.gather(
                *good[:10], bad[0], *good[10:], bad[1], return_exceptions=True
            )
            speaker.say("end")
            await speaker.attempt_publisher.confirmed()
        await box.until(lambda: len(box.ids) == 2)
        parked = await wire.in_queue(wire.names.jobs_dead)

    refused = [result for result in results if result is not None]
    assert [type(error) for error in refused] == [CannotBePublished] * 2
    # What was in flight when a connection was lost may have come twice.
    assert parked >= 20
    assert way.publisher.counts.reconnected <= 4


async def test_message_that_closes_the_channel_leaves_the_connection_as_it_is(wire: Wire) -> None:
    async with wire.publishing() as way:
        good = way.publishing.publish(Message(b"good"), "", wire.names.jobs_dead)
        bad = way.publishing.publish(Message(b"bad"), "no.such.exchange", "key")

        with pytest.raises(CannotBePublished, match="NOT_FOUND"):
            await asyncio.wait_for(asyncio.gather(bad, good), WITHIN_S)

        assert way.publishing.obstacle() is None
        await asyncio.wait_for(
            way.publishing.publish(Message(b"next"), "", wire.names.jobs_dead), WITHIN_S
        )
        assert way.publisher.counts.reconnected == 0


async def test_events_that_close_the_connection_cost_their_own_chat_alone(wire: Wire) -> None:
    async with wire.events() as (way, box):
        honest = [Speaker(way.publisher, f"job-{n}", chat_id=f"chat-{n}") for n in range(5)]
        hostile = Speaker(way.publisher, "hostile", chat_id="hostile", traceparent=BEYOND_A_FRAME)
        for number in range(20):
            for speaker in (*honest, hostile):
                speaker.say("token", f"{number}")
        for speaker in honest:
            speaker.say("end")

        async with asyncio.timeout(WITHIN_S):
            for speaker in honest:
                await speaker.attempt_publisher.confirmed()
            with pytest.raises(ClosesConnection):
                await hostile.attempt_publisher.confirmed()
        await box.until(lambda: len(box.ids) == 105)

        assert way.publisher.counts.reconnected == 2
        assert way.publishing.obstacle() is None
    for n in range(5):
        seqs = [it for it in box.ids if str(it).startswith(f"job-{n}:")]
        assert seqs == [*(f"job-{n}:1:{seq}" for seq in range(20)), f"job-{n}:end"]


async def test_messages_go_out_whenever_their_connection_closes(wire: Wire, proxy: Proxy) -> None:
    """Some turns of the loop lie between its close and the moment when the link knows of it."""

    async def publish_after(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await way.publishing.publish(Message(b"%d" % turns), "", wire.names.jobs_dead)

    async with wire.publishing(proxy.url) as way, asyncio.timeout(WITHIN_S):
        for _ in range(5):
            proxy.reset()
            await asyncio.gather(*(publish_after(turns) for turns in range(200)))
    assert await wire.in_queue(wire.names.jobs_dead) >= 1_000
