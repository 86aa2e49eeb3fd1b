"""Carry jobs as they come until told to stop; then drain, within the grace period."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from time import monotonic
from typing import Protocol

import structlog

from aimicromind_worker.jobs.dead_lettered import DeadLettered
from aimicromind_worker.jobs.ports import Delivery
from aimicromind_worker.jobs.relay import Relay

log = structlog.get_logger()

# The end of the grace period, in which jobs that are not finished are published again.
_REQUEUE_PART = 0.2
_REQUEUE_AT_MOST_S = 5.0
# The end of that in which the connections are closed.
_CLOSING_PART = 0.06


class GraceOver(Exception):
    """The grace period is over and jobs are still held; the broker takes them back."""


class Shutdown:
    """What an operator asks of the worker: to drain, and then to end at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._since = 0.0

    @property
    def is_asked(self) -> bool:
        """Whether a drain was asked for."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Request a drain; the second request ends it at once."""
        if self.is_asked:
            self._hurried.set()
        else:
            self._since = monotonic()
        self._asked.set()

    def left_of(self, grace: timedelta) -> timedelta:
        """Return what is left of a time that began when the drain was asked for."""
        passed = timedelta(seconds=monotonic() - self._since)
        return max(timedelta(), grace - passed) if self.is_asked else grace

    async def asked(self) -> None:
        """Wait until a drain is asked for."""
        await self._asked.wait()

    async def hurried(self) -> None:
        """Wait until the drain must end at once."""
        await self._hurried.wait()


class Source(Protocol):
    """Where deliveries come from, until it is stopped."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def stop(self) -> None:
        """Take no more; requeue those that came and were not yielded."""


class Publishing(Protocol):
    """The way of events."""

    async def usable(self) -> None:
        """Wait until events can be published."""


class Service:
    """Carries what two sources give. One for a session; `run` once."""

    def __init__(
        self,
        jobs: Source,
        dead_lettered_jobs: Source,
        relay: Relay,
        dead_lettered: DeadLettered,
        publishing: Publishing,
    ) -> None:
        """Prepare.

        Args:
            jobs: Jobs to run.
            dead_lettered_jobs: Jobs that the broker dead-lettered.
            relay: Runs the former.
            dead_lettered: Ends the latter.
            publishing: Awaited before each job. A call whose answer cannot be published would be
                billed for nothing.
        """
        self._jobs = jobs
        self._dead_lettered_jobs = dead_lettered_jobs
        self._relay = relay
        self._dead_lettered = dead_lettered
        self._publishing = publishing

    async def run(
        self, shutdown: Shutdown, grace: timedelta, consuming: AbstractContextManager[None]
    ) -> None:
        """Carry jobs until a drain is asked for and all are done.

        Args:
            shutdown: Asks for the drain.
            grace: Longest time from then to the end.
            consuming: Entered for as long as jobs are taken.

        Raises:
            GraceOver: Jobs are left that could not be requeued in time.
        """
        async with asyncio.TaskGroup() as service:
            draining = service.create_task(self._drain(shutdown, grace))
            async with asyncio.TaskGroup() as carried:
                carried.create_task(self._end_all())
                with consuming:
                    async for delivery in self._jobs:
                        carried.create_task(self._carry(delivery))
            draining.cancel()

    async def _carry(self, delivery: Delivery) -> None:
        await self._publishing.usable()
        await self._relay.carry(delivery)

    async def _end_all(self) -> None:
        async for delivery in self._dead_lettered_jobs:
            await self._publishing.usable()
            await self._dead_lettered.end(delivery)

    async def _drain(self, shutdown: Shutdown, grace: timedelta) -> None:
        await shutdown.asked()
        grace_s = shutdown.left_of(grace).total_seconds()
        requeue_s = min(grace_s * _REQUEUE_PART, _REQUEUE_AT_MOST_S)
        log.info("worker.draining", grace_s=grace_s)
        async with asyncio.TaskGroup() as stopping:
            # A broker that does not answer must not delay the publishing of what is left.
            stops = stopping.create_task(self._take_no_more())
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s - requeue_s):
                    await shutdown.hurried()
            self._relay.shut_down_runs()
            await asyncio.sleep(requeue_s - grace_s * _CLOSING_PART)
            stops.cancel()
        raise GraceOver

    async def _take_no_more(self) -> None:
        await self._jobs.stop()
        await self._dead_lettered_jobs.stop()
