"""A FastStream subscriber that streams with httpx, and publishes each event by its broker.

Usage: python -m benchmarks.peers.fast_stream AMQP_URL BASE_URL PREFIX CONCURRENCY
"""

import asyncio
import json
import sys

import httpx
from faststream import FastStream
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from benchmarks.peers.messages import PeerEvent, PeerFrame, PeerJob


async def work(amqp_url: str, base_url: str, prefix: str, concurrency: int) -> None:
    """Run jobs until the process is ended."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    client = httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits, trust_env=False)
    # Without its log line for each job.
    broker = RabbitBroker(amqp_url, default_channel=Channel(concurrency), logger=None)
    events = RabbitExchange(f"{prefix}.events", type=ExchangeType.TOPIC, durable=True)

    async def carry(job: PeerJob) -> None:
        seq = 0
        async with client.stream("POST", job.path, json=job.request) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                frame = PeerFrame.model_validate(json.loads(line[5:]))
                out = PeerEvent(jobId=job.jobId, seq=seq, event=frame.event, data=frame.data)
                seq += 1
                await broker.publish(
                    out, exchange=events, routing_key=out.routing_key, persist=True
                )

    broker.subscriber(RabbitQueue(f"{prefix}.jobs", durable=True))(carry)

    async def say_ready() -> None:
        print("ready", flush=True)

    await FastStream(broker, logger=None, after_startup=[say_ready]).run()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
