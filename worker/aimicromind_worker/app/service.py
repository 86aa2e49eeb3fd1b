"""Start a task for each job as it is delivered; on request, drain within the grace period.

A drain has these steps:

1. From the request on, no more jobs are taken. Those without a turn or a slot are requeued.
2. Running jobs may finish, until the last fifth of the grace period or its last 5 s begin.
3. Then running jobs are interrupted and published again with their state.
4. The last 6 % are left for closing connections. The broker requeues unsettled jobs.
"""

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

# The part of the grace period, at its end, in which unfinished jobs are published again.
_REQUEUE_PART = 0.2
_REQUEUE_AT_MOST_S = 5.0
# The part of the grace period, at its very end, in which the connections are closed.
_CLOSING_PART = 0.06


class GraceOver(Exception):
    """The grace period is over and jobs are still unsettled; the broker requeues them."""


class Shutdown:
    """An operator's requests to the worker: to drain, and then to end the drain at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._since = 0.0

    @property
    def is_asked(self) -> bool:
        """Whether a drain was requested."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Request a drain; the second request ends it at once."""
        if self.is_asked:
            self._hurried.set()
        else:
            self._since = monotonic()
        self._asked.set()

    def left_of(self, grace: timedelta) -> timedelta:
        """Return the rest of a grace period that began with the request to drain."""
        passed = timedelta(seconds=monotonic() - self._since)
        return max(timedelta(), grace - passed) if self.is_asked else grace

    async def asked(self) -> None:
        """Wait until a drain is requested."""
        await self._asked.wait()

    async def hurried(self) -> None:
        """Wait until the drain is requested a second time."""
        await self._hurried.wait()


class Source(Protocol):
    """A source of deliveries, iterated until it is stopped."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def stop(self) -> None:
        """Take no more deliveries; requeue those that were not yielded yet."""


class Publishing(Protocol):
    """The connection on which events are published."""

    async def usable(self) -> None:
        """Wait until events can be published."""


class Service:
    """The tasks of all jobs of a session. Call `run` once."""

    def __init__(
        self,
        jobs: Source,
        dead_lettered_jobs: Source,
        relay: Relay,
        dead_lettered: DeadLettered,
        publishing: Publishing,
    ) -> None:
        """Prepare to carry jobs.

        Args:
            jobs: The source of jobs to run.
            dead_lettered_jobs: The source of jobs that the broker dead-lettered.
            relay: The handler of the former.
            dead_lettered: The handler of the latter.
            publishing: The connection that must be usable before a job is handled: the answer of a
                call could not be published otherwise.
        """
        self._jobs = jobs
        self._dead_lettered_jobs = dead_lettered_jobs
        self._relay = relay
        self._dead_lettered = dead_lettered
        self._publishing = publishing

    async def run(
        self, shutdown: Shutdown, grace: timedelta, consuming: AbstractContextManager[None]
    ) -> None:
        """Carry jobs until a drain is requested and all jobs are settled.

        Args:
            shutdown: The operator's requests.
            grace: The longest time from the request to the end.
            consuming: A context that is entered while jobs are taken.

        Raises:
            GraceOver: Some jobs could not be requeued in time.
        """
        async with asyncio.TaskGroup() as service:
            draining = service.create_task(self._drain(shutdown, grace))
            async with asyncio.TaskGroup() as carried:
                carried.create_task(self._end_all(carried))
                with consuming:
                    async for delivery in self._jobs:
                        carried.create_task(self._carry(delivery))
            draining.cancel()

    async def _carry(self, delivery: Delivery) -> None:
        await self._publishing.usable()
        await self._relay.carry(delivery)

    async def _end_all(self, carried: asyncio.TaskGroup) -> None:
        async for delivery in self._dead_lettered_jobs:
            carried.create_task(self._end(delivery))

    async def _end(self, delivery: Delivery) -> None:
        await self._publishing.usable()
        await self._dead_lettered.end(delivery)

    async def _drain(self, shutdown: Shutdown, grace: timedelta) -> None:
        await shutdown.asked()
        grace_s = shutdown.left_of(grace).total_seconds()
        requeue_s = min(grace_s * _REQUEUE_PART, _REQUEUE_AT_MOST_S)
        log.info("worker.draining", grace_s=grace_s, **self._relay.held)
        async with asyncio.TaskGroup() as stopping:
            # A broker that does not answer must not delay the publishing of unfinished jobs.
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
        self._relay.hand_back_waiting()
        await self._dead_lettered_jobs.stop()
