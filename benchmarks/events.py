"""Measure what an event costs, beside another revision: `python -m benchmarks.events --help`.

The workers of both revisions run all the time, on one broker, and get each load in turns. Thus the
two figures of a pair are taken within seconds: a busy machine's speed varies by more than what is
looked for.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import msgspec

from benchmarks.parts.consumer import PATIENCE_S
from benchmarks.parts.programs import Program
from benchmarks.parts.tally import Count
from benchmarks.pools.options import CACHE
from benchmarks.pools.versions import Version, versions
from benchmarks.turns.loads import FLOODING, MANY, SHORT, Load
from benchmarks.turns.turn import Stage, consuming, jobs, stage, working
from benchmarks.turns.workers import PRODUCT, TurnPlace
from tests.support.strain import cpu_s

_LOADS: Final = (FLOODING, MANY, SHORT)
_SETTLE_S: Final = 0.3
_HEAD: Final = (
    "| load | pairs | CPU before, µs/event | now | now / before | least to most "
    "| of the broker, now / before | events/s, now / before |"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one turn cost: CPU of worker and broker in µs/event, and events a second."""

    worker_us: float
    broker_us: float
    events_per_s: float


Pair = tuple[Cost, Cost]
"""The costs of two turns, one after the other: before and now."""


@dataclass(frozen=True, slots=True)
class _Running:
    on: Stage
    place: TurnPlace
    program: Program

    async def cost(self, load: Load, name: str) -> Cost:
        """Have the worker carry a load, under a name that no other turn has."""
        async with consuming(self.on, self.place, load, warm_ups=0) as consumer:
            worker_s, broker_s = self.program.cpu_s(), cpu_s(self.on.broker.pid)
            await PRODUCT.send(self.place, jobs(name, load.streams, load))
            count = msgspec.json.decode(await consumer.says("{", PATIENCE_S), type=Count)
            await asyncio.sleep(_SETTLE_S)
        if count.wrong or count.events != load.streams * load.events_of_a_job:
            raise click.ClickException(f"{load.name}: {count.wrong} events are wrong: {count}")
        each_us = 1e6 / count.events
        return Cost(
            worker_us=(self.program.cpu_s() - worker_s) * each_us,
            broker_us=(cpu_s(self.on.broker.pid) - broker_s) * each_us,
            events_per_s=count.events / count.seconds,
        )


@click.command()
@click.option("--beside", metavar="REVISION", required=True, help="The other revision of git.")
@CACHE
@click.option(
    "--pairs", type=click.IntRange(min=1), default=9, show_default=True, help="Pairs of each load."
)
@click.option("--load", "named", multiple=True, help="Measure only loads with this text in it.")
def main(*, beside: str, cache: Path | None, pairs: int, named: tuple[str, ...]) -> None:
    """Print what an event costs the workers of both revisions."""
    loads = [load for load in _LOADS if not named or any(part in load.name for part in named)]
    with versions(beside, cache) as (before, now):
        print(_HEAD)
        print("|---|" + "---:|" * (_HEAD.count("|") - 2))
        for load in loads:
            print(row(load, asyncio.run(compare(before, now, load, pairs))), flush=True)


async def compare(before: Version, now: Version, load: Load, count: int) -> list[Pair]:
    """Return so many pairs of one load; the first turn of each worker does not count."""
    async with stage() as on, AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(_running(on, version, load))
            for version in (before, now)
        ]
        pairs = list[Pair]()
        for number in range(count + 1):
            # The order alternates: the second may find the machine in another state.
            turns = (first, second) if number % 2 else (second, first)
            costs = [await it.cost(load, f"job{number}") for it in turns]
            pairs.append((costs[0], costs[1]) if number % 2 else (costs[1], costs[0]))
        return pairs[1:]


@asynccontextmanager
async def _running(on: Stage, version: Version, load: Load) -> AsyncIterator[_Running]:
    place, folder = on.place(load.streams), on.folder / version.column
    folder.mkdir()

    def program(place: TurnPlace) -> tuple[tuple[str, ...], dict[str, str]]:
        (_, *arguments), environment = PRODUCT.program(place)
        return (str(version.command), *arguments), dict(environment)

    of_its_own = replace(on, folder=folder)
    # The worker declares the topology of its version itself.
    async with working(of_its_own, place, replace(PRODUCT, program=program)) as running:
        yield _Running(of_its_own, place, running)


def row(load: Load, pairs: Sequence[Pair]) -> str:
    """Return the line of a load: medians over the pairs."""

    def median(figure: Callable[[Pair], float]) -> float:
        return statistics.median(map(figure, pairs))

    ratios = [now.worker_us / before.worker_us for before, now in pairs]
    cells = (
        load.name,
        f"{len(pairs)}",
        f"{median(lambda it: it[0].worker_us):.1f}",
        f"{median(lambda it: it[1].worker_us):.1f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{median(lambda it: it[1].broker_us / it[0].broker_us):.2f}",
        f"{median(lambda it: it[1].events_per_s / it[0].events_per_s):.2f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
