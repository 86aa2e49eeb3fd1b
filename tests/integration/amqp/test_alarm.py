"""The broker has an alarm and takes nothing from whoever publishes: everything waits, bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from aio_pika import Message

from aimicromind_schemas.journal.history import History
from aimicromind_testing import PrivateBroker
from tests.integration.journals import a_journal
from tests.integration.outgoing import Way
from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support import erlang
from tests.support.amqp import WITHIN_S
from tests.support.proxy import Proxy

BEAT = timedelta(seconds=1)
LONGER_THAN_ANY_GRACE_S = 3.5


@asynccontextmanager
async def alarm(broker: PrivateBroker, way: Way) -> AsyncIterator[Speaker]:
    """Have an alarm, and a connection that has felt it: it has published."""
    await erlang.set_memory_limit(broker, 0.0001)
    try:
        speaker = Speaker(way.publisher)
        speaker.say("token", "0")
        assert await way.lost() == "the broker takes no events: it has a memory or disk alarm"
        yield speaker
    finally:
        await erlang.set_memory_limit(broker, 0.6)


async def test_window_fills_and_its_time_for_confirms_stands_still(wire: Wire) -> None:
    patience = timedelta(seconds=1)
    async with (
        wire.events(beat=BEAT, messages=10, confirm_timeout=patience) as (way, box),
    ):
        async with alarm(wire.broker, way) as speaker:
            for number in range(1, 10):
                speaker.say("token", str(number))
            assert way.publisher.backpressure.is_full
            confirmed = asyncio.create_task(speaker.attempt_publisher.confirmed())
            await asyncio.sleep(LONGER_THAN_ANY_GRACE_S)
            assert not confirmed.done()
            assert not box.messages
        await asyncio.wait_for(confirmed, WITHIN_S)
        await box.received(10)

    assert [message.message_id for message in box.messages] == [f"job:1:{n}" for n in range(10)]
    assert not way.publisher.backpressure.is_full


async def test_job_that_goes_out_again_waits_and_is_there_once(wire: Wire) -> None:
    async with wire.publishing(beat=BEAT) as way:
        async with alarm(wire.broker, way):
            publishing = asyncio.create_task(
                way.publishing.publish(Message(b"job"), "", wire.names.jobs)
            )
            await asyncio.sleep(1)
            assert not publishing.done()
        await asyncio.wait_for(publishing, WITHIN_S)

    assert (await wire.first_in(wire.names.jobs)).body == b"job"
    assert await wire.in_queue(wire.names.jobs) == 0


async def test_look_up_in_the_journal_waits(wire: Wire) -> None:
    async with wire.publishing(beat=BEAT) as way:
        journal = a_journal(wire.connection, way, wire.names)
        async with alarm(wire.broker, way):
            asking = asyncio.create_task(journal.look_up("job", None))
            await asyncio.sleep(1)
            assert not asking.done()

        assert await asyncio.wait_for(asking, WITHIN_S) == History()


async def test_connection_that_is_lost_during_an_alarm_is_replaced(
    wire: Wire, proxy: Proxy
) -> None:
    async with wire.events(proxy.url, beat=BEAT) as (way, box):
        async with alarm(wire.broker, way) as speaker:
            proxy.reset()
            speaker.say("end")
            await asyncio.sleep(1)
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await box.received(2)

    assert list(box.ids) == ["job:1:0", "job:end"]
