"""The broker has an alarm and takes nothing from whoever publishes: everything waits, bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from aio_pika import Message
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from aimicromind_worker.core.job.history import History
from tests.integration.outgoing import Way, publishing_at
from tests.integration.speaker import Speaker
from tests.support.amqp import WITHIN_S, first_in, in_queue, listening
from tests.support.proxy import Proxy

BEAT = timedelta(seconds=2)
LONGER_THAN_ANY_GRACE_S = 7.0


@asynccontextmanager
async def alarm(broker: PrivateBroker, way: Way) -> AsyncIterator[Speaker]:
    """Have an alarm, and a connection that has felt it: it has published."""
    await broker.rabbitmqctl("set_vm_memory_high_watermark", "0.0001")
    try:
        speaker = Speaker(way.publisher)
        speaker.say("token", "0")
        assert await way.lost() == "the broker takes no events: it has a memory or disk alarm"
        yield speaker
    finally:
        await broker.rabbitmqctl("set_vm_memory_high_watermark", "0.6")


async def test_window_fills_and_its_time_for_confirms_stands_still(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    patience = timedelta(seconds=1)
    async with (
        listening(connection, declared.events) as box,
        publishing_at(
            broker.url, declared, beat=BEAT, messages=10, confirm_timeout=patience
        ) as way,
    ):
        async with alarm(broker, way) as speaker:
            for number in range(1, 10):
                speaker.say("token", str(number))
            assert way.publisher.backpressure.is_full
            confirmed = asyncio.create_task(speaker.lane.confirmed())
            await asyncio.sleep(LONGER_THAN_ANY_GRACE_S)
            assert not confirmed.done()
            assert not box.messages
        await asyncio.wait_for(confirmed, WITHIN_S)
        await box.received(10)

    assert [message.message_id for message in box.messages] == [f"job:1:{n}" for n in range(10)]
    assert not way.publisher.backpressure.is_full


async def test_job_that_goes_out_again_waits_and_is_there_once(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    async with publishing_at(broker.url, declared, beat=BEAT) as way:
        async with alarm(broker, way):
            publishing = asyncio.create_task(
                way.publishing.publish(Message(b"job"), "", declared.jobs)
            )
            await asyncio.sleep(1)
            assert not publishing.done()
        await asyncio.wait_for(publishing, WITHIN_S)

    assert (await first_in(connection, declared.jobs)).body == b"job"
    assert await in_queue(connection, declared.jobs) == 0


async def test_look_up_in_the_journal_waits(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    async with publishing_at(broker.url, declared, beat=BEAT) as way:
        journal = Journal(connection, way.publishing, declared.journal, JournalMemory())
        async with alarm(broker, way):
            asking = asyncio.create_task(journal.look_up("job", None))
            await asyncio.sleep(1)
            assert not asking.done()

        assert await asyncio.wait_for(asking, WITHIN_S) == History()


async def test_connection_that_is_lost_during_an_alarm_is_replaced(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection, proxy: Proxy
) -> None:
    async with (
        listening(connection, declared.events) as box,
        publishing_at(proxy.url, declared, beat=BEAT) as way,
    ):
        async with alarm(broker, way) as speaker:
            proxy.reset()
            speaker.say("end")
            await asyncio.sleep(1)
        await asyncio.wait_for(speaker.lane.confirmed(), WITHIN_S)
        await box.received(2)

    assert list(box.ids) == ["job:1:0", "job:end"]
