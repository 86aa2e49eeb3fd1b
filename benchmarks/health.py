"""How the health port bears floods: `python -m benchmarks.health` prints it for each of them.

Each flood meets a worker of its own, which takes jobs. Meanwhile `/livez` is asked for again and
again, by a new connection each time, as an orchestrator does it.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import click
import psutil

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.stage import set_up
from tests.support.floods import FLOODS
from tests.support.probes import probe_under

_WIDTH: Final = 12


@click.command()
@click.option("--megabytes", default=200, show_default=True, help="Sent by a flood at most.")
@click.option("--seconds", default=10.0, show_default=True, help="The longest that it lasts.")
@click.argument("names", nargs=-1, type=click.Choice([*FLOODS]))
def main(*, megabytes: int, seconds: float, names: Sequence[str]) -> None:
    """Print the slowest answer and the most memory under floods, all of them if none is named."""
    asyncio.run(_run(names or [*FLOODS], megabytes, seconds))


async def _run(floods: Sequence[str], megabytes: int, seconds: float) -> None:
    columns = (
        *("connections", "sent MB", "answers", "none", "median ms"),
        *("slowest ms", "memory MB", "most MB", "CPU s"),
    )
    print(f"| {'flood':{_WIDTH}} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    async with PrivateBroker() as broker:
        for flood in floods:
            told = await _figures(broker, flood, megabytes, seconds)
            cells = (f"{it:{len(name)},.4g}" for it, name in zip(told, columns, strict=True))
            print(f"| {flood:{_WIDTH}} | {' | '.join(cells)} |", flush=True)


async def _figures(
    broker: PrivateBroker, flood: str, megabytes: int, seconds: float
) -> tuple[float, ...]:
    names = Names(f"bench-{uuid4().hex[:12]}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with set_up(broker, names, Path(folder), quiet=True) as stage:
            worker = await stage.ready_worker()
            url = await worker.health_url()
            process = psutil.Process(worker.pid)
            before_mb, before_s = worker.largest_mb, _cpu_s(process)
            told = await probe_under(flood, url, megabytes, seconds)
            used_s = _cpu_s(process) - before_s
            return (
                *(told.connections, told.sent_mb, len(told.took_s), told.unanswered),
                *(statistics.median(told.took_s) * 1000, max(told.took_s) * 1000),
                *(before_mb, worker.largest_mb, used_s),
            )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
