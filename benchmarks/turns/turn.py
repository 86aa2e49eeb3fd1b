"""Measure one worker under one load, between a broker, an endpoint and a consumer."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from aimicromind_testing import PrivateBroker
from benchmarks.parts.consumer import PATIENCE_S
from benchmarks.parts.programs import Program
from benchmarks.parts.tally import Count
from benchmarks.turns.loads import Load
from benchmarks.turns.queues import queues
from benchmarks.turns.workers import MeasuredWorker, TurnPlace
from tests.support.strain import cpu_s

_SAMPLE_EVERY_S: Final = 0.1
# Time for the last confirms, and for the acknowledgements of the jobs.
_SETTLE_S: Final = 0.3
_WARM_UP: Final = Load(10, 50, 20)


class Figures(msgspec.Struct, frozen=True):
    """Figures of one turn. CPU time is user and system time.

    Attributes:
        worker: Name of the worker.
        load: Name of the load.
        count: Counts of the consumer.
        cpu_us: CPU time of the worker for an event, in µs.
        broker_cpu_us: CPU time of the broker for an event, in µs.
        events_per_s: Events received a second.
        kb_per_stream: Memory that the load added at most, divided by its streams, in KB.
        idle_mb: Memory of the ready worker before any job.
        ready_s: Time from its start until it was ready.
        ready_cpu_s: CPU time in that time.
        endpoint_busy: CPU time of the endpoint by duration: 1 is a whole core.
        consumer_busy: CPU time of the consumer by duration.
    """

    worker: str
    load: str
    count: Count
    cpu_us: float
    broker_cpu_us: float
    events_per_s: float
    kb_per_stream: float
    idle_mb: float
    ready_s: float
    ready_cpu_s: float
    endpoint_busy: float
    consumer_busy: float


@dataclass(frozen=True, slots=True)
class Stage:
    """Broker and endpoint, which all turns of a run share."""

    broker: PrivateBroker
    endpoint: Program
    base_url: str
    folder: Path

    def place(self, slots: int) -> TurnPlace:
        """Return the addresses of a turn, with a prefix that no other turn has."""
        return TurnPlace(self.broker.url, self.base_url, f"bench-{uuid4().hex[:8]}", slots)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Run broker and endpoint for the time of the body."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        broker = await stack.enter_async_context(PrivateBroker())
        endpoint = Program(module("parts.endpoint"), folder / "endpoint.log")
        await stack.enter_async_context(endpoint)
        line = await endpoint.ready("ready")
        yield Stage(broker, endpoint, line.split()[1], folder)


async def turn(stage: Stage, worker: MeasuredWorker, load: Load) -> Figures:
    """Run a worker under a load, and return the figures."""
    place = stage.place(load.streams)
    warm_ups = min(_WARM_UP.streams, load.streams)
    async with (
        queues(place, worker),
        consuming(stage, place, load, warm_ups) as consumer,
        working(stage, place, worker) as program,
    ):
        idle_mb = program.rss_bytes() / 1e6
        await worker.send(place, jobs("warm", warm_ups, _WARM_UP))
        await consumer.says("warm", 30)

        def used() -> tuple[float, ...]:
            ours = (each.cpu_s() for each in (program, consumer, stage.endpoint))
            return *ours, cpu_s(stage.broker.pid)

        warm, before = program.rss_bytes(), used()
        await worker.send(place, jobs("job", load.streams, load))
        count, peak = await _count(consumer, program)
        await asyncio.sleep(_SETTLE_S)
        spent = [now - then for now, then in zip(used(), before, strict=True)]
    of_worker, of_consumer, of_endpoint, of_broker = spent
    events, seconds = max(count.events, 1), max(count.seconds, 1e-3)
    return Figures(
        worker=worker.name,
        load=load.name,
        count=count,
        cpu_us=of_worker / events * 1e6,
        broker_cpu_us=of_broker / events * 1e6,
        events_per_s=count.events / seconds,
        kb_per_stream=max(0, peak - warm) / load.streams / 1e3,
        idle_mb=idle_mb,
        ready_s=program.ready_s,
        ready_cpu_s=program.ready_cpu_s,
        endpoint_busy=of_endpoint / seconds,
        consumer_busy=of_consumer / seconds,
    )


async def _count(consumer: Program, worker: Program) -> tuple[Count, int]:
    """Wait for the consumer's counts; return them with the worker's most memory in bytes."""
    peak = worker.rss_bytes()
    result = asyncio.ensure_future(consumer.says("{", PATIENCE_S + 20))
    while not result.done():
        await asyncio.wait((result,), timeout=_SAMPLE_EVERY_S)
        peak = max(peak, worker.rss_bytes())
    return msgspec.json.decode(await result, type=Count), peak


@asynccontextmanager
async def consuming(
    stage: Stage, place: TurnPlace, load: Load, warm_ups: int
) -> AsyncIterator[Program]:
    """Run a consumer for a load, with `warm_ups` jobs before it."""
    told = map(str, (load.streams, load.events_of_a_job, warm_ups))
    command = (*module("parts.consumer"), place.amqp_url, place.prefix, *told)
    async with Program(command, stage.folder / "consumer.log") as consumer:
        await consumer.ready("ready")
        yield consumer


@asynccontextmanager
async def working(stage: Stage, place: TurnPlace, worker: MeasuredWorker) -> AsyncIterator[Program]:
    """Run a worker, which is ready, for the time of the body."""
    command, environment = worker.program(place)
    async with Program(command, stage.folder / "worker.log", environment) as program:
        await program.ready(worker.ready)
        yield program


def module(name: str) -> tuple[str, ...]:
    """Return the command line of a module of the benchmarks."""
    return sys.executable, "-m", f"benchmarks.{name}"


def jobs(name: str, count: int, load: Load) -> list[dict[str, str]]:
    """Return the jobs of a load."""
    return [
        {"chatflowId": "load", "question": load.question, "jobId": f"{name}-{number:06d}"}
        for number in range(count)
    ]
