import asyncio
from datetime import timedelta
from typing import Any

import aio_pika
import pytest

from aimicromind_schemas import EndStatus
from aimicromind_schemas.client import (
    NobodyReceives,
    NoEndYet,
    NotConfirmed,
    QueueFull,
)
from aimicromind_testing import answer, error_answer
from tests.integration.client.stage import a_job, all_of, client_of
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import WITHIN_S, delete_queue, first_in, in_queue
from tests.support.proxy import Proxy
from tests.support.waiting import until

ENDLESS = answer(1_000_000, rate=50)


async def test_submitted_job_is_on_the_queue_with_what_a_worker_needs(stage: Stage) -> None:
    job = a_job(job_id=None)
    async with stage.listening(), client_of(stage) as client:
        job_id = await client.submit(job, reply_to="answers", correlation_id="request-1")

    message = await first_in(stage.connection, stage.names.jobs)
    assert message.message_id == job_id
    assert type(job).decode(message.body) == job.model_copy(update={"job_id": job_id})
    assert (message.reply_to, message.correlation_id) == ("answers", "request-1")
    assert message.timestamp is not None
    assert str(message.headers["x-aimicromind-submitted-at"]).endswith("+00:00")
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT


async def test_job_without_an_exchange_is_a_clear_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(NobodyReceives, match=stage.names.jobs):
            await client.submit(a_job())
        async with stage.listening():
            await client.submit(a_job())

    assert await in_queue(stage.connection, stage.names.jobs) == 1


async def test_job_without_a_queue_is_a_clear_error(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        await delete_queue(stage.connection, stage.names.jobs)

        with pytest.raises(NobodyReceives, match=stage.names.jobs):
            await client.submit(a_job())


async def test_full_queue_is_a_clear_error(stage: Stage) -> None:
    limits: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-max-length": 1,
        "x-overflow": "reject-publish",
    }
    async with stage.listening(), client_of(stage) as client:
        await delete_queue(stage.connection, stage.names.jobs)
        async with stage.connection.channel() as channel:
            queue = await channel.declare_queue(stage.names.jobs, durable=True, arguments=limits)
            await queue.bind(stage.names.jobs, "#")

        with pytest.raises(QueueFull, match=stage.names.jobs):  # noqa: PT012 - the queue takes a few more
            for _ in range(10):
                await client.submit(a_job())


async def test_broker_that_does_not_confirm_leaves_the_job_to_be_sent_again(
    stage: Stage, proxy: Proxy
) -> None:
    job = a_job()
    async with stage.listening(), client_of(stage, proxy.url) as client:
        await client.submit(a_job())
        proxy.hold("jobs")
        submitting = asyncio.create_task(client.submit(job))
        async with asyncio.timeout(10):
            while await in_queue(stage.connection, stage.names.jobs) < 2:  # noqa: ASYNC110 - the broker knows
                await asyncio.sleep(0.02)
        proxy.reset("jobs")

        with pytest.raises(NotConfirmed, match=job.job_id or "") as unsure:
            await submitting
        assert unsure.value.job_id == job.job_id
        assert await client.submit(job) == job.job_id


async def test_submitting_goes_on_after_a_lost_connection(stage: Stage, proxy: Proxy) -> None:
    async with stage.listening(), client_of(stage, proxy.url) as client:
        await client.submit(a_job())
        proxy.reset("jobs")
        # Those of live events and of streams stay open.
        await until(lambda: proxy.open <= 2, 10)

        await client.submit(a_job())

    assert await in_queue(stage.connection, stage.names.jobs) == 2


async def test_cancelled_job_ends_as_cancelled(stage: Stage) -> None:
    stage.endpoint.flow("flow", ENDLESS)
    async with stage.working() as chats, client_of(stage) as client:
        by_job, by_chat = a_job(), a_job()
        for job in (by_job, by_chat):
            await client.submit(job)
        await stage.endpoint.called(2)
        await client.cancel(job_id=by_job.job_id)
        await client.cancel(chat_id=by_chat.chat_id)
        ends = [await client.result(job.job_id or "") for job in (by_job, by_chat)]
        await chats.end_of(by_job.job_id or "")

    assert [end.data.status for end in ends] == [EndStatus.CANCELLED] * 2


async def test_cancel_names_just_one(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(ValueError, match="either"):
            await client.cancel()
        with pytest.raises(ValueError, match="either"):
            await client.cancel(job_id="a", chat_id="b")


async def test_cancel_that_nobody_hears_is_a_clear_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(NobodyReceives, match=stage.names.control):
            await client.cancel(job_id="job")


@pytest.mark.parametrize("log", [True, False])
async def test_result_is_the_end_before_and_after_it_came(stage: Stage, log: bool) -> None:  # noqa: FBT001 - a parameter
    stage.endpoint.flow("flow", answer(20, rate=20))
    async with (
        working(stage.settings(events_log=log)),
        client_of(stage) as client,
        client_of(stage) as other,
    ):
        job_id = await client.submit(a_job())
        early = await client.result(job_id)
        late, foreign = await asyncio.gather(client.result(job_id), other.result(job_id))

    assert early == late == foreign
    assert (early.data.status, early.data.text[:5]) == (EndStatus.COMPLETED, "tok0 ")


async def test_result_of_a_failed_job_is_its_end(stage: Stage) -> None:
    stage.endpoint.flow("flow", error_answer("Error: Unauthorized"))
    async with stage.working(), client_of(stage) as client:
        end = await client.result(await client.submit(a_job()))

    assert end.data.status is EndStatus.FAILED


async def test_result_that_does_not_come_is_a_clear_error(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        job_id = await client.submit(a_job())
        with pytest.raises(NoEndYet, match=job_id):
            await client.result(job_id, within=timedelta(seconds=0.5))


async def test_follow_names_what_it_follows(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(ValueError, match="name a chat or a job"):
            async with client.follow():
                pass


async def test_client_has_one_queue_and_leaves_nothing_on_the_broker(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(5))
    queues = await _queues(stage)
    async with stage.working():
        before = await _queues(stage)
        async with client_of(stage) as client:
            async with client.request(a_job()) as events:
                await all_of(events)
            async with client.follow(chat_id="c", from_start=True):
                pass
            assert len(await _queues(stage)) == len(before) + 1
        async with asyncio.timeout(WITHIN_S):
            while await _queues(stage) != before:  # noqa: ASYNC110 - the broker knows
                await asyncio.sleep(0.1)

    assert queues < before


async def _queues(stage: Stage) -> set[str]:
    return set((await stage.broker.rabbitmqctl("list_queues", "name")).split())
