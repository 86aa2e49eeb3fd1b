"""A consumer with `Client.consume`.

Usage: python -m benchmarks.consumers.with_client AMQP_URL PREFIX FILE
"""

import asyncio
import sys
from datetime import timedelta

from aimicromind_schemas import EndEvent
from aimicromind_schemas.client import Client, ConsumerOptions
from benchmarks.consumers.work import AT_ONCE, DELAYS_MS, Work

OPTIONS = ConsumerOptions(AT_ONCE, [timedelta(milliseconds=it) for it in DELAYS_MS])


async def main(url: str, prefix: str, noted_in: str) -> None:
    work = Work(noted_in)

    async def on_end(event: EndEvent) -> None:
        await work.on_end(event.job_id)

    async with Client.open(url, prefix) as client:
        await client.consume("billing", {"end": on_end}, OPTIONS)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
