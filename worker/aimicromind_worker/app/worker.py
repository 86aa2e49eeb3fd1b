"""Run the worker: one session after the other, until a drain is requested.

A lost connection of jobs ends a session. Its attempts end at once and publish nothing more; the
broker redelivers their jobs to connected workers. The next session begins once a broker answers.
The connection of events is opened again within a session.
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
from aimicromind_worker.amqp.declaring import DeclarationRefused
from aimicromind_worker.amqp.differences import TopologyDiffers
from aimicromind_worker.amqp.jobs.journal import JournalMemory
from aimicromind_worker.app.broker import broker_connection
from aimicromind_worker.app.broker_settings import SettingsInvalid
from aimicromind_worker.app.build import endpoint
from aimicromind_worker.app.gauges import watch_condition
from aimicromind_worker.app.process_state import ProcessState
from aimicromind_worker.app.service import GraceOver, Shutdown
from aimicromind_worker.app.session import Session, StoppedAtOnce
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
# The age up to which secrets are used without being read again.
_KEY_LASTS_S = 2.0
# Errors after which another session would fail in the same way.
_FINAL = (
    BrokerRefused,
    BrokerTlsRefused,
    SettingsInvalid,
    PermissionMissing,
    TooFewChannels,
    DeclarationRefused,
    TopologyDiffers,
)
# A worker that was connected before waits these out: secrets are not renewed at both at once.
_RENEWED = (BrokerRefused, BrokerTlsRefused, SettingsInvalid)


class Worker:
    """One worker process. Call `run` once; `stop` at any time, also from a signal handler.

    Attributes:
        condition: The worker's status, for `/livez` and `/readyz`.
        event_counts: The counts of published events, over all sessions.
        metrics: The worker's metrics.
    """

    def __init__(
        self,
        settings: Settings,
        on_ready: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: The operator's settings.
            on_ready: A callback for each time that the worker begins to take jobs.
            tracer: The source of trace spans; the caller closes it. None: no traces.
        """
        self.event_counts = EventCounts()
        self.metrics = Metrics(self.event_counts)
        self.condition = WorkerStatus()
        self._settings = settings
        self._process = ProcessState(
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
        watch_condition(self._process, settings.max_held_bytes)

    def stop(self) -> None:
        """Request a drain: take no more jobs, finish what fits in the grace period, then end.

        A second call requeues the running jobs at once.
        """
        self.condition.drain()
        self._process.shutdown.ask()

    async def run(self) -> None:
        """Carry jobs until stopped; reconnect without a limit on the number of tries.

        Raises:
            BrokerRefused: The broker rejects the login or the virtual host, and always did.
            BrokerTlsRefused: One side does not accept the other's certificate, and never did.
            PermissionMissing: The broker's user may not publish or consume.
            TooFewChannels: The broker allows fewer channels on a connection than a worker needs.
            TopologyDiffers, DeclarationRefused: See `declare`.
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
        while not self._process.shutdown.is_asked:
            began = monotonic()
            refused = await self._one_session(predictions, watch)
            if refused is not None:
                raise refused
            if monotonic() - began > _STEADY_SESSION_S:
                backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.pause()):
                    await self._process.shutdown.asked()

    async def _one_session(
        self, predictions: EndpointClient, watch: IdleTimeout
    ) -> BaseException | None:
        """Carry jobs over one connection.

        Returns:
            The error with which another session would fail, too; None if it may work.
        """
        final: BaseException | None = None
        try:
            await self._session(predictions, watch).run()
        except* _FINAL as refused:
            final = _leaf(refused)
            if self._process.has_worked and isinstance(final, _RENEWED):
                self._note_loss(str(final))
                final = None
        except* (ConnectionError, AMQPError, TimeoutError) as lost:
            final = final or _refusal(_leaf(lost), over_a_limit=not self._process.has_worked)
            if final is None:
                self._note_loss(str(_leaf(lost)))
        except* StoppedAtOnce:
            log.info("worker.stopped_at_once")
        except* GraceOver:
            counts = self._process.held.counts
            log.warning("drain.overran", grace_s=self._settings.drain_seconds, **counts)
        return final

    def _note_loss(self, reason: str) -> None:
        self.condition.lost(reason)
        self.metrics.session_lost()
        log.warning("broker.lost", reason=reason)

    def _session(self, predictions: EndpointClient, watch: IdleTimeout) -> Session:
        return Session(
            self._process, self._settings, self._connection, predictions, watch, _RENEWED
        )

    def _connection(self, name: str) -> AbstractAsyncContextManager[BrokerConnection]:
        return broker_connection(self._renewed(), name)

    def _renewed(self, age_s: float = 0.0) -> Settings:
        """Return the settings, with secrets re-read if older than `age_s`."""
        if monotonic() - self._renewed_at >= age_s:
            self._renewed_at = monotonic()
            try:
                self._settings = self._settings.renewed()
            except SettingsInvalid as error:
                log.warning("secrets.unreadable", reason=str(error))
        return self._settings


def _leaf(error: BaseException) -> BaseException:
    """Return the first error within nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _refusal(error: BaseException | None, *, over_a_limit: bool) -> Exception | None:
    """Return the refusal behind a lost session: a missing permission or a limit; else None.

    Args:
        error: The error that ended the session.
        over_a_limit: Whether a reached limit of the broker counts as a refusal.
    """
    while error is not None:
        if isinstance(error, ChannelAccessRefused):
            return PermissionMissing(str(error))
        if over_a_limit and isinstance(error, ConnectionNotAllowed | ChannelPreconditionFailed):
            return BrokerRefused(str(error), remedy=NEEDED)
        error = error.__cause__
    return None
