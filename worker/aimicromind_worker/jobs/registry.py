"""The jobs that this worker has, and the cancel requests that reach them or those still to come."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from aimicromind_schemas import CancelRequest
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.cancels import Cancels, covers
from aimicromind_worker.jobs.ports import HeldChat
from aimicromind_worker.runs.run import JobRun
from aimicromind_worker.telemetry.tracing import Span


class HeldJob:
    """A job from when it comes until it is settled. Make it in the event loop.

    Attributes:
        ticket: The job, with what has become known of it.
        span: What is told of it.
        cancelled: Done once the job is cancelled.
        chat_lock: Its chat's, while it is held.
    """

    def __init__(self, ticket: Ticket, span: Span) -> None:
        self.ticket = ticket
        self.span = span
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.chat_lock: HeldChat | None = None
        self._run: JobRun | None = None

    @property
    def is_run(self) -> bool:
        """Whether it has been begun."""
        return self._run is not None

    def attach(self, run: JobRun) -> None:
        """Record the job's run, which a cancel interrupts, also one that has come already."""
        self._run = run
        if self.cancelled.done():
            run.cancel()

    def cancel(self) -> None:
        """Stop the job, unless its outcome is known."""
        if not self.cancelled.done():
            self.cancelled.set_result(None)
            self.span.note("job.cancelled")
        if self._run is not None:
            self._run.cancel()


class JobRegistry:
    """One for the process: what was cancelled stays known when the broker was lost."""

    def __init__(self) -> None:
        self._cancels = Cancels()
        self._held: set[HeldJob] = set()

    @property
    def running(self) -> int:
        """How many jobs are run now."""
        return sum(job.is_run for job in self._held)

    @property
    def waiting(self) -> int:
        """How many jobs wait here: for their chat, a slot, or the endpoint."""
        return len(self._held) - self.running

    def cancel(self, request: CancelRequest) -> None:
        """Stop the jobs that a request covers, now or when they come."""
        self._cancels.keep(request, datetime.now(UTC))
        for job in self._held:
            if covers(request, job.ticket, taken_before=True):
                job.cancel()

    @contextmanager
    def holding(self, ticket: Ticket, span: Span) -> Iterator[HeldJob]:
        """Register a job for cancel requests during the body."""
        job = HeldJob(ticket, span)
        if self._cancels.cover(ticket):
            job.cancel()
        self._held.add(job)
        try:
            yield job
        finally:
            self._held.discard(job)
