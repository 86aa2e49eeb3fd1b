"""One session: the life of the connection that jobs come by."""

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
from aimicromind_worker.amqp.events.attempt_publisher import Window
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

# Jobs dead-lettered by the broker that this worker holds at a time.
_DEAD_LETTERS_AT_ONCE = 4


class StoppedAtOnce(Exception):
    """The worker was told to stop before it took jobs."""


@dataclass(slots=True)
class ProcessState:
    """What outlives a session.

    Attributes:
        status: Whether the worker works.
        event_counts: What became of its events.
        metrics: All that it counts.
        tracer: Gets spans.
        held: The jobs that it has.
        breaker: Whether calls are made.
        flows: How its flows fare.
        journal: What it has read of the journal.
        shutdown: When to stop.
        on_ready: Called whenever it begins to take jobs.
        cancels_known_until: Up to when cancel requests have come.
        has_worked: Whether there was a session that took jobs.
        publisher: That of the session, None before the first.
        budget: The same for the bytes of held jobs.
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
    """Works over one connection until told to stop, or until it is lost. `run` once."""

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
            process: What outlives it.
            settings: What the operator set.
            connect: Opens a connection of this name.
            predictions: The endpoint.
            idle_timeout: Breaks off silent streams.
            renewed: Refusals of the broker that are waited out.
        """
        self._process = process
        self._settings = settings
        self._connect = connect
        self._predictions = predictions
        self._idle_timeout = idle_timeout
        self._renewed = renewed
        self._names = Names(settings.prefix)

    async def run(self) -> None:
        """Carry jobs.

        Raises:
            ConnectionError, AMQPError, TimeoutError: The connection was lost.
            StoppedAtOnce: The worker was told to stop before it took jobs.
            GraceOver: Jobs are left that could not be requeued in time.
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
                    # From here on there may be jobs, which are requeued in good order.
                    stopping.cancel()
                    kept.append(links.create_task(control.lost()))
                    await self._work(opened, consuming, publishing, ownership, control.known_until)
                for task in kept:
                    task.cancel()

    def _publishing(self, ownership: JobOwnership) -> tuple[Copies, PublisherConnection]:
        """Return what keeps the connections of copies and of events open."""
        settings, names, counts = self._settings, self._names, self._process.event_counts
        beat = settings.heartbeat
        connect_copies = partial(self._connect, "aimicromind-worker copies")
        copies = Copies(connect_copies, beat, names, ownership, counts)
        publisher = EventPublisher(names, Window(), ownership.is_open, counts, copies.lane)
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
        """Take jobs until told to stop."""
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
        lifetime = timedelta(seconds=settings.job_lifetime_seconds)
        intake = Intake(
            dependencies,
            journal,
            names,
            lifetime,
            settings.max_job_bytes,
            after_loss=process.has_worked,
        )
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
