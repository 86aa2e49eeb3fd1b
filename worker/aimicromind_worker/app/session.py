"""Run one session: build all that jobs need over one connection, for as long as it lasts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Never

from aimicromind_schemas import Names
from aimicromind_schemas.journal.history import HistoryUnknown
from aimicromind_worker.amqp.channels import check_channels
from aimicromind_worker.amqp.connection import BrokerConnection, version_of
from aimicromind_worker.amqp.event_log import EventLog
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.copies import Copies
from aimicromind_worker.amqp.events.publisher_connection import PublisherConnection
from aimicromind_worker.amqp.events.snapshots import SnapshotPublisher
from aimicromind_worker.amqp.inspection.backlog_counter import BacklogCounter
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.jobs.consumer import JobConsumer
from aimicromind_worker.amqp.jobs.journal import Journal
from aimicromind_worker.amqp.jobs.memory_budget import MemoryBudget
from aimicromind_worker.amqp.jobs.pool_chats import PoolChats
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.app.build import limits, recovery
from aimicromind_worker.app.own_report import status_answers
from aimicromind_worker.app.process_state import ProcessState
from aimicromind_worker.app.ready_log import log_ready
from aimicromind_worker.app.service import Service
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.jobs.catch_ups import CatchUps
from aimicromind_worker.jobs.dead_lettered import DeadLettered
from aimicromind_worker.jobs.gates import Gates
from aimicromind_worker.jobs.intake import Intake
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.status_answers import StatusAnswers
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.idle_timeout import IdleTimeout

# The prefetch for jobs that the broker dead-lettered.
_DEAD_LETTERS_AT_ONCE = 512
# A longer journal is read while jobs run already.
_WARMS_WITHIN_S = 2.0
_Beside = tuple[Turns, StatusAnswers]


class StoppedAtOnce(Exception):
    """A drain was requested before the worker took jobs."""


@dataclass(frozen=True, slots=True)
class _Parts:
    consuming: BrokerConnection
    publishing: PublisherConnection
    ownership: JobOwnership
    journal: Journal
    control: CancelListener


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
        partitions = settings.events_log_partitions if settings.events_log else 0
        self._log = EventLog(self._names, partitions)
        counted = partial(connect, "aimicromind-worker counts")
        self._counter = BacklogCounter(counted, self._names, process.metrics.backlog)

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
                journal = self._journal(consuming, publishing)
                kept.append(links.create_task(journal.run()))
                kept.append(links.create_task(self._log.run(consuming)))
                kept.append(links.create_task(self._counter.run()))
                async with AsyncExitStack() as opened:
                    control = await opened.enter_async_context(self._cancels(consuming, publishing))
                    # From here on there may be jobs: `Service.run` drains them.
                    stopping.cancel()
                    kept.append(links.create_task(control.lost()))
                    kept.append(links.create_task(self._learn_cancels(control)))
                    parts = _Parts(consuming, publishing, ownership, journal, control)
                    service, beside = await self._take_jobs(opened, parts)
                    kept += [links.create_task(it.run()) for it in (*beside, self._catch_ups)]
                    log_ready(self._settings, consuming)
                    await self._work(service, publishing)
                for task in kept:
                    task.cancel()

    def _publishing(self, ownership: JobOwnership) -> tuple[Copies, PublisherConnection]:
        """Return the keepers of the connections of copies and of events."""
        beat, names, counts = self._settings.heartbeat, self._names, self._process.event_counts
        connect_copies = partial(self._connect, "aimicromind-worker copies")
        copies = Copies(connect_copies, beat, names, ownership, counts)
        publisher = EventPublisher(
            names, Window(), ownership.is_open, counts, copies.copy_publisher, self._log
        )
        self._process.publisher = publisher
        self._answers = SnapshotPublisher(publisher)
        self._catch_ups = CatchUps(self._answers, names)
        connect = partial(self._connect, "aimicromind-worker events")
        return copies, PublisherConnection(
            connect, beat, needed_topology(self._settings), publisher, ownership, self._renewed
        )

    async def _stop_at_once(self) -> Never:
        await self._process.shutdown.asked()
        raise StoppedAtOnce

    def _cancels(
        self, consuming: BrokerConnection, publishing: PublisherConnection
    ) -> AbstractAsyncContextManager[CancelListener]:
        held, since = self._process.held, self._process.cancels_known_until
        return CancelListener.open(
            consuming, publishing, self._names, held.cancel, since, held.cancel_logged
        )

    async def _learn_cancels(self, control: CancelListener) -> None:
        """Read what is older than a quarter of an hour while younger jobs run."""
        process = self._process
        process.held.know_requests_since(control.known_since)
        await control.read_rest()
        process.held.know_requests_since(control.known_since)
        process.cancels_known_until = control.known_until

    async def _take_jobs(self, opened: AsyncExitStack, parts: _Parts) -> tuple[Service, _Beside]:
        """Begin to consume jobs, and return what carries them."""
        # Until the journal is read, a repeated job of another worker is not recognised.
        with suppress(TimeoutError, HistoryUnknown):
            async with asyncio.timeout(_WARMS_WITHIN_S):
                await parts.journal.until_live()
        process, settings, names = self._process, self._settings, self._names
        consuming, publishing, journal = parts.consuming, parts.publishing, parts.journal
        take = partial(JobConsumer.open, consuming, publishing, names, parts.ownership.shut)
        process.budget = MemoryBudget(settings.max_held_bytes, consuming.wire.demultiplexer.guard)
        enter = opened.enter_async_context
        source = await enter(
            take(settings.concurrency, budget=process.budget, extra=process.extra_channels)
        )
        dead_lettered = await enter(take(_DEAD_LETTERS_AT_ONCE, names.jobs_reaped, process.budget))
        source.on_dead_letter = dead_lettered.on_dead_letter = process.metrics.dead_lettered
        locks, version = await ChatLocks.open(consuming), version_of(consuming)
        chats = PoolChats(locks, publishing, names, parts.control.worker, version)
        dependencies = self._dependencies(journal)
        intake = self._intake(dependencies, journal)
        slots, one_more = settings.concurrency, source.take_one_more
        requests, patience = self._catch_ups.take, settings.patience
        turns = process.turns = Turns(chats, intake.is_behind, slots, patience, one_more, requests)
        answers = status_answers(process, settings, self._answers, parts.control, source, turns)
        journal.when_behind(turns.over)
        gates = Gates(dependencies, intake, turns, process.held)
        relay = Relay(dependencies, intake, gates, process.held, names)
        dead = DeadLettered(intake, dependencies, names)
        return Service(source, dead_lettered, relay, dead, publishing), (turns, answers)

    async def _work(self, service: Service, publishing: PublisherConnection) -> None:
        """Carry jobs until a drain is done."""
        process, settings = self._process, self._settings
        process.has_worked = True
        process.on_ready()

        def obstacle() -> str | None:
            return publishing.obstacle() or process.breaker.obstacle() or process.flows.obstacle()

        grace = timedelta(seconds=settings.drain_seconds)
        await service.run(process.shutdown, grace, process.status.consuming(obstacle))

    def _journal(self, consuming: BrokerConnection, publishing: PublisherConnection) -> Journal:
        settings = self._settings
        # A call under a conversation's own chatId is over after two attempts' time.
        longest_s = max(settings.job_lifetime_seconds, 2 * settings.attempt_timeout_seconds)
        names, state = self._names, self._process.journal
        return Journal(consuming, publishing, names, state, timedelta(seconds=longest_s))

    def _intake(self, dependencies: Dependencies, journal: Journal) -> Intake:
        lifetime = timedelta(seconds=self._settings.job_lifetime_seconds)
        most_bytes, worked = self._settings.max_job_bytes, self._process.has_worked
        names = self._names
        return Intake(dependencies, journal, names, lifetime, most_bytes, after_loss=worked)

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
