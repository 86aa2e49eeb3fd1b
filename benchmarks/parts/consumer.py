"""Consume all events, and count what is lost, repeated, out of order and late.

Usage: python -m benchmarks.parts.consumer AMQP_URL PREFIX JOBS EVENTS WARM_UPS

It prints `ready`, then `warm` after WARM_UPS ends of jobs whose ids begin with `warm`. These do
not count. In the end it prints a Count as JSON.
"""

import asyncio
import gc
import json
import re
import sys
import time
from dataclasses import asdict

import uvloop
from pamqp import commands

from benchmarks.parts.amqp import AmqpProtocol
from benchmarks.parts.tally import EventTally

PATIENCE_S = 240.0
BINDING = "chat.#"
"""As docs/queues.md has it. By `#`, the number of each event's partition would fit, too."""
_EVENT = re.compile(
    rb'"jobId": ?"([^"]+)".*?"seq": ?(\d+).*?"event": ?"(\w+)", ?"data": ?(?:"(\d{19}) (\d{7}) )?'
)


class Consumer:
    """Reads the bodies of messages."""

    def __init__(self, jobs: int, warm_ups: int) -> None:
        self.tally = EventTally()
        self.all_ended = asyncio.Event()
        self._jobs = jobs
        self._warm_ups = warm_ups

    def take(self, body: bytes, _tag: int) -> None:
        """Count a message.

        Raises:
            ValueError: It has no event.
        """
        now = time.time_ns()
        found = _EVENT.search(body)
        if found is None:
            raise ValueError(f"a body of {len(body)} bytes is no event")
        job, seq, name, emitted, number = found.groups()
        if job.startswith(b"warm"):
            self._take_warm_up(name)
            return
        self.tally.take(job, int(seq), now)
        if emitted:
            self.tally.take_token(job, int(number), int(emitted), now)
        elif name == b"end":
            self.tally.ended.add(job)
            if len(self.tally.ended) == self._jobs:
                self.all_ended.set()

    def _take_warm_up(self, name: bytes) -> None:
        self._warm_ups -= name == b"end"
        if name == b"end" and not self._warm_ups:
            print("warm", flush=True)


async def consume(url: str, prefix: str, jobs: int, events: int, warm_ups: int) -> None:
    """Consume until all jobs have ended, for `PATIENCE_S` at most, and print the count."""
    consumer = Consumer(jobs, warm_ups)
    protocol = await AmqpProtocol.open(url)
    protocol.on_body = consumer.take
    queue = f"consumer-of-{prefix}"
    await protocol.asks(commands.Queue.Declare(queue=queue, exclusive=True))
    await protocol.asks(
        commands.Queue.Bind(queue=queue, exchange=f"{prefix}.events", routing_key=BINDING)
    )
    await protocol.asks(commands.Basic.Consume(queue=queue, no_ack=True))
    gc.freeze()
    print("ready", flush=True)
    try:
        await asyncio.wait_for(consumer.all_ended.wait(), PATIENCE_S)
    except TimeoutError:
        print(f"not all jobs ended within {PATIENCE_S:g} s", flush=True)
    print(json.dumps(asdict(consumer.tally.count(jobs, events))), flush=True)
    # The process must run on, because its CPU time is read afterwards.
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(consume(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))
