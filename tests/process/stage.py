"""What a process test plays on: a broker, an endpoint, workers, a producer and a consumer."""

import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint
from aimicromind_worker.amqp.topology import Retention, topology
from tests.process.jobs import Job
from tests.support.checker import Asked, Listener, Run, Seen
from tests.support.consumer import Consumer, Message, delete, publish, ready_messages
from tests.support.processes import WorkerProcess, Workers


@dataclass(frozen=True, slots=True)
class Stage:
    """One installation for one test. No worker runs until the test starts one."""

    broker: PrivateBroker
    names: Names
    endpoint: ScriptedEndpoint
    workers: Workers

    async def ready_workers(self, count: int, **settings: object) -> list[WorkerProcess]:
        """Start so many workers at once and wait until all take jobs."""
        started = [await self.workers.start(**settings) for _ in range(count)]
        return [await worker.ready() for worker in started]

    async def ready_worker(self, **settings: object) -> WorkerProcess:
        (worker,) = await self.ready_workers(1, **settings)
        return worker

    def listen(self) -> Consumer:
        """Consume all events; a worker must have been ready before."""
        return Consumer(self.broker.url, self.names.events, "#")

    def submit(self, *jobs: Job) -> None:
        """Put jobs on the queue; they are safe there once it returns."""
        publish(self.broker.url, "", self.names.jobs, *(job.message for job in jobs))

    def judge(self, job: Job, came: Sequence[Message]) -> Seen:
        return judge(job, came, self.names.events)

    async def ended(self, consumer: Consumer, *jobs: Job, within_s: float = 20.0) -> list[Seen]:
        """Wait until jobs have ended and judge what came of each."""
        await consumer.ended(*(job.job_id for job in jobs), within_s=within_s)
        return [self.judge(job, consumer.job(job.job_id)) for job in jobs]

    async def stop_workers(self) -> None:
        """Stop in good order those that run; no job may be left after it."""
        running = self.workers.running
        for worker in running:
            worker.signal(signal.SIGTERM)
        for worker in running:
            assert await worker.exits() == 0

    def jobs_left(self) -> int:
        """Count the jobs on the queue that no worker holds."""
        return ready_messages(self.broker.url, self.names.jobs)

    def dead_jobs(self) -> int:
        return ready_messages(self.broker.url, self.names.jobs_dead)


@asynccontextmanager
async def set_up(
    broker: PrivateBroker,
    names: Names,
    folder: Path,
    api_key: str | None = None,
    *,
    quiet: bool = False,
) -> AsyncIterator[Stage]:
    """Set up a stage and leave nothing of it; without a key, workers find no saved answers."""
    async with ScriptedEndpoint(api_key=api_key) as endpoint:
        settings = {"AMQP_URL": broker.url, "PREFIX": names.prefix, "BASE_URL": endpoint.url}
        if api_key is not None:
            settings["API_KEY"] = api_key
        try:
            async with Workers(folder, settings, quiet=quiet) as workers:
                yield Stage(broker, names, endpoint, workers)
        finally:
            all_of_it = topology(names, Retention("24h", 1_000_000))
            queues = [queue.name for queue in all_of_it.queues]
            delete(broker.url, queues, [exchange.name for exchange in all_of_it.exchanges])


def judge(job: Job, came: Sequence[Message], exchange: str) -> Seen:
    """Check all that came of a job which has ended, and give it without repeats."""
    asked = {job.job_id: asked_for(job)}
    listener = Listener("consumer", exchange, asked)
    for message in came:
        listener.take(message)
    Run(asked=asked, listeners=[listener]).judge()
    return Seen.of(came)


def asked_for(job: Job) -> Asked:
    """Say what a job that is safe on its queue must come to."""
    return Asked(
        job.job_id,
        job.chat_id,
        job.flow,
        confirmed_at=time.monotonic(),
        tags=job.fields.get("tags", {}),
        correlation_id=job.properties.get("correlation_id"),
        traceparent=job.properties.get("headers", {}).get("traceparent"),
    )
