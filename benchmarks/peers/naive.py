"""A simple worker: lines of httpx, pydantic models, and one awaited publish for each event.

Usage: python -m benchmarks.peers.naive AMQP_URL BASE_URL PREFIX CONCURRENCY
"""

import asyncio
import json
import sys

import aio_pika
import httpx
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.peers.messages import PeerEvent, PeerFrame, PeerJob


async def work(amqp_url: str, base_url: str, prefix: str, concurrency: int) -> None:
    """Run jobs until the process is ended."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    client = httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits, trust_env=False)
    connection = await aio_pika.connect_robust(amqp_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=concurrency)
    events = await channel.get_exchange(f"{prefix}.events")
    jobs = await channel.get_queue(f"{prefix}.jobs")

    async def carry(message: AbstractIncomingMessage) -> None:
        async with message.process():
            job = PeerJob.model_validate_json(message.body)
            seq = 0
            async with client.stream("POST", job.path, json=job.request) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    frame = PeerFrame.model_validate(json.loads(line[5:]))
                    out = PeerEvent(jobId=job.jobId, seq=seq, event=frame.event, data=frame.data)
                    seq += 1
                    await events.publish(
                        aio_pika.Message(
                            out.model_dump_json().encode(),
                            content_type="application/json",
                            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        ),
                        routing_key=out.routing_key,
                    )

    await jobs.consume(carry)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
