"""Measure the worker beside its peers: `python -m benchmarks --help`."""

import asyncio
import time
from collections.abc import Sequence

import click
import msgspec

from benchmarks.report.chart import chart
from benchmarks.report.machine import this_machine
from benchmarks.report.markdown import into_page, markdown
from benchmarks.report.results import Results
from benchmarks.turns import cut, publishing
from benchmarks.turns.loads import MANY, QUICK, WHOLE, Load
from benchmarks.turns.turn import Figures, Stage, stage, turn
from benchmarks.turns.workers import CELERY_PREFORK, COSTS, WORKERS, MeasuredWorker
from tools.generated import TOP

_DOCS = TOP / "docs"
_Plan = list[tuple[Load, MeasuredWorker]]


@click.command()
@click.option("--quick", is_flag=True, help="Measure fewer and shorter loads, in one turn.")
@click.option("--turns", default=3, show_default=True, help="Number of turns.")
@click.option("--only", multiple=True, help="Measure only workers with this text in their name.")
@click.option("--load", "loads", multiple=True, help="Measure only loads with this text in it.")
@click.option("--costs", is_flag=True, help="Also measure the worker without some of its parts.")
@click.option("--docs", is_flag=True, help="Write figures and chart into docs/.")
def main(
    *,
    quick: bool,
    turns: int,
    only: tuple[str, ...],
    loads: tuple[str, ...],
    costs: bool,
    docs: bool,
) -> None:
    """Print tables of medians over the turns."""
    chosen = [it for it in (QUICK if quick else WHOLE) if _named(it.name, loads)]
    # Prefork takes long to start and to stop, and can run small loads only.
    workers = [
        it for it in WORKERS if _named(it.name, only) and not (quick and it == CELERY_PREFORK)
    ]
    plan = [
        (load, worker)
        for load in chosen
        for worker in (*workers, *(COSTS if costs and load.name == MANY.name else ()))
        if worker.fits(load)
    ]
    results = asyncio.run(_measure(plan, 1 if quick else turns))
    text = markdown(results)
    print(text)
    if docs:
        into_page(_DOCS / "performance.md", text)
        (_DOCS / "performance.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
        (_DOCS / "performance.svg").write_text(chart(results))


def _named(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(part in name for part in parts)


async def _measure(plan: _Plan, turns: int) -> Results:
    """Measure the plan turn by turn. Thus a busy machine affects all workers alike."""
    figures: list[Figures] = []
    published: list[publishing.Published] = []
    async with stage() as on:
        machine = this_machine(on.broker.url)
        for number in range(turns):
            published += await publishing.compare(on)
            # The order alternates, because a machine may warm up.
            for load, worker in plan if number % 2 == 0 else plan[::-1]:
                figures.append(await _printed(on, worker, load))
        cuts = [await cut.flood_with_cuts(on)]
    order = {(load.name, worker.name): place for place, (load, worker) in enumerate(plan)}
    # The sort is stable: turns of one worker and load stay in order.
    figures.sort(key=lambda it: order[it.load, it.worker])
    return Results(machine, figures, published, cuts)


async def _printed(on: Stage, worker: MeasuredWorker, load: Load) -> Figures:
    """Measure one turn, and print a line about it on stderr."""
    began = time.monotonic()
    found = await turn(on, worker, load)
    took_s = time.monotonic() - began
    click.echo(
        f"{load.name}, {worker.name}: {found.cpu_us:.1f} µs/event, {found.events_per_s:.0f}/s, "
        f"p99 {found.count.p99_ms:.1f} ms, {found.count.wrong} wrong ({took_s:.0f} s)",
        err=True,
    )
    return found


if __name__ == "__main__":
    main()
