"""Put the parts together: open them in order, carry jobs until told to stop, drain, close.

Losing the connection that jobs come by ends a session: its attempts end at once, unheard, and
the broker gives their jobs to whoever has a connection. The next session begins when a broker
answers again. The connection that events go out by is opened again within the session.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from functools import partial
from time import monotonic

import structlog
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
)

from aimicromind_schemas.client import BrokerRefused, BrokerTlsRefused
from aimicromind_worker.amqp.channels import NEEDED, TooFewChannels
from aimicromind_worker.amqp.connection import BrokerConnection, PermissionMissing
from aimicromind_worker.amqp.declaring import DeclarationRefused, TopologyDiffers
from aimicromind_worker.amqp.jobs.journal import JournalMemory
from aimicromind_worker.app.broker_settings import SettingsInvalid
from aimicromind_worker.app.build import (
    broker_connection,
    endpoint,
)
from aimicromind_worker.app.service import GraceOver, Shutdown
from aimicromind_worker.app.session import Lasting, Session, StoppedAtOnce
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.backoff import Backoff
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.status import WorkerStatus
from aimicromind_worker.telemetry.tracing import Tracer

log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
_STEADY_SESSION_S = 30.0
# How long an API key that was read is used, at most.
_KEY_LASTS_S = 2.0
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
        self.event_counts = EventCounts()
        self.metrics = Metrics(self.event_counts)
        self.condition = WorkerStatus()
        self._settings = settings
        self._lasting = Lasting(
            self.condition,
            self.event_counts,
            self.metrics,
            tracer or Tracer(),
            JobRegistry(),
            CircuitBreaker(),
            Flows(settings.concurrency),
            JournalMemory(),
            Shutdown(),
            on_ready,
        )
        self._renewed_at = monotonic()
        self._watch_condition()

    def _watch_condition(self) -> None:
        watch, lasting = self.metrics.watch, self._lasting
        held = lasting.held
        watch("running_jobs", "Jobs that are run now", lambda: held.running)
        watch("waiting_jobs", "Jobs that wait in the worker", lambda: held.waiting)
        watch("ready", "Whether jobs are taken", lambda: not self.condition.why_not_ready())
        watch(
            "held_bytes",
            "Bytes of the jobs that are held",
            lambda: lasting.budget.held if lasting.budget else 0,
        )
        watch(
            "endpoint_down",
            "Whether no calls are made since the endpoint does not answer",
            lambda: lasting.breaker.obstacle() is not None,
        )
        watch(
            "unconfirmed_events",
            "Events that the broker has not answered for",
            lambda: lasting.publisher.unsettled if lasting.publisher else 0,
        )
        watch(
            "broker_blocked",
            "Whether the broker takes no events",
            lambda: lasting.publisher is not None and lasting.publisher.blocked,
        )

    def stop(self) -> None:
        """Take no more jobs, finish what fits in the grace period, then end.

        Asked a second time, hand the running jobs back at once.
        """
        self.condition.drain()
        self._lasting.shutdown.ask()

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
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while not self._lasting.shutdown.is_asked:
            began = monotonic()
            refused = await self._one_session(predictions, watch)
            if refused is not None:
                raise refused
            if monotonic() - began > _STEADY_SESSION_S:
                backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.pause()):
                    await self._lasting.shutdown.asked()

    async def _one_session(
        self, predictions: EndpointClient, watch: IdleTimeout
    ) -> BaseException | None:
        """Carry jobs over one connection.

        Returns:
            Why another session would fail, too; None if it would not.
        """
        final: BaseException | None = None
        try:
            await self._session(predictions, watch).run()
        except* _FINAL as refused:
            final = _leaf(refused)
            if self._lasting.has_worked and isinstance(final, _RENEWED):
                self._note_loss(str(final))
                final = None
        except* (ConnectionError, AMQPError, TimeoutError) as lost:
            final = final or _refusal(_leaf(lost), over_a_limit=not self._lasting.has_worked)
            if final is None:
                self._note_loss(str(_leaf(lost)))
        except* StoppedAtOnce:
            log.info("worker.stopped_at_once")
        except* GraceOver:
            log.warning("drain.overran", grace_s=self._settings.drain_seconds)
        return final

    def _note_loss(self, reason: str) -> None:
        self.condition.lost(reason)
        self.metrics.session_lost()
        log.warning("broker.lost", reason=reason)

    def _session(self, predictions: EndpointClient, watch: IdleTimeout) -> Session:
        return Session(
            self._lasting, self._settings, self._connection, predictions, watch, _RENEWED
        )

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
