"""Put the parts together: open them in order, carry jobs until told to stop, drain, close.

A lost broker ends a session: its attempts end at once and the broker gives their jobs to
whoever has a connection. The next session begins when a broker answers again.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog
from aiormq.exceptions import AMQPError

from aimicromind_schemas import Names
from aimicromind_worker.adapters.chat_lease import ChatLeases
from aimicromind_worker.adapters.connection import connect
from aimicromind_worker.adapters.control import Control
from aimicromind_worker.adapters.event_sink import EventSink, Window
from aimicromind_worker.adapters.job_source import JobSource
from aimicromind_worker.adapters.journal import Journal
from aimicromind_worker.adapters.prediction_stream import PredictionStream
from aimicromind_worker.adapters.topology import declare
from aimicromind_worker.calls import Means
from aimicromind_worker.condition import Condition
from aimicromind_worker.core.cancels import KEPT_FOR
from aimicromind_worker.core.retry import RetryPolicy
from aimicromind_worker.held_jobs import HeldJobs
from aimicromind_worker.idle_watch import IdleWatch
from aimicromind_worker.needs import endpoint, limits, needed_topology, recovery
from aimicromind_worker.relay import Relay
from aimicromind_worker.settings import Settings

log = structlog.get_logger()

_LONGEST_PAUSE_S = 5.0
_STEADY_SESSION_S = 30.0
# The end of the grace period in which what is not finished is handed back.
_HAND_BACK_PART = 0.2
_HAND_BACK_AT_MOST_S = 5.0
# The end of that in which the connections are closed.
_CLOSING_PART = 0.06
# Jobs that the broker gave up and that this worker holds, to bury one after the other.
_BURIALS = 4


class Worker:
    """One worker process. `run` once; `stop` from a signal handler, at any time.

    Attributes:
        condition: To be asked whether it works, at any time.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: What the operator set.
            on_ready: Called whenever the worker begins to take jobs.
        """
        self.condition = Condition()
        self._settings = settings
        self._on_ready = on_ready
        self._names = Names(settings.prefix)
        self._policy = RetryPolicy()
        self._held = HeldJobs()
        self._cancels_known_until = datetime.now(UTC) - KEPT_FOR
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()

    def stop(self) -> None:
        """Take no more jobs, finish what fits in the grace period, then end.

        Asked a second time, hand the running jobs back at once.
        """
        if self._stopping.is_set():
            self._hurried.set()
        self.condition.drain()
        self._stopping.set()

    async def run(self) -> None:
        """Carry jobs until stopped; reconnect for as long as that takes.

        Raises:
            BrokerRefused: The broker does not let us in.
            TopologyDiffers: A queue or exchange exists with other arguments.
            DeclarationRefused: A permission is missing.
        """
        settings = self._settings
        watch = IdleWatch(timedelta(seconds=settings.idle_timeout_seconds))
        async with PredictionStream.open(endpoint(settings)) as predictions:
            watching = asyncio.create_task(watch.run())
            try:
                with self.condition.supervising():
                    await self._sessions(predictions, watch)
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
        log.info("worker.stopped")

    async def _sessions(self, predictions: PredictionStream, watch: IdleWatch) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = monotonic()
            try:
                await self._session(predictions, watch)
            except* (ConnectionError, AMQPError, TimeoutError) as lost:
                reason = str(_leaf(lost))
                self.condition.lost(reason)
                log.warning("broker.lost", reason=reason)
            except* _GraceOver:
                log.warning("drain.overran", grace_s=self._settings.drain_seconds)
            if self._stopping.is_set():
                return
            failures = 0 if monotonic() - began > _STEADY_SESSION_S else failures + 1
            pause = min(_LONGEST_PAUSE_S, 0.25 * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311 - spreads reconnects
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _session(self, predictions: PredictionStream, watch: IdleWatch) -> None:
        """Work over one pair of connections until told to stop."""
        settings, names = self._settings, self._names
        urls, beat = settings.broker_urls, settings.heartbeat
        async with (
            connect(urls, "aimicromind-worker jobs", beat) as consuming,
            connect(urls, "aimicromind-worker events", beat) as publishing,
            EventSink.open(publishing, names, Window()) as sink,
        ):
            await declare(publishing, needed_topology(settings))
            since = self._cancels_known_until
            async with (
                Control.open(consuming, names, self._held.cancel, since) as control,
                JobSource.open(consuming, publishing, names, settings.concurrency) as source,
                JobSource.open(consuming, publishing, names, _BURIALS, names.jobs_reaped) as reaped,
            ):
                self._cancels_known_until = control.known_until
                found = recovery(settings, predictions.client)
                means = Means(predictions, sink, watch, limits(settings), self._policy, found)
                lifetime = timedelta(seconds=settings.job_lifetime_seconds)
                journal = Journal(consuming, names.journal)
                leases = await ChatLeases.open(consuming, names)
                relay = Relay(
                    means,
                    journal,
                    leases,
                    self._held,
                    names,
                    lifetime,
                    settings.max_job_bytes,
                )
                log.info("worker.ready", concurrency=settings.concurrency)
                self._on_ready()
                await self._serve(source, reaped, (sink.lost(), control.lost()), relay)

    async def _serve(
        self,
        source: JobSource,
        reaped: JobSource,
        losses: Iterable[Coroutine[None, None, None]],
        relay: Relay,
    ) -> None:
        async with asyncio.TaskGroup() as service:
            watching = [service.create_task(loss) for loss in losses]
            drain = service.create_task(self._drain(source, reaped, relay))
            async with asyncio.TaskGroup() as jobs:
                jobs.create_task(_bury_all(reaped, relay))
                with self.condition.consuming():
                    async for delivery in source:
                        jobs.create_task(relay.carry(delivery))
            for watch in watching:
                watch.cancel()
            drain.cancel()

    async def _drain(self, source: JobSource, reaped: JobSource, relay: Relay) -> None:
        await self._stopping.wait()
        grace_s = self._settings.drain_seconds
        hand_back_s = min(grace_s * _HAND_BACK_PART, _HAND_BACK_AT_MOST_S)
        log.info("worker.draining", grace_s=grace_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s - hand_back_s):
                await source.stop()
                await reaped.stop()
                await self._hurried.wait()
        relay.hand_back_all()
        await asyncio.sleep(hand_back_s - grace_s * _CLOSING_PART)
        raise _GraceOver


async def _bury_all(reaped: JobSource, relay: Relay) -> None:
    async for delivery in reaped:
        await relay.bury(delivery)


class _GraceOver(Exception):
    """The grace period is over and jobs are still held; the broker takes them back."""


def _leaf(error: BaseException) -> BaseException:
    """Find the first error within groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
