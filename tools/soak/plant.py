"""Run what a soak needs: a broker, an endpoint, and workers behind a proxy each."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.support.processes import WorkerProcess, Workers
from tests.support.proxy import Proxy
from tools.generated import TOP

_ENDPOINT_WITHIN_S = 30.0
_WORKER_WITHIN_S = 30.0


class EndpointProcess:
    """The endpoint's process, on the same port after each start.

    Attributes:
        log: File with the calls of all processes.
        deaths: When each process was killed, in seconds of `time.monotonic`.
        port: The port; 0 before the first start.
    """

    def __init__(self, log: Path, seed: int) -> None:
        self.log = log
        self.deaths: list[float] = []
        self.port = 0
        self._seed = seed
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        arguments = ("-m", "tools.soak.endpoint", str(self.port), str(self.log), str(self._seed))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_ENDPOINT_WITHIN_S):
            line = (await self._process.stdout.readline()).decode()
        self.port = int(line.rpartition(":")[2])

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            self.deaths.append(time.monotonic())


@dataclass(slots=True)
class WorkerPlace:
    """A proxy, and the workers that use it one after the other."""

    number: int
    proxy: Proxy
    lives: int = 0
    worker: WorkerProcess | None = None

    @property
    def name(self) -> str:
        return f"worker {self.number}.{self.lives}"


@dataclass(slots=True)
class Plant:
    """Broker, endpoint and workers of a soak."""

    broker: PrivateBroker
    names: Names
    endpoint: EndpointProcess
    workers: Workers
    places: list[WorkerPlace]

    def running(self) -> dict[str, WorkerProcess]:
        """Return the latest worker of each place, by name."""
        return {it.name: it.worker for it in self.places if it.worker is not None}

    async def start(self, place: WorkerPlace) -> WorkerProcess:
        """Start a worker at a place where none runs, and wait until it is ready."""
        worker = await self.workers.start(
            AMQP_URL=place.proxy.url,
            BASE_URL=self.endpoint.url,
            PREFIX=self.names.prefix,
            MAX_CALLS=100,
            DRAIN_SECONDS=4,
        )
        await worker.logged("worker.ready", within_s=_WORKER_WITHIN_S)
        place.lives += 1
        place.worker = worker
        return worker

    async def stop_all(self) -> list[int]:
        """Stop all workers by SIGTERM, and return their exit codes."""
        running = [place.worker for place in self.places if place.worker is not None]
        for worker in running:
            worker.signal(signal.SIGTERM)
        return [await worker.exits(15) for worker in running]


@asynccontextmanager
async def a_plant(folder: Path, workers: int, seed: int) -> AsyncIterator[Plant]:
    """Run it for the time of the body; the workers are ready."""
    names = Names("soak")
    os.environ["PYTHONPATH"] = str(TOP)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(PrivateBroker())
        endpoint = EndpointProcess(folder / "calls.jsonl", seed)
        stack.push_async_callback(endpoint.kill)
        await endpoint.start()
        started = await stack.enter_async_context(Workers(folder, {}, quiet=True))
        places = [
            WorkerPlace(number + 1, await stack.enter_async_context(Proxy(broker.port)))
            for number in range(workers)
        ]
        plant = Plant(broker, names, endpoint, started, places)
        await asyncio.gather(*(plant.start(place) for place in places))
        yield plant
