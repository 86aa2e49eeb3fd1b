"""What workers say of themselves and what they take, over time."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import psutil

from tests.soak.plant import Plant
from tests.support.checker import Probe
from tests.support.processes import WorkerProcess

_EVERY_S = 0.3
_PROBE_TIMEOUT_S = 2.0
_SIZE_EVERY = 10


@dataclass(frozen=True, slots=True)
class Size:
    """A worker's size.

    Attributes:
        jobs: How many it had begun.
    """

    at: float
    jobs: int
    rss_mb: float
    fds: int


class Watch:
    """Asks the workers that run, again and again.

    Attributes:
        probes: What they said.
        sizes: Of each worker, in order of time.
    """

    def __init__(self, plant: Plant) -> None:
        self.probes: list[Probe] = []
        self.sizes: defaultdict[str, list[Size]] = defaultdict(list)
        self._plant = plant

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        round_ = 0
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                round_ += 1
                due = time.monotonic() + _EVERY_S
                asked = [
                    self._ask(session, place.name, place.worker)
                    for place in self._plant.places
                    if place.worker is not None and place.worker.runs
                ]
                await asyncio.gather(*asked)
                if any(place.name not in self.sizes for place in self._plant.places):
                    self.measure()
                if round_ % _SIZE_EVERY == 0:
                    self.measure()
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def measure(self) -> None:
        """Note the size of each worker that runs."""
        for place in self._plant.places:
            if place.worker is not None and place.worker.runs:
                try:
                    process = psutil.Process(place.worker.pid)
                    rss, fds = process.memory_info().rss, process.num_fds()
                except psutil.Error:
                    continue
                jobs = place.worker.counts["job.started"]
                size = Size(time.monotonic(), jobs, rss / 1e6, fds)
                self.sizes[place.name].append(size)

    async def _ask(self, session: aiohttp.ClientSession, name: str, worker: WorkerProcess) -> None:
        url = await worker.health_url()
        at = time.monotonic()
        ready, live = await asyncio.gather(
            _says(session, f"{url}/readyz"), _says(session, f"{url}/livez")
        )
        if worker.runs and not worker.leaving:
            self.probes.append(Probe(name, at, ready, live))


async def _says(session: aiohttp.ClientSession, url: str) -> bool | None:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None


def slope(sizes: Sequence[Size]) -> float:
    """Give the growth in MB per 1000 jobs, by least squares."""
    count = len(sizes)
    mean_jobs = sum(it.jobs for it in sizes) / count
    mean_mb = sum(it.rss_mb for it in sizes) / count
    spread = sum((it.jobs - mean_jobs) ** 2 for it in sizes)
    rise = sum((it.jobs - mean_jobs) * (it.rss_mb - mean_mb) for it in sizes)
    return 1000 * rise / spread if spread else 0.0
