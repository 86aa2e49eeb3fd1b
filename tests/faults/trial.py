"""What a fault test plays on, and what is known of it in the end, for the checker."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pika.exceptions import AMQPError

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint
from aimicromind_worker.amqp.topology import Retention, topology
from tests.process.jobs import Job, a_job
from tests.process.stage import asked_for
from tests.support.checker import Asked, Counter, Listener, Outage, Run, Seen, Span, Tolerance
from tests.support.consumer import Heard, Message, delete, publish, ready_messages
from tests.support.marked import calls_seen, question
from tests.support.probes import turns
from tests.support.processes import WorkerProcess, Workers
from tests.support.proxy import Proxy
from tests.support.steady_consumer import SteadyConsumer
from tests.support.watch import Watch

BACK_WITHIN_S: Final = 10.0
_QUIET_WITHIN_S: Final = timedelta(seconds=5)
_LEAVES_WITHIN_S: Final = 30.0
_STARTS_WITHIN_S: Final = 60.0
JOBS: Final = "aimicromind-worker jobs"
EVENTS: Final = "aimicromind-worker events"


@dataclass
class Trial:
    """One installation for one test; `verdict` is its last step.

    Attributes:
        proxy: The way to the broker of workers that are started with `by_proxy`.
        heard: What the consumer got; the checker gets the same.
        dead: How many dead jobs there are to be in the end.
    """

    broker: PrivateBroker
    names: Names
    endpoint: ScriptedEndpoint
    workers: Workers
    proxy: Proxy
    run: Run = field(default_factory=Run)
    heard: Heard = field(default_factory=Heard)
    dead: int = 0
    _named: dict[str, WorkerProcess] = field(default_factory=dict)
    _interruptions: list[Span] = field(default_factory=list)
    _endpoint_down: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = Listener("consumer", self.names.events, self.run.asked)
        self.run.listeners.append(self.listener)
        self.watch = Watch(lambda: self._named)

    async def worker(self, *, by_proxy: bool = False, **settings: object) -> WorkerProcess:
        """Start a worker and wait until it takes jobs."""
        url = self.proxy.url if by_proxy else self.broker.url
        worker = await self.workers.start(**{"AMQP_URL": url, **settings})
        self._named[f"worker {len(self._named) + 1}"] = worker
        await worker.logged("worker.ready", within_s=_STARTS_WITHIN_S)
        return worker

    def name_of(self, worker: WorkerProcess) -> str:
        return next(name for name, it in self._named.items() if it is worker)

    @contextmanager
    def listening(self) -> Iterator[Heard]:
        """Consume all events by a queue that outlives its broker; a worker was ready before."""
        queue = f"{self.names.prefix}.heard"
        with SteadyConsumer(self.broker.url, self.names.events, queue, self._take):
            yield self.heard

    def job(self, tokens: int = 8, rate: float = 0, flow: str = "flow", **fields: object) -> Job:
        """Write a job whose answer is marked, in a chat of its own if none is named."""
        job = a_job(flow)
        asked = question(job.job_id, tokens, rate)
        return replace(job, fields={**job.fields, "question": asked, **fields})

    def submit(self, *jobs: Job) -> None:
        """Put jobs on the queue; they are safe there once it returns."""
        for job in jobs:
            self.expect(asked_for(job))
        publish(self.broker.url, "", self.names.jobs, *(job.message for job in jobs))

    def expect(self, *asked: Asked) -> None:
        """Have the checker look for jobs that were put on the queue in another way."""
        self.run.asked |= {it.job_id: it for it in asked}

    async def ended(self, *jobs: Job, within_s: float = 20.0) -> list[Seen]:
        """Wait until jobs have ended and give what each showed."""
        await self.heard.ended(*(job.job_id for job in jobs), within_s=within_s)
        return [Seen.of(self.heard.job(job.job_id)) for job in jobs]

    def interrupted(self, since: float | None = None, until: float | None = None) -> None:
        """Note that a worker died, left or lost its broker; now, if no times are given."""
        now = time.monotonic()
        self._interruptions.append(Span(since or now, until or now))

    def kill(self, worker: WorkerProcess) -> None:
        """End a worker at once."""
        worker.signal(signal.SIGKILL)
        self.interrupted()

    def fenced(self, since: float, until: float | None = None) -> None:
        """Note that a worker may not have known then that it had lost its jobs."""
        self.run.fencing.append(Span(since, until or time.monotonic()))

    def outage(
        self,
        kind: str,
        began: float,
        workers: Sequence[WorkerProcess],
        **more: Any,  # noqa: ANN401 - named in Outage
    ) -> None:
        """Note that workers could not work from then until now."""
        names = tuple(self.name_of(worker) for worker in workers)
        self.run.outages.append(Outage(kind, began, time.monotonic(), workers=names, **more))

    def endpoint_was_down(self, since: float) -> None:
        """Note that calls begun from then until now may not have reached the endpoint."""
        self._endpoint_down.append(Span(since, time.monotonic()))

    async def verdict(self, **changed: Any) -> None:  # noqa: ANN401 - named in Run
        """Stop the workers in good order and judge all that is known.

        Raises:
            Broken: A promise was not kept.
        """
        for outage in self.run.outages:
            for name in outage.workers:
                await turns(f"{await self._named[name].health_url()}/readyz", 200, BACK_WITHIN_S)
        # Long enough for the watch to have seen that, too.
        await asyncio.sleep(0.4)
        await self.endpoint.until(lambda: not self.endpoint.live_calls, _QUIET_WITHIN_S)
        for worker in self.workers.running:
            worker.signal(signal.SIGTERM)
        for worker in self.workers.running:
            assert await worker.exits(_LEAVES_WITHIN_S) == 0
        await self._count()
        self.run.calls = calls_seen(self.endpoint.calls)
        self.run.tolerance = Tolerance(self._interruptions, self._endpoint_down)
        self.run.probes = self.watch.probes
        for name, value in changed.items():
            setattr(self.run, name, value)
        self.run.judge()

    async def _count(self) -> None:
        """Count what is left when nobody works: what a worker held would be on the queue again."""
        counts = {"connections by the proxy": (0, self.proxy.open)}
        for queue, expected in (
            (self.names.jobs, 0),
            (self.names.jobs_reaped, 0),
            (self.names.jobs_dead, self.dead),
        ):
            messages = await asyncio.to_thread(ready_messages, self.broker.url, queue)
            counts[f"messages of {queue}"] = (expected, messages)
        self.run.counters += [Counter(name, *figures) for name, figures in counts.items()]

    def _take(self, message: Message) -> None:
        self.listener.take(message)
        self.heard.take(message)


@asynccontextmanager
async def a_trial(broker: PrivateBroker, names: Names, folder: Path) -> AsyncIterator[Trial]:
    """Set up a trial; no worker runs before the test starts one, and none after it."""
    async with ScriptedEndpoint() as endpoint, Proxy(broker.port) as proxy:
        settings: Mapping[str, object] = {"PREFIX": names.prefix, "BASE_URL": endpoint.url}
        async with Workers(folder, settings) as workers:
            trial = Trial(broker, names, endpoint, workers, proxy)
            try:
                async with trial.watch.watching():
                    yield trial
            finally:
                await asyncio.to_thread(_clear, broker.url, names)


async def eventually(
    holds: Callable[[], bool], within_s: float = BACK_WITHIN_S, what: str = ""
) -> None:
    """Wait until something holds that another process or thread decides.

    Raises:
        TimeoutError: It did not, in time.
    """
    until = time.monotonic() + within_s
    while not _holds(holds):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.05)


def _holds(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except (AMQPError, OSError):
        return False


def _clear(url: str, names: Names) -> None:
    """Delete what a test declared, on a broker that others use."""
    all_of_it = topology(names, Retention("24h", 1_000_000))
    queues = [*(queue.name for queue in all_of_it.queues), f"{names.prefix}.heard"]
    with suppress(AMQPError, OSError):
        delete(url, queues, [exchange.name for exchange in all_of_it.exchanges])
