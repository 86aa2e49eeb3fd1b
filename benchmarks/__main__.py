"""Measure the worker beside what would be used instead: `python -m benchmarks --help`."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from benchmarks import cut, publishing
from benchmarks.chart import chart
from benchmarks.loads import MANY, QUICK, WHOLE, Load
from benchmarks.machine import this_machine
from benchmarks.programs import ROOT
from benchmarks.report import into_page, markdown
from benchmarks.results import Results
from benchmarks.turn import Figures, Stage, stage, turn
from benchmarks.workers import CELERY_PREFORK, COSTS, WORKERS, Worker

_DOCS = ROOT / "docs"
_Plan = list[tuple[Load, Worker]]


@click.command()
@click.option("--quick", is_flag=True, help="Fewer loads, shorter ones, one turn.")
@click.option("--turns", default=3, show_default=True, help="Turns of each worker and load.")
@click.option("--only", multiple=True, help="Measure only workers with this in their name.")
@click.option("--load", "loads", multiple=True, help="Measure only loads with this in their name.")
@click.option("--costs", is_flag=True, help="Also measure the worker without some of its parts.")
@click.option("--docs", is_flag=True, help="Write the figures into docs/performance.md.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for JSON and chart.")
def main(  # noqa: PLR0913 - one for each option
    *,
    quick: bool,
    turns: int,
    only: tuple[str, ...],
    loads: tuple[str, ...],
    costs: bool,
    docs: bool,
    out: Path | None,
) -> None:
    """Print tables of medians over the turns."""
    chosen = [it for it in (QUICK if quick else WHOLE) if _named(it.name, loads)]
    # Prefork takes long to start and to stop, and carries no load of interest.
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
    folder = _DOCS if docs else out
    if docs:
        into_page(_DOCS / "performance.md", text)
    if folder is not None:
        folder.mkdir(exist_ok=True)
        (folder / "performance.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
        (folder / "performance.svg").write_text(chart(results))


def _named(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(part in name for part in parts)


async def _measure(plan: _Plan, turns: int) -> Results:
    """Go through the plan turn by turn, so that all workers see the same machine."""
    figures: list[Figures] = []
    published: list[publishing.Published] = []
    async with stage() as on:
        machine = this_machine(on.broker.url)
        for number in range(turns):
            published += await publishing.compare(on)
            # Whoever comes first is another one in each turn.
            for load, worker in plan if number % 2 == 0 else plan[::-1]:
                figures.append(await _say(on, worker, load))
        cuts = [await cut.flood_with_cuts(on)]
    order = {(load.name, worker.name): place for place, (load, worker) in enumerate(plan)}
    # Stable: the turns of one worker and load stay in order.
    figures.sort(key=lambda it: order[it.load, it.worker])
    return Results(machine, figures, published, cuts)


async def _say(on: Stage, worker: Worker, load: Load) -> Figures:
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
