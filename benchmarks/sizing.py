"""Measure what streams cost, and print how large a pool for 50, 500 and 2,000 must be.

`python -m benchmarks.sizing`. Answers have 300 tokens at 20 a second. The costs of an event and of
a job's disk space are measured; the rest of the table is computed from them, see `row`.
"""

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.parts.consumer import PATIENCE_S
from benchmarks.turns.loads import FLOOD, Load
from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Figures, Stage, consuming, jobs, stage, turn, working
from benchmarks.turns.workers import PRODUCT

_RATE: Final = 20
_TOKENS: Final = 300
_TURNS: Final = 3
_SMALL: Final = Load(50, _RATE, _TOKENS)
_LARGE: Final = Load(500, _RATE, _TOKENS)
_WRITTEN: Final = Load(100, FLOOD, _TOKENS)
_DAY_S: Final = 86_400
# Of the settings with these names, their defaults.
_HELD_MB: Final = 256 * 1.048576
_COPIES_OF_HELD: Final = 5
_LOG_BYTES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool to compute.

    Attributes:
        streams: Answers that run at the same time, all day.
        concurrency: Jobs that one worker runs at a time.
        measured: The load whose costs count for it.
    """

    streams: int
    concurrency: int
    measured: Load


_POOLS: Final = (Pool(50, 32, _SMALL), Pool(500, 200, _LARGE), Pool(2_000, 250, _LARGE))


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that the broker's streams took on disk.

    Attributes:
        event: Of the event log, for an event.
        job: Of journal and endings, for a job.
    """

    event: float
    job: float


def row(pool: Pool, costs: Figures, disk: Disk) -> str:
    """Return the row of a pool.

    One worker more than needed runs, so that the loss of one delays no job. Its memory limit has
    room for five copies of all jobs that it may hold.
    """
    job_s = _TOKENS / _RATE
    events_per_s = pool.streams / job_s * pool.measured.events_of_a_job
    replicas = math.ceil(pool.streams / pool.concurrency) + 1
    of_streams = pool.concurrency * costs.kb_per_stream / 1e3
    limit_mb = costs.idle_mb + of_streams + _COPIES_OF_HELD * _HELD_MB
    log_per_s = events_per_s * disk.event
    others = pool.streams / job_s * disk.job * _DAY_S
    cells = (
        f"{pool.streams:,}",
        f"{events_per_s:,.0f}",
        f"{replicas} x {pool.concurrency}",
        f"{events_per_s * costs.cpu_us / 1e6:.2f}",
        f"{limit_mb / 1.048576:,.0f} MiB",
        f"{events_per_s * costs.broker_cpu_us / 1e6:.2f}",
        f"{log_per_s * _DAY_S / 1e9:,.0f} GB",
        f"{_LOG_BYTES / log_per_s / 60:,.0f} min",
        f"{others / 1e9:,.1f} GB",
    )
    return f"| {' | '.join(cells)} |"


async def main() -> None:
    """Print the measured costs, and the table."""
    async with stage() as on:
        disk = await _disk(on)
        costs = {load: await _median(on, load) for load in (_SMALL, _LARGE)}
    print("| measured | CPU, µs/event | broker, µs/event | KB/stream | idle, MB | wrong |")
    print("|---|---:|---:|---:|---:|---:|")
    for load, its in costs.items():
        cpu = f"{its.cpu_us:.1f} | {its.broker_cpu_us:.1f}"
        memory = f"{its.kb_per_stream:.0f} | {its.idle_mb:.0f}"
        print(f"| {load.name} | {cpu} | {memory} | {its.count.wrong} |")
    print(f"\nOn disk: {disk.event:.0f} bytes an event, and {disk.job:,.0f} bytes a job.\n")
    print(
        "| streams | events/s | workers x concurrency | CPU of all workers, cores "
        "| memory limit of a worker | CPU of the broker, cores | event log a day "
        "| 2 GB of it are | journal and endings a day |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for pool in _POOLS:
        print(row(pool, costs[pool.measured], disk), flush=True)


async def _median(on: Stage, load: Load) -> Figures:
    found = sorted([await turn(on, PRODUCT, load) for _ in range(_TURNS)], key=_cpu)
    return found[_TURNS // 2]


def _cpu(figures: Figures) -> float:
    return figures.cpu_us


async def _disk(on: Stage) -> Disk:
    """Write the events of a load, and return how much the streams grew."""
    place = on.place(_WRITTEN.streams)
    async with (
        queues(place, PRODUCT),
        consuming(on, place, _WRITTEN, 0) as consumer,
        working(on, place, PRODUCT),
    ):
        folder = Path((await on.broker.rabbitmqctl("eval", "rabbit_mnesia:dir().")).strip(' "\n'))
        before = _sizes(folder, place.prefix)
        await PRODUCT.send(place, jobs("job", _WRITTEN.streams, _WRITTEN))
        await consumer.says("{", PATIENCE_S + 20)
        log, others = (
            now - then for now, then in zip(_sizes(folder, place.prefix), before, strict=True)
        )
    events = _WRITTEN.streams * _WRITTEN.events_of_a_job
    return Disk(log / events, others / _WRITTEN.streams)


def _sizes(folder: Path, prefix: str) -> tuple[int, int]:
    """Return the bytes of the event log, and those of journal and endings."""

    def size(name: str) -> int:
        # The broker writes `_` for each dot of a stream's name.
        files = (folder / "stream").glob(f"*{prefix}_{name}*/*")
        return sum(file.stat().st_size for file in files)

    return size("events_log"), size("journal") + size("endings")


if __name__ == "__main__":
    asyncio.run(main())
