"""What workers say of themselves and what they take, over time."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import psutil

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

    def __init__(self, workers: Callable[[], Mapping[str, WorkerProcess]]) -> None:
        """Prepare.

        Args:
            workers: Gives the workers that there are, by name.
        """
        self.probes: list[Probe] = []
        self.sizes: defaultdict[str, list[Size]] = defaultdict(list)
        self._workers = workers

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ask while the body runs."""
        asking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        round_ = 0
        # A new connection each time, as an orchestrator has it.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                round_ += 1
                due = time.monotonic() + _EVERY_S
                running = {name: it for name, it in self._workers().items() if it.runs}
                await asyncio.gather(*(self._ask(session, *it) for it in running.items()))
                if round_ % _SIZE_EVERY == 0 or running.keys() - self.sizes.keys():
                    self.measure()
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def measure(self) -> None:
        """Note the size of each worker that runs."""
        for name, worker in self._workers().items():
            try:
                process = psutil.Process(worker.pid)
                rss, fds = process.memory_info().rss, process.num_fds()
            except psutil.Error:
                continue
            jobs = worker.counts["job.started"]
            self.sizes[name].append(Size(time.monotonic(), jobs, rss / 1e6, fds))

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
