"""Put the parts together: open them in order, carry jobs until told to stop, drain, close.

Losing the connection that jobs come by ends a session: its attempts end at once, unheard, and
the broker gives their jobs to whoever has a connection. The next session begins when a broker
answers again. The connection that events go out by is opened again within the session.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Never

import structlog
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
)

from aimicromind_schemas import Names
from aimicromind_schemas.client import BrokerRefused, BrokerTlsRefused
from aimicromind_worker.amqp.channels import NEEDED, TooFewChannels, check_channels
from aimicromind_worker.amqp.connection import BrokerConnection, PermissionMissing
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
from aimicromind_worker.amqp.topology import DeclarationRefused, TopologyDiffers
from aimicromind_worker.app.build import (
    broker_connection,
    endpoint,
    limits,
    needed_topology,
    recovery,
)
from aimicromind_worker.app.service import GraceOver, Service, Shutdown
from aimicromind_worker.app.settings import Settings, SettingsInvalid
from aimicromind_worker.core.job.cancels import KEPT_FOR
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.call import Means
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.status import WorkerStatus
from aimicromind_worker.telemetry.tracing import Tracer, Untraced

log = structlog.get_logger()

_LONGEST_PAUSE_S = 5.0
_STEADY_SESSION_S = 30.0
# How long an API key that was read is used, at most.
_KEY_LASTS_S = 2.0
# Jobs that the broker gave up and that this worker holds, to bury one after the other.
_DEAD_LETTERS_AT_ONCE = 4
# Nothing would be gained by trying again.
_FINAL = (
    BrokerRefused,
    BrokerTlsRefused,
    SettingsInvalid,
    PermissionMissing,
    TooFewChannels,
    DeclarationRefused,
    TopologyDiffers,
)
# Of those, what a worker that got in before waits out: secrets and certificates are renewed here
# and at the broker, never at both at once.
_RENEWED = (BrokerRefused, BrokerTlsRefused, SettingsInvalid)


class Worker:
    """One worker process. `run` once; `stop` from a signal handler, at any time.

    Attributes:
        condition: To be asked whether it works, at any time.
        event_counts: What became of its events, over all sessions.
        metrics: All that it counts.
    """

    def __init__(
        self,
        settings: Settings,
        on_ready: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: What the operator set.
            on_ready: Called whenever the worker begins to take jobs.
            tracer: Keeps spans, if anybody does; whoever gives it closes it.
        """
        self.condition = WorkerStatus()
        self.event_counts = EventCounts()
        self.metrics = Metrics(self.event_counts)
        self._settings = settings
        self._on_ready = on_ready
        self._tracer = tracer or Untraced()
        self._names = Names(settings.prefix)
        self._policy = RetryPolicy()
        self._held = JobRegistry()
        self._breaker = CircuitBreaker()
        self._flows = Flows(settings.concurrency)
        self._journal = JournalMemory()
        self._cancels_known_until = datetime.now(UTC) - KEPT_FOR
        self._has_worked = False
        self._publisher: EventPublisher | None = None
        self._held_bytes: MemoryBudget | None = None
        self._renewed_at = monotonic()
        self._watch_condition()
        self._leave = Shutdown()

    def _watch_condition(self) -> None:
        watch, held = self.metrics.watch, self._held
        watch("running_jobs", "Jobs that are run now", lambda: held.running)
        watch("waiting_jobs", "Jobs that wait in the worker", lambda: held.waiting)
        watch("ready", "Whether jobs are taken", lambda: not self.condition.why_not_ready())
        watch(
            "held_bytes",
            "Bytes of the jobs that are held",
            lambda: self._held_bytes.held if self._held_bytes else 0,
        )
        watch(
            "endpoint_down",
            "Whether no calls are made since the endpoint does not answer",
            lambda: self._breaker.obstacle() is not None,
        )
        watch(
            "unconfirmed_events",
            "Events that the broker has not answered for",
            lambda: self._publisher.unsettled if self._publisher else 0,
        )
        watch(
            "broker_blocked",
            "Whether the broker takes no events",
            lambda: self._publisher is not None and self._publisher.blocked,
        )

    def stop(self) -> None:
        """Take no more jobs, finish what fits in the grace period, then end.

        Asked a second time, hand the running jobs back at once.
        """
        self.condition.drain()
        self._leave.ask()

    async def run(self) -> None:
        """Carry jobs until stopped; reconnect for as long as that takes.

        Raises:
            BrokerRefused: The broker does not let us in, and never did.
            BrokerTlsRefused: We do not trust it, or it does not trust us, and never did.
            PermissionMissing: It does not let us publish or consume.
            TooFewChannels: It allows fewer channels on a connection than a worker needs.
            TopologyDiffers: A queue or exchange exists with other arguments.
            DeclarationRefused: It does not let us declare.
        """
        settings = self._settings
        watch = IdleTimeout(timedelta(seconds=settings.idle_timeout_seconds))
        async with EndpointClient.open(
            endpoint(partial(self._renewed, _KEY_LASTS_S))
        ) as predictions:
            watching = asyncio.create_task(watch.run())
            try:
                with self.condition.supervising():
                    await self._sessions(predictions, watch)
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
        log.info("worker.stopped")

    async def _sessions(self, predictions: EndpointClient, watch: IdleTimeout) -> None:
        failures = 0
        while not self._leave.is_asked:
            began = monotonic()
            final: BaseException | None = None
            try:
                await self._session(predictions, watch)
            except* _FINAL as refused:
                final = _leaf(refused)
                if self._has_worked and isinstance(final, _RENEWED):
                    self._note_loss(str(final))
                    final = None
            except* (ConnectionError, AMQPError, TimeoutError) as lost:
                final = final or _refusal(_leaf(lost), over_a_limit=not self._has_worked)
                if final is None:
                    self._note_loss(str(_leaf(lost)))
            except* _LeftAtOnce:
                log.info("worker.stopped_at_once")
            except* GraceOver:
                log.warning("drain.overran", grace_s=self._settings.drain_seconds)
            if final is not None:
                raise final
            if self._leave.is_asked:
                return
            failures = 0 if monotonic() - began > _STEADY_SESSION_S else failures + 1
            pause = min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311 - spreads reconnects
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._leave.asked()

    def _note_loss(self, reason: str) -> None:
        self.condition.lost(reason)
        self.metrics.session_lost()
        log.warning("broker.lost", reason=reason)

    async def _leave_at_once(self) -> Never:
        await self._leave.asked()
        raise _LeftAtOnce

    def _connection(self, name: str) -> AbstractAsyncContextManager[BrokerConnection]:
        return broker_connection(self._renewed(), name)

    def _renewed(self, age_s: float = 0.0) -> Settings:
        """Return the settings with their secrets as they are now, or were so many seconds ago."""
        if monotonic() - self._renewed_at >= age_s:
            self._renewed_at = monotonic()
            try:
                self._settings = self._settings.renewed()
            except SettingsInvalid as error:
                log.warning("secrets.unreadable", reason=str(error))
        return self._settings

    async def _session(self, predictions: EndpointClient, watch: IdleTimeout) -> None:
        """Work over one connection that jobs come by until told to stop, or until it is lost."""
        settings, names = self._settings, self._names
        beat, events = settings.heartbeat, partial(self._connection, "aimicromind-worker events")
        async with self._connection("aimicromind-worker jobs") as consuming:
            check_channels(consuming)
            ownership = JobOwnership(beat)
            ownership.when_shut(consuming.wire.abort)
            copies = Copies(
                partial(self._connection, "aimicromind-worker copies"),
                beat,
                names,
                ownership,
                self.event_counts,
            )
            publisher = self._publisher = EventPublisher(
                names, Window(), ownership.is_open, self.event_counts, copies.lane
            )
            wanted = needed_topology(settings)
            publishing = PublisherConnection(events, beat, wanted, publisher, ownership, _RENEWED)
            async with asyncio.TaskGroup() as links:
                kept = [
                    links.create_task(ownership.watch(consuming)),
                    links.create_task(ownership.until_shut()),
                    links.create_task(publishing.run()),
                    links.create_task(copies.run()),
                ]
                leaving = links.create_task(self._leave_at_once())
                await publishing.usable()
                take = partial(JobConsumer.open, consuming, publishing, names, ownership.shut)
                since = self._cancels_known_until
                async with AsyncExitStack() as opened:
                    control = await opened.enter_async_context(
                        CancelListener.open(consuming, publishing, names, self._held.cancel, since)
                    )
                    # From here on there may be jobs, which are handed back in good order.
                    leaving.cancel()
                    self._held_bytes = MemoryBudget(
                        settings.max_held_bytes, consuming.wire.demultiplexer.guard
                    )
                    source = await opened.enter_async_context(
                        take(settings.concurrency, budget=self._held_bytes)
                    )
                    reaped = await opened.enter_async_context(
                        take(_DEAD_LETTERS_AT_ONCE, names.jobs_reaped)
                    )
                    self._cancels_known_until = control.known_until
                    kept.append(links.create_task(control.lost()))
                    kept.append(links.create_task(self._breaker.watch(predictions.answers)))
                    lifetime = timedelta(seconds=settings.job_lifetime_seconds)
                    journal = Journal(consuming, publishing, names.journal, self._journal)
                    chat_locks = await ChatLocks.open(consuming, names)
                    relay = Relay(
                        self._means(predictions, publisher, watch, journal),
                        journal,
                        chat_locks,
                        self._held,
                        names,
                        lifetime,
                        settings.max_job_bytes,
                        Turns(settings.concurrency, source.stand_in),
                        after_loss=self._has_worked,
                    )
                    self._has_worked = True
                    log.info("worker.ready", concurrency=settings.concurrency)
                    self._on_ready()
                    await Service(source, reaped, relay, publishing).run(
                        self._leave,
                        timedelta(seconds=settings.drain_seconds),
                        self.condition.consuming(
                            lambda: (
                                publishing.obstacle()
                                or self._breaker.obstacle()
                                or self._flows.obstacle()
                            )
                        ),
                    )
                for task in kept:
                    task.cancel()

    def _means(
        self,
        predictions: EndpointClient,
        publisher: EventPublisher,
        watch: IdleTimeout,
        journal: Journal,
    ) -> Means:
        settings = self._settings
        found, longest = recovery(settings, predictions.client), limits(settings).attempt_timeout
        return Means(
            predictions,
            publisher,
            watch,
            limits(settings),
            self._policy,
            found,
            Conversations(journal, found, longest),
            self._breaker,
            self._flows,
            self.metrics,
            self._tracer,
        )


class _LeftAtOnce(Exception):
    """The worker was told to leave before it took jobs."""


def _leaf(error: BaseException) -> BaseException:
    """Find the first error within groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _refusal(error: BaseException | None, *, over_a_limit: bool) -> Exception | None:
    """Find out whether a loss was the broker's answer to something that we may not do.

    Args:
        error: What the session was lost by.
        over_a_limit: Whether a limit counts that others may have used up.
    """
    while error is not None:
        if isinstance(error, ChannelAccessRefused):
            return PermissionMissing(str(error))
        if over_a_limit and isinstance(error, ConnectionNotAllowed | ChannelPreconditionFailed):
            return BrokerRefused(str(error), remedy=NEEDED)
        error = error.__cause__
    return None
