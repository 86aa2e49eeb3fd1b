"""Jobs that the broker takes from nobody any more: they end, and cost no neighbour anything."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import pika
import pytest

from aimicromind_testing import PrivateBroker, too_many_requests
from tests.process.jobs import Job, a_job
from tests.process.neighbours import long_neighbours
from tests.process.stage import Stage
from tests.support import erlang
from tests.support.consumer import taken

_LIMIT = 10_000
_SET = "application:set_env(rabbit, max_message_size, {})"
_GET = "{ok, Bytes} = application:get_env(rabbit, max_message_size), Bytes"


@asynccontextmanager
async def _small_messages(broker: PrivateBroker, url: str) -> AsyncIterator[Callable[..., None]]:
    """Have channels that are opened from now on take small messages; gives one that was before."""
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()

        def put(queue: str, job: Job) -> None:
            body, properties = job.message
            channel.basic_publish("", queue, body, pika.BasicProperties(**properties))

        previous = await erlang.evaluate(broker, _GET)
        await erlang.evaluate(broker, _SET.format(_LIMIT))
        try:
            yield put
        finally:
            await erlang.evaluate(broker, _SET.format(previous))


@pytest.mark.timeout(120)
async def test_jobs_for_which_the_broker_closes_channels_end_and_cost_no_neighbour(
    stage: Stage,
) -> None:
    stage.endpoint.flow("busy", too_many_requests("6"))
    large = "x" * 2 * _LIMIT
    parked, delayed = a_job("unknown", question=large), a_job("busy", question=large)
    async with _small_messages(stage.broker, stage.broker.url) as put:
        await stage.ready_workers(2, CONCURRENCY=8)
        with stage.listen() as consumer:
            async with long_neighbours(stage, consumer):
                put(stage.names.jobs, parked)
                put(stage.names.jobs, delayed)
                seen = await stage.ended(consumer, parked, delayed, within_s=40)
            await stage.stop_workers()

    assert [it.end["status"] for it in seen] == ["failed", "failed"]
    assert [it.only("error")["kind"] for it in seen] == ["chatflow_not_found", "delivery_limit"]
    dead = [json.loads(body) for body, _ in taken(stage.broker.url, stage.names.jobs_dead)]
    assert {job["jobId"]: job["question"] for job in dead} == {
        parked.job_id: large,
        delayed.job_id: large,
    }
    assert stage.jobs_left() == 0
