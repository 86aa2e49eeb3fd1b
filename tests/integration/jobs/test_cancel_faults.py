"""What is cancelled while a worker has no broker is known when it has one again."""

from typing import Final

import aio_pika

from aimicromind_schemas import JobCancel
from aimicromind_testing import Head, Script, Stall, answer, send
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import until_in_queue
from tests.support.builders import a_job
from tests.support.proxy import Proxy

SHOWS_A_WORD: Final = Script.of(Head(), send("token", "Once "), Stall())
_NOBODY: Final = 1


async def cancel(stage: Stage, job_id: str) -> None:
    async with stage.connection.channel() as channel:
        exchange = await channel.get_exchange(stage.names.control)
        await exchange.publish(aio_pika.Message(JobCancel(job_id).encode()), "")


async def test_jobs_cancelled_while_the_broker_was_lost_end_when_it_is_back(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("hangs", SHOWS_A_WORD, answer(3))
    stage.endpoint.flow("flow", answer(3))
    settings = stage.settings(amqp_url=proxy.url)
    async with stage.listening() as chats, working(settings) as running:
        await stage.put(a_job(jobId="ran", chatId="a", chatflowId="hangs"))
        await chats.shows("token")
        proxy.to_port = _NOBODY
        proxy.reset()
        await until_in_queue(stage.connection, stage.names.jobs, 1)
        await stage.put(a_job(jobId="came", chatId="b"))
        await stage.put(a_job(jobId="spared", chatId="c"))
        await cancel(stage, "ran")
        await cancel(stage, "came")

        proxy.to_port = stage.broker.port
        await running.ready(2)
        ends = [await chats.end_of(job_id) for job_id in ("ran", "came", "spared")]

    assert [end["status"] for end in ends] == ["cancelled", "cancelled", "completed"]
    assert chats.shown("ran") == [(1, "start"), (1, "token"), (2, "end")]
    assert chats.shown("came") == [(0, "end")]
    await until_in_queue(stage.connection, stage.names.jobs, 0)
    await until_in_queue(stage.connection, stage.names.jobs_dead, 0)


async def test_what_was_cancelled_before_the_broker_was_lost_stays_known(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(3))
    settings = stage.settings(amqp_url=proxy.url)
    async with stage.listening() as chats, working(settings) as running:
        await cancel(stage, "job")
        proxy.reset()
        await running.ready(2)
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert (end["status"], end["calls"]) == ("cancelled", 0)
