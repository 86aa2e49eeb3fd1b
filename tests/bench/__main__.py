"""Measure the worker beside a naive one, in turns, on this machine: CPU, memory, losses.

Each turn: N streams at once, R tokens a second each, over a private broker and the scripted
endpoint in a process of its own. CPU is user + system time of the worker process.
"""

import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
import pika
import psutil

from aimicromind_worker.adapters.connection import connect
from aimicromind_worker.adapters.topology import declare, remove
from aimicromind_worker.needs import needed_topology
from aimicromind_worker.settings import BrokerSettings
from aimicromind_worker.testing import PrivateBroker

_READY_WITHIN_S = 30
_TURN_WITHIN_S = 180
_SAMPLE_EVERY_S = 0.05
_WORKERS = ("naive", "aimicromind")


@dataclass(frozen=True)
class Load:
    """What one turn asks for."""

    streams: int
    tokens: int
    rate: int


@dataclass(frozen=True)
class Figures:
    """What one turn gave."""

    worker: str
    events: int
    lost: int
    disordered: int
    cpu_us_per_event: float
    idle_mb: float
    kb_per_stream: float


@click.command()
@click.option("--streams", default=200, show_default=True)
@click.option("--rate", default=20, show_default=True, help="Tokens per second and stream.")
@click.option("--tokens", default=100, show_default=True, help="Tokens per stream.")
@click.option("--turns", default=3, show_default=True, help="Turns of each worker.")
@click.option("--only", type=click.Choice(_WORKERS), help="Measure only this one.")
def main(streams: int, rate: int, tokens: int, turns: int, only: str | None) -> None:
    """Print a table of medians over the turns."""
    load = Load(streams, tokens, rate)
    asyncio.run(_measure(load, turns, (only,) if only else _WORKERS))


async def _measure(load: Load, turns: int, workers: tuple[str, ...]) -> None:
    print(f"{load.streams} streams, {load.rate} tokens/s each, {load.tokens} tokens, {turns} turns")
    figures: dict[str, list[Figures]] = {worker: [] for worker in workers}
    async with PrivateBroker() as broker, _process("testing.serve", "--port", "0") as (_, line):
        base_url = line.split()[1]
        for _turn in range(turns):
            for worker in workers:
                figures[worker].append(await _turn_of(worker, load, broker.url, base_url))
    print("| worker | events | lost | disordered | CPU µs/event | idle MB | KB/stream |")
    print("|---|---|---|---|---|---|---|")
    for worker, turns_of in figures.items():
        print(
            f"| {worker} | {turns_of[0].events} | {sum(f.lost for f in turns_of)} "
            f"| {sum(f.disordered for f in turns_of)} "
            f"| {statistics.median(f.cpu_us_per_event for f in turns_of):.1f} "
            f"| {statistics.median(f.idle_mb for f in turns_of):.1f} "
            f"| {statistics.median(f.kb_per_stream for f in turns_of):.1f} |"
        )


async def _turn_of(worker: str, load: Load, amqp_url: str, base_url: str) -> Figures:
    prefix = f"bench-{uuid4().hex[:8]}"
    settings = BrokerSettings.read(amqp_url=amqp_url, prefix=prefix)
    async with connect([amqp_url], "bench", settings.heartbeat) as connection:
        await declare(connection, needed_topology(settings))
        arguments = (amqp_url, prefix, str(load.streams))
        async with (
            _process("tests.bench.consumer", *arguments) as (consumer, _),
            _worker(worker, amqp_url, base_url, prefix, load.streams) as process,
        ):
            before = process.cpu_times()
            idle = process.memory_info().rss
            await asyncio.to_thread(_publish_jobs, amqp_url, prefix, load)
            peak, counted = await _until_told(consumer, process)
            after = process.cpu_times()
        await remove(connection, needed_topology(settings))
    # The product publishes the same events: start, tokens, metadata, end.
    expected = load.streams * (load.tokens + 3)
    used = after.user + after.system - before.user - before.system
    return Figures(
        worker,
        counted["events"],
        expected - counted["events"],
        counted["disordered"],
        used / max(counted["events"], 1) * 1e6,
        idle / 1e6,
        (peak - idle) / load.streams / 1e3,
    )


async def _until_told(
    consumer: asyncio.subprocess.Process, worker: psutil.Process
) -> tuple[int, dict[str, int]]:
    """Watch the worker's memory until the consumer says what it counted."""
    peak = 0
    assert consumer.stdout is not None
    told = asyncio.ensure_future(consumer.stdout.readline())
    async with asyncio.timeout(_TURN_WITHIN_S):
        while not told.done():
            peak = max(peak, worker.memory_info().rss)
            await asyncio.wait((told,), timeout=_SAMPLE_EVERY_S)
    return peak, json.loads(told.result())


def _publish_jobs(amqp_url: str, prefix: str, load: Load) -> None:
    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    for _ in range(load.streams):
        job = {
            "chatflowId": "load",
            "question": f"n={load.tokens} rate={load.rate}",
            "jobId": str(uuid4()),
        }
        channel.basic_publish("", f"{prefix}.jobs", json.dumps(job).encode())


@asynccontextmanager
async def _worker(
    worker: str, amqp_url: str, base_url: str, prefix: str, slots: int
) -> AsyncIterator[psutil.Process]:
    if worker == "naive":
        arguments = (amqp_url, base_url, prefix, str(slots))
        async with _process("tests.bench.naive", *arguments) as (process, _):
            yield psutil.Process(process.pid)
        return
    settings = {
        "AMQP_URL": amqp_url,
        "BASE_URL": base_url,
        "PREFIX": prefix,
        "CONCURRENCY": str(slots),
        "HEALTH_PORT": "0",
    }
    environment = {f"AIMICROMIND_{name}": value for name, value in settings.items()}
    async with _process(
        "aimicromind_worker", "run", ready="worker.ready", environment=environment
    ) as (process, _):
        yield psutil.Process(process.pid)


@asynccontextmanager
async def _process(
    module: str,
    *arguments: str,
    ready: str = "ready",
    environment: dict[str, str] | None = None,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a module until the end of the body, which begins when it says that it is ready."""
    name = f"aimicromind_worker.{module}" if module.startswith("testing") else module
    of_worker = environment is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        name,
        *arguments,
        env={**os.environ, **(environment or {})},
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.DEVNULL if of_worker else asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if of_worker else None,
    )
    output = process.stderr if of_worker else process.stdout
    assert output is not None
    draining = None
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while ready not in (line := (await output.readline()).decode()):
                if not line:
                    raise RuntimeError(f"{module} did not start")
        if of_worker:
            draining = asyncio.create_task(_discard(output))
        yield process, line
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if draining is not None:
            await draining


async def _discard(output: asyncio.StreamReader) -> None:
    while await output.read(65536):
        pass


if __name__ == "__main__":
    main()
