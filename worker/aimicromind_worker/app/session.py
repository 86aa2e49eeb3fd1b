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
from aimicromind_worker.jobs.intake import Intake
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.runs.means import Means
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
class Lasting:
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
        lasting: Lasting,
        settings: Settings,
        connect: Callable[[str], AbstractAsyncContextManager[BrokerConnection]],
        predictions: EndpointClient,
        idle_timeout: IdleTimeout,
        renewed: tuple[type[Exception], ...],
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            lasting: What outlives it.
            settings: What the operator set.
            connect: Opens a connection of this name.
            predictions: The endpoint.
            idle_timeout: Breaks off silent streams.
            renewed: Refusals of the broker that are waited out.
        """
        self._lasting = lasting
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
        beat = self._settings.heartbeat
        async with self._connect("aimicromind-worker jobs") as consuming:
            check_channels(consuming)
            ownership = JobOwnership(beat)
            ownership.when_shut(consuming.wire.abort)
            connect_copies = partial(self._connect, "aimicromind-worker copies")
            counts = self._lasting.event_counts
            copies = Copies(connect_copies, beat, self._names, ownership, counts)
            publisher = EventPublisher(
                self._names, Window(), ownership.is_open, counts, copies.lane
            )
            self._lasting.publisher = publisher
            publishing = PublisherConnection(
                partial(self._connect, "aimicromind-worker events"),
                beat,
                needed_topology(self._settings),
                publisher,
                ownership,
                self._renewed,
            )
            async with asyncio.TaskGroup() as links:
                kept = [
                    links.create_task(ownership.watch(consuming)),
                    links.create_task(ownership.until_shut()),
                    links.create_task(publishing.run()),
                    links.create_task(copies.run()),
                    links.create_task(self._lasting.breaker.watch(self._predictions.answers)),
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

    async def _stop_at_once(self) -> Never:
        await self._lasting.shutdown.asked()
        raise StoppedAtOnce

    def _cancels(
        self, consuming: BrokerConnection, publishing: PublisherConnection
    ) -> AbstractAsyncContextManager[CancelListener]:
        cancel, since = self._lasting.held.cancel, self._lasting.cancels_known_until
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
        lasting, settings, names = self._lasting, self._settings, self._names
        take = partial(JobConsumer.open, consuming, publishing, names, ownership.shut)
        guard = consuming.wire.demultiplexer.guard
        lasting.budget = MemoryBudget(settings.max_held_bytes, guard)
        source = await opened.enter_async_context(take(settings.concurrency, budget=lasting.budget))
        dead_lettered = await opened.enter_async_context(
            take(_DEAD_LETTERS_AT_ONCE, names.jobs_reaped)
        )
        lasting.cancels_known_until = cancels_known_until
        journal = Journal(consuming, publishing, names.journal, lasting.journal)
        chat_locks = await ChatLocks.open(consuming, names)
        means = self._means(journal)
        lifetime = timedelta(seconds=settings.job_lifetime_seconds)
        intake = Intake(
            means, journal, names, lifetime, settings.max_job_bytes, after_loss=lasting.has_worked
        )
        turns = Turns(settings.concurrency, source.stand_in)
        relay = Relay(means, intake, chat_locks, lasting.held, names, turns)
        lasting.has_worked = True
        log.info("worker.ready", concurrency=settings.concurrency)
        lasting.on_ready()

        def obstacle() -> str | None:
            return publishing.obstacle() or lasting.breaker.obstacle() or lasting.flows.obstacle()

        service = Service(
            source, dead_lettered, relay, DeadLettered(intake, means, names), publishing
        )
        grace = timedelta(seconds=settings.drain_seconds)
        await service.run(lasting.shutdown, grace, lasting.status.consuming(obstacle))

    def _means(self, journal: Journal) -> Means:
        lasting, settings = self._lasting, self._settings
        assert lasting.publisher is not None  # noqa: S101 - `run` has made it
        found = recovery(settings, self._predictions.client)
        return Means(
            self._predictions,
            lasting.publisher,
            self._idle_timeout,
            limits(settings),
            RetryPolicy(),
            found,
            Conversations(journal, found, limits(settings).attempt_timeout),
            lasting.breaker,
            lasting.flows,
            lasting.metrics,
            lasting.tracer,
        )
