"""What a broker that is killed makes of jobs that many consumers held."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.job_bodies import Jobs, jobs_at
from tests.support.amqp import BEAT, WITHIN_S, put_job, until_in_queue

pytestmark = pytest.mark.timeout(120)

# RabbitMQ 3.10 keeps the order of up to 32 consumers.
JOBS: Final = 40


async def taking(stack: AsyncExitStack, broker: PrivateBroker, names: Names) -> Jobs:
    """Consume with as many consumers as there are jobs."""
    jobs = await stack.enter_async_context(jobs_at(broker.url, names, slots=1))
    for _ in range(JOBS - 1):
        await stack.enter_async_context(jobs.source.take_one_more())
    return jobs


async def left_in(broker: PrivateBroker, queue: str, count: int) -> set[int]:
    """Read the jobs of a queue once there are so many."""
    async with connect([broker.url], "test", BEAT) as connection, connection.channel() as channel:
        await until_in_queue(connection, queue, count)
        declared, found = await channel.get_queue(queue), set[int]()
        while (message := await declared.get(fail=False, timeout=WITHIN_S)) is not None:
            found.add(int(message.body))
        return found


async def test_jobs_that_came_again_are_all_there_after_a_kill_and_no_other_is() -> None:
    names = Names("channels")
    async with PrivateBroker() as broker, AsyncExitStack() as rest:
        async with connect([broker.url], "test", BEAT) as connection:
            await declare(connection, topology(names, Retention("1h", 10_000_000)))
            async with AsyncExitStack() as first:
                before = await taking(first, broker, names)
                for number in range(JOBS):
                    await put_job(connection, names, b"%d" % number)
                for _ in range(JOBS):
                    await before.next()
                second = await taking(rest, broker, names)
        again = [await second.next() for _ in range(JOBS)]
        unsettled = {int(each.body) for each in again[::2]}
        await asyncio.gather(*(each.ack() for each in again[1::2]))
        # The broker has the acknowledgements once it has answered on the same connection.
        async with second.source.take_one_more():
            pass

        await broker.kill()
        await broker.start()

        assert await left_in(broker, names.jobs, len(unsettled)) == unsettled
