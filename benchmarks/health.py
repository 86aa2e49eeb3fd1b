"""Measure the health port under floods: `python -m benchmarks.health` prints a line for each.

Each flood goes to a worker of its own, which is ready. Meanwhile `/livez` is requested repeatedly,
on a new connection each time, as an orchestrator does.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Final
from uuid import uuid4

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.stage import set_up
from tests.support.floods import FLOODS
from tests.support.probes import probe_under
from tests.support.strain import cpu_s

_WIDTH: Final = 12
# A flood ends after the first of both.
_LARGEST_MB: Final = 200
_LONGEST_S: Final = 10.0


async def main() -> None:
    """Print answers and memory under each flood."""
    columns = (
        *("connections", "sent MB", "answers", "none", "median ms"),
        *("slowest ms", "memory MB", "most MB", "CPU s"),
    )
    print(f"| {'flood':{_WIDTH}} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    async with PrivateBroker() as broker:
        for flood in FLOODS:
            figures = await _figures(broker, flood)
            cells = (f"{it:{len(name)},.4g}" for it, name in zip(figures, columns, strict=True))
            print(f"| {flood:{_WIDTH}} | {' | '.join(cells)} |", flush=True)


async def _figures(broker: PrivateBroker, flood: str) -> tuple[float, ...]:
    names = Names(f"bench-{uuid4().hex[:12]}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with set_up(broker, names, Path(folder), quiet=True) as stage:
            worker = await stage.ready_worker()
            url = await worker.health_url()
            before_mb, before_s = worker.largest_mb, cpu_s(worker.pid)
            seen = await probe_under(flood, url, _LARGEST_MB, _LONGEST_S)
            used_s = cpu_s(worker.pid) - before_s
            return (
                *(seen.connections, seen.sent_mb, len(seen.took_s), seen.unanswered),
                *(statistics.median(seen.took_s) * 1000, max(seen.took_s) * 1000),
                *(before_mb, worker.largest_mb, used_s),
            )


if __name__ == "__main__":
    asyncio.run(main())
