"""How fast jobs that expired in the queue are ended: `python -m benchmarks.expired`."""

import asyncio
import time
from uuid import uuid4

import click
from aio_pika import Message
from aio_pika.abc import AbstractChannel

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.app.build import broker_connection, needed_topology
from aimicromind_worker.app.settings import Settings
from tests.integration.workers import working
from tests.support.builders import a_job

_AT_A_TIME = 500
_WITHIN_S = 600.0


@click.command()
@click.option("--jobs", default=10_000, show_default=True)
def main(jobs: int) -> None:
    """Put jobs on a queue without workers until they expire, then start one worker."""
    asyncio.run(_measure(jobs))


async def _measure(jobs: int) -> None:
    async with PrivateBroker() as broker:
        settings = Settings.read(
            amqp_url=broker.url, base_url="http://127.0.0.1:9", log_level="error", health_port=0
        )
        names = Names(settings.prefix)
        async with broker_connection(settings, "bench") as connection:
            await declare(connection, needed_topology(settings))
            async with connection.channel() as channel:
                for begin in range(0, jobs, _AT_A_TIME):
                    await asyncio.gather(
                        *(_put(channel, names) for _ in range(begin, begin + _AT_A_TIME))
                    )
                await _until(channel, names.jobs_reaped, jobs)
                async with working(settings):
                    began = time.monotonic()
                    await _until(channel, names.jobs_dead, jobs)
                    took_s = time.monotonic() - began
    print(f"{jobs:,} expired jobs ended in {took_s:.1f} s: {jobs / took_s:,.0f}/s")


async def _put(channel: AbstractChannel, names: Names) -> None:
    job_id = str(uuid4())
    job = Message(a_job(jobId=job_id, chatId=job_id), message_id=job_id, expiration=0.001)
    await channel.default_exchange.publish(job, names.jobs)


async def _until(channel: AbstractChannel, queue: str, count: int) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while True:
            declared = await channel.declare_queue(queue, passive=True)
            if (declared.declaration_result.message_count or 0) >= count:
                return
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
