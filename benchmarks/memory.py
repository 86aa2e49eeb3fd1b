"""Measure memory and pauses of a worker with jobs of 8 MiB: `python -m benchmarks.memory`.

Each line is a new worker on a real broker. A pause is the longest wait of a health probe. On a
busy machine, its CPU time shows how much of it the worker itself took.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aio_pika

from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Stage, stage, working
from benchmarks.turns.workers import PRODUCT, TurnPlace
from tests.support.strain import Strain, strain_on

LONGEST: Final = 8 * 1024 * 1024
_REST_BYTES: Final = 1024
_IDLE_S: Final = 2.0
_WITHIN_S: Final = 300.0
# Long enough for 32 jobs of 8 MiB to run at once; a job alone has nothing to wait for.
_AT_ONCE, _ALONE = "n=40 rate=4", "n=40 rate=40"


@dataclass(frozen=True, slots=True)
class LargeJobs:
    """Large jobs that are submitted together.

    Attributes:
        name: Name in the table.
        filling: JSON of about 8 MiB, the value of a member that the worker only passes on.
        count: Number of jobs.
        member: Name of that member.
    """

    name: str
    filling: bytes
    count: int
    member: str = "history"


def filled(piece: bytes) -> bytes:
    """Return a JSON list with as many pieces as fit into a job."""
    count = (LONGEST - _REST_BYTES) // (len(piece) + 1)
    return b"[" + b",".join([piece] * count) + b"]"


def cases() -> Sequence[LargeJobs]:
    """Return the jobs of each line."""
    text = b'"%b"' % (b"x" * (LONGEST - _REST_BYTES))
    return (
        LargeJobs("one job, 8 MiB of text", text, 1),
        LargeJobs("one job, 8 MiB of []", filled(b"[]"), 1),
        LargeJobs("one job, 8 MiB of small objects", filled(b'{"role":"user","content":"x"}'), 1),
        LargeJobs("32 jobs, 8 MiB of text each", text, 32),
        LargeJobs("32 jobs, 8 MiB of [] each", filled(b"[]"), 32),
    )


def job(number: int, case: LargeJobs) -> bytes:
    """Return the body of a job."""
    question = _AT_ONCE if case.count > 1 else _ALONE
    fields = {"chatflowId": "load", "question": question, "jobId": f"job-{number:06d}"}
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


async def measured(
    on: Stage, case: LargeJobs, idle_s: float = _IDLE_S
) -> tuple[Strain, Strain, int]:
    """Return the strain on the worker while idle, that with the jobs, and how many completed."""
    place = on.place(slots=32)
    async with queues(place, PRODUCT), working(on, place, PRODUCT) as worker:
        listening = json.loads(await worker.says("health.listening", 10))
        url = f"http://{listening['host']}:{listening['port']}"
        with strain_on(worker.pid, url) as idle:
            await asyncio.sleep(idle_s)
        with strain_on(worker.pid, url) as strain:
            completed = await _carried(place, case)
        return idle, strain, completed


async def _carried(place: TurnPlace, case: LargeJobs) -> int:
    """Submit the jobs, wait until each has ended, and return how many completed."""
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
