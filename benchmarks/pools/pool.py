"""Run workers of one version on names of their own, beside a broker and an endpoint."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer
from aimicromind_worker.amqp.topology import Retention, topology
from benchmarks.parts.programs import Program
from benchmarks.pools.versions import Version
from benchmarks.pools.wire import Events, Producer
from tests.support.consumer import delete

_READY_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_REFUSED: Final = "exception resource_locked"
# A worker that is stopped with long jobs must not wait for their ends.
_SETTINGS: Final = {"HEALTH_HOST": "127.0.0.1", "HEALTH_PORT": "0", "DRAIN_SECONDS": "1"}
LONG: Final = "long"
"""A flow whose answer lasts longer than any measurement."""


def takes(milliseconds: int) -> str:
    """Return the flow whose answer takes so long."""
    return f"takes-{milliseconds}"


@dataclass(frozen=True, slots=True)
class Site:
    """Broker and endpoint of a run.

    Attributes:
        url: Address of the broker.
        endpoint: The endpoint, with the flows of this module.
        folder: Folder for logs.
        broker_log: Log of the broker; None for a broker that was running before.
    """

    url: str
    endpoint: ScriptedEndpoint
    folder: Path
    broker_log: Path | None

    def refused(self) -> int | None:
        """Return how many declarations of locked queues the broker has refused so far."""
        return None if self.broker_log is None else self.broker_log.read_text().count(_REFUSED)


@asynccontextmanager
async def site(amqp_url: str | None) -> AsyncIterator[Site]:
    """Run an endpoint for the time of the body, and a private broker where no URL is given."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        log = None
        if amqp_url is None:
            log = folder / "broker.log"
            broker = PrivateBroker(settings={"log.file": str(log)})
            amqp_url = (await stack.enter_async_context(broker)).url
        endpoint = await stack.enter_async_context(ScriptedEndpoint())
        endpoint.flow(LONG, answer(3600, rate=1))
        for milliseconds in (50, 100):
            endpoint.flow(takes(milliseconds), answer(1, rate=1000 / milliseconds))
        yield Site(amqp_url, endpoint, folder, log)


@dataclass(slots=True)
class Pool:
    """An installation of one version. No worker runs until one is started.

    Attributes:
        jobs: Publishes to its queue of jobs.
        events: What its workers have published since the first was ready.
    """

    site: Site
    version: Version
    names: Names
    jobs: Producer
    events: Events
    _stack: AsyncExitStack
    _started: int = field(default=0)

    def job(self, name: str, chat: str, flow: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return a job, whose id is also its question."""
        job_id = f"{self.names.prefix}-{name}"
        given = {"chatflowId": flow, "chatId": f"{self.names.prefix}-{chat}"}
        return {**given, "jobId": job_id, "question": job_id, **fields}

    @asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator[Program]:
        """Run a worker, which need not be ready, for the time of the body."""
        self._started += 1
        log = self.site.folder / f"{self.names.prefix}-{self._started}.log"
        given: Mapping[str, str] = {
            "AMQP_URL": self.site.url,
            "BASE_URL": self.site.endpoint.url,
            "PREFIX": self.names.prefix,
            **_SETTINGS,
            **settings,
        }
        environment = {f"AIMICROMIND_{name}": value for name, value in given.items()}
        async with Program((str(self.version.command), "run"), log, environment) as program:
            yield program

    def logs(self) -> list[Path]:
        """Return the logs of its workers."""
        return sorted(self.site.folder.glob(f"{self.names.prefix}-*.log"))

    async def start(self, count: int, **settings: str) -> list[Program]:
        """Start workers that run as long as the pool, and wait until all are ready."""
        started = [
            await self._stack.enter_async_context(self.worker(**settings)) for _ in range(count)
        ]
        for program in started:
            await program.ready("worker.ready", _READY_WITHIN_S)
        return started


@asynccontextmanager
async def pool(
    site: Site, version: Version, workers: int = 0, **settings: str
) -> AsyncIterator[Pool]:
    """Install a version for the time of the body, with so many ready workers."""
    names = Names(f"bench-{uuid4().hex[:8]}")
    events = Events()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_clear, site.url, names)
        producer = await Producer.open(site.url, names.jobs)
        stack.callback(producer.close)
        running = await stack.enter_async_context(AsyncExitStack())
        made = Pool(site, version, names, producer, events, running)
        # The first worker of a version declares what that version needs.
        async with made.worker() as first:
            await first.ready("worker.ready", _READY_WITHIN_S)
        listening = await events.listen(site.url, names.events)
        stack.callback(listening.transport.abort)
        await made.start(workers, **settings)
        yield made


async def depth(on: Pool, queue: str, enough: Callable[[int], bool], within_s: float) -> int:
    """Return how many messages wait in a queue, once there are enough or the time is over."""
    until = time.monotonic() + within_s
    while True:
        found = await on.jobs.waiting(queue)
        if enough(found) or time.monotonic() > until:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)


async def _clear(url: str, names: Names) -> None:
    declared = topology(names, Retention("1h", 1_000_000))
    queues = [queue.name for queue in declared.queues]
    exchanges = [exchange.name for exchange in declared.exchanges]
    await asyncio.to_thread(delete, url, queues, exchanges)
