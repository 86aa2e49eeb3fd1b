"""Run one session: build all that jobs need over one connection, for as long as it lasts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Never

import structlog

from aimicromind_schemas import Names
from aimicromind_worker.amqp.channels import check_channels
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.copies import Copies
from aimicromind_worker.amqp.events.publisher import EventPublisher
from aimicromind_worker.amqp.events.publisher_connection import PublisherConnection
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.jobs.consumer import JobConsumer
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from aimicromind_worker.amqp.jobs.memory_budget import MemoryBudget
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.app.build import limits, needed_topology, recovery
from aimicromind_worker.app.service import Service, Shutdown
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.job.cancels import KEPT_FOR
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.jobs.dead_lettered import DeadLettered
from aimicromind_worker.jobs.gates import Gates
from aimicromind_worker.jobs.intake import Intake
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.status import WorkerStatus
from aimicromind_worker.telemetry.tracing import Tracer

log = structlog.get_logger()

# The prefetch for jobs that the broker dead-lettered.
_DEAD_LETTERS_AT_ONCE = 4


class StoppedAtOnce(Exception):
    """A drain was requested before the worker took jobs."""


@dataclass(slots=True)
class ProcessState:
    """The state of a worker process that outlives its sessions.

    Attributes:
        status: The worker's status, for `/livez` and `/readyz`.
        event_counts: The counts of published events.
        metrics: The worker's metrics.
        tracer: The source of trace spans.
        held: The jobs that the worker has, and the cancel requests for them.
        breaker: The circuit breaker of the endpoint.
        flows: The health of each flow.
        journal: The part of the journal that was read.
        shutdown: The operator's requests to stop.
        on_ready: A callback for each time that the worker begins to take jobs.
        cancels_known_until: The time up to which cancel requests are known, aware.
        has_worked: Whether a session has taken jobs.
        publisher: The publisher of the last session, None before the first.
        budget: The budget of held bytes of the last session, None before the first.
    """

    status: WorkerStatus
    event_counts: EventCounts
    metrics: Metrics
    tracer: Tracer
    held: JobRegistry
    breaker: CircuitBreaker
    flows: Flows
    journal: JournalMemory
    shutdown: Shutdown
    on_ready: Callable[[], None]
    cancels_known_until: datetime = field(default_factory=lambda: datetime.now(UTC) - KEPT_FOR)
    has_worked: bool = False
    publisher: EventPublisher | None = None
    budget: MemoryBudget | None = None


class Session:
    """One session, until a drain or a lost connection. Call `run` once."""

    def __init__(
        self,
        process: ProcessState,
        settings: Settings,
        connect: Callable[[str], AbstractAsyncContextManager[BrokerConnection]],
        predictions: EndpointClient,
        idle_timeout: IdleTimeout,
        renewed: tuple[type[Exception], ...],
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            process: The state that outlives the session.
            settings: The operator's settings.
            connect: A function that opens a connection under a name.
            predictions: The client of the endpoint.
            idle_timeout: The idle timeout of all streams.
            renewed: The refusals of the broker that are waited out.
        """
        self._process = process
        self._settings = settings
        self._connect = connect
        self._predictions = predictions
        self._idle_timeout = idle_timeout
        self._renewed = renewed
        self._names = Names(settings.prefix)

    async def run(self) -> None:
        """Carry jobs until a drain is done.

        Raises:
            ConnectionError, AMQPError, TimeoutError: The connection was lost.
            StoppedAtOnce: A drain was requested before the worker took jobs.
            GraceOver: Some jobs could not be requeued in time.
        """
        async with self._connect("aimicromind-worker jobs") as consuming:
            check_channels(consuming)
            ownership = JobOwnership(self._settings.heartbeat)
            ownership.when_shut(consuming.wire.abort)
            copies, publishing = self._publishing(ownership)
            async with asyncio.TaskGroup() as links:
                kept = [
                    links.create_task(ownership.watch(consuming)),
                    links.create_task(ownership.until_shut()),
                    links.create_task(publishing.run()),
                    links.create_task(copies.run()),
                    links.create_task(self._process.breaker.watch(self._predictions.answers)),
                ]
                stopping = links.create_task(self._stop_at_once())
                await publishing.usable()
                async with AsyncExitStack() as opened:
                    control = await opened.enter_async_context(self._cancels(consuming, publishing))
                    # From here on there may be jobs: `Service.run` drains them.
                    stopping.cancel()
                    kept.append(links.create_task(control.lost()))
                    await self._work(opened, consuming, publishing, ownership, control.known_until)
                for task in kept:
                    task.cancel()

    def _publishing(self, ownership: JobOwnership) -> tuple[Copies, PublisherConnection]:
        """Return the keepers of the connections of copies and of events."""
        settings, names, counts = self._settings, self._names, self._process.event_counts
        beat = settings.heartbeat
        connect_copies = partial(self._connect, "aimicromind-worker copies")
        copies = Copies(connect_copies, beat, names, ownership, counts)
        publisher = EventPublisher(
            names, Window(), ownership.is_open, counts, copies.copy_publisher
        )
        self._process.publisher = publisher
        connect = partial(self._connect, "aimicromind-worker events")
        needed = needed_topology(settings)
        return copies, PublisherConnection(
            connect, beat, needed, publisher, ownership, self._renewed
        )

    async def _stop_at_once(self) -> Never:
        await self._process.shutdown.asked()
        raise StoppedAtOnce

    def _cancels(
        self, consuming: BrokerConnection, publishing: PublisherConnection
    ) -> AbstractAsyncContextManager[CancelListener]:
        cancel, since = self._process.held.cancel, self._process.cancels_known_until
        return CancelListener.open(consuming, publishing, self._names, cancel, since)

    async def _work(
        self,
        opened: AsyncExitStack,
        consuming: BrokerConnection,
        publishing: PublisherConnection,
        ownership: JobOwnership,
        cancels_known_until: datetime,
    ) -> None:
        """Take jobs until a drain is done."""
        process, settings, names = self._process, self._settings, self._names
        take = partial(JobConsumer.open, consuming, publishing, names, ownership.shut)
        guard = consuming.wire.demultiplexer.guard
        process.budget = MemoryBudget(settings.max_held_bytes, guard)
        source = await opened.enter_async_context(take(settings.concurrency, budget=process.budget))
        dead_lettered = await opened.enter_async_context(
            take(_DEAD_LETTERS_AT_ONCE, names.jobs_reaped)
        )
        process.cancels_known_until = cancels_known_until
        journal = Journal(consuming, publishing, names.journal, process.journal)
        chat_locks = await ChatLocks.open(consuming, names)
        dependencies = self._dependencies(journal)
        intake = self._intake(dependencies, journal)
        turns = Turns(settings.concurrency, source.take_one_more)
        gates = Gates(dependencies, intake, chat_locks, turns)
        relay = Relay(dependencies, intake, gates, process.held, names)
        process.has_worked = True
        log.info("worker.ready", concurrency=settings.concurrency)
        process.on_ready()

        def obstacle() -> str | None:
            return publishing.obstacle() or process.breaker.obstacle() or process.flows.obstacle()

        service = Service(
            source, dead_lettered, relay, DeadLettered(intake, dependencies, names), publishing
        )
        grace = timedelta(seconds=settings.drain_seconds)
        await service.run(process.shutdown, grace, process.status.consuming(obstacle))

    def _intake(self, dependencies: Dependencies, journal: Journal) -> Intake:
        settings = self._settings
        lifetime = timedelta(seconds=settings.job_lifetime_seconds)
        after_loss = self._process.has_worked
        return Intake(
            dependencies,
            journal,
            self._names,
            lifetime,
            settings.max_job_bytes,
            after_loss=after_loss,
        )

    def _dependencies(self, journal: Journal) -> Dependencies:
        process, settings = self._process, self._settings
        assert process.publisher is not None  # noqa: S101 - `run` has made it
        found = recovery(settings, self._predictions.client)
        return Dependencies(
            self._predictions,
            process.publisher,
            self._idle_timeout,
            limits(settings),
            RetryPolicy(),
            found,
            Conversations(journal, found, limits(settings).attempt_timeout),
            process.breaker,
            process.flows,
            process.metrics,
            process.tracer,
        )
