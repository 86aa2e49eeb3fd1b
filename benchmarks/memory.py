"""Jobs of 8 MiB: what do they cost a worker that only passes their bytes on?

`python -m benchmarks.memory` prints the memory they take of one real worker on a real broker, and
the longest that its event loop left a probe waiting. On a busy machine, the CPU time of that wait
tells how much of it was the worker's own. Each line is a worker of its own.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aio_pika

from benchmarks.queues import queues
from benchmarks.turn import Stage, stage, working
from benchmarks.workers import PRODUCT, Place
from tests.support.strain import Strain, strain_on

LONGEST: Final = 8 * 1024 * 1024
_ROOM: Final = 1024
_IDLE_S: Final = 2.0
_WITHIN_S: Final = 300.0
# Long enough for 32 jobs of 8 MiB to be held at once.
_WISH: Final = "n=40 rate=4"


@dataclass(frozen=True, slots=True)
class Case:
    """Jobs that are put on the queue together.

    Attributes:
        name: What they are called in the table.
        filling: JSON of about 8 MiB, the value of a member that only travels.
        count: How many there are.
        member: Its name.
    """

    name: str
    filling: bytes
    count: int
    member: str = "history"


def filled(piece: bytes) -> bytes:
    """Write a list of as many pieces as fit into a job."""
    count = (LONGEST - _ROOM) // (len(piece) + 1)
    return b"[" + b",".join([piece] * count) + b"]"


def cases() -> Sequence[Case]:
    """Give what is measured."""
    text = b'"%b"' % (b"x" * (LONGEST - _ROOM))
    return (
        Case("one job, 8 MiB of text", text, 1),
        Case("one job, 8 MiB of []", filled(b"[]"), 1),
        Case("one job, 8 MiB of small objects", filled(b'{"role":"user","content":"x"}'), 1),
        Case("32 jobs, 8 MiB of text each", text, 32),
        Case("32 jobs, 8 MiB of [] each", filled(b"[]"), 32),
    )


def job(number: int, case: Case) -> bytes:
    """Write a job that is filled."""
    fields = {"chatflowId": "load", "question": _WISH, "jobId": f"job-{number:06d}"}
    return json.dumps(fields).encode()[:-1] + b',"%b":%b}' % (
        case.member.encode(),
        case.filling,
    )


async def main() -> None:
    """Print the table."""
    print(
        "| jobs | completed | idle, MB | grown by, MB | probe waited, ms | idle, ms | its CPU, ms |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    async with stage() as on:
        for case in cases():
            idle, strain, completed = await measured(on, case)
            figures = f"{completed} | {strain.before_mb:.0f} | {strain.grown_mb:.0f}"
            waits = f"{strain.longest_s * 1e3:.0f} | {idle.longest_s * 1e3:.0f}"
            still = f"{waits} | {strain.busiest_s * 1e3:.0f}"
            print(f"| {case.name} | {figures} | {still} |", flush=True)


async def measured(on: Stage, case: Case) -> tuple[Strain, Strain, int]:
    """Give what a worker shows while it has nothing to do, and while it carries the jobs.

    The third is how many of them completed.
    """
    place = on.place(slots=32)
    async with queues(place, PRODUCT), working(on, place, PRODUCT) as worker:
        listening = json.loads(await worker.says("health.listening", 10))
        url = f"http://{listening['host']}:{listening['port']}"
        with strain_on(worker.pid, url) as idle:
            await asyncio.sleep(_IDLE_S)
        with strain_on(worker.pid, url) as strain:
            completed = await _carried(place, case)
        return idle, strain, completed


async def _carried(place: Place, case: Case) -> int:
    """Put the jobs on the queue and wait until each has ended; count those that completed."""
    statuses: list[str] = []
    async with await aio_pika.connect(place.amqp_url) as connection:
        channel = await connection.channel()
        ends = await channel.declare_queue(exclusive=True)
        await ends.bind(f"{place.prefix}.events", "chat.*.end")
        for number in range(case.count):
            message = aio_pika.Message(job(number, case), delivery_mode=2)
            await channel.default_exchange.publish(message, f"{place.prefix}.jobs")
        async with ends.iterator() as coming, asyncio.timeout(_WITHIN_S):
            async for end in coming:
                await end.ack()
                statuses.append(json.loads(end.body)["data"]["status"])
                if len(statuses) == case.count:
                    break
    return statuses.count("completed")


if __name__ == "__main__":
    asyncio.run(main())
