"""Match cancel requests with jobs: those that this worker has, and those that come later."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from aimicromind_schemas import CancelRequest
from aimicromind_worker.core.catching_up.snapshot import RunningJob
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.cancels import Cancels, covers
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.runs.run import JobRun
from aimicromind_worker.telemetry.tracing import Span


@dataclass(slots=True)
class HeldChat:
    """A chat whose lock this worker holds.

    Attributes:
        is_lost: Whether the broker took the lock away.
        on_loss: A callback for that.
        running: The job that runs now; None: none.
        copied: The id of the last job of which a copy waits in another worker; empty: none.
    """

    is_lost: bool = False
    on_loss: Callable[[], None] = lambda: None
    running: Progress | None = None
    copied: str = ""

    def run(self, progress: Progress | None) -> None:
        """Take in which job runs now; None: none."""
        self.running = progress
        self._tell_of_copy()

    def note_copy(self, job_id: str) -> None:
        """Take in that a copy of a job waits in another worker."""
        self.copied = job_id
        self._tell_of_copy()

    def _tell_of_copy(self) -> None:
        if self.running is not None and self.running.ticket.job_id == self.copied:
            self.running.note_copy()

    @property
    def running_job(self) -> RunningJob | None:
        """What a follower that comes late may read of it."""
        return None if self.running is None else self.running.running


class HeldJob:
    """A job from its admission until it is settled. Make it in the event loop.

    Attributes:
        ticket: The job, with all that is known of it by now.
        span: The job's trace span.
        cancelled: A future that is done once the job is cancelled.
        chat: The job's chat, None until it is the job's turn there.
    """

    def __init__(self, ticket: Ticket, span: Span) -> None:
        self.ticket = ticket
        self.span = span
        self.cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.chat: HeldChat | None = None
        self._came_at = monotonic()
        self._run: JobRun | None = None

    @property
    def is_run(self) -> bool:
        """Whether the job has been begun."""
        return self._run is not None

    def left_of(self, patience: timedelta) -> timedelta:
        """Return what is left of a time that began when the job came."""
        return max(timedelta(), patience - timedelta(seconds=monotonic() - self._came_at))

    def attach(self, run: JobRun) -> None:
        """Record the job's run, which a cancel interrupts; interrupt it if one came before."""
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
    """The jobs that this worker has, and the cancel requests of the last 7 days.

    One for the process: cancel requests stay known after a lost connection.
    """

    def __init__(self) -> None:
        self._cancels = Cancels()
        self._held: set[HeldJob] = set()
        self._known_since = datetime.min.replace(tzinfo=UTC)
        self._more_known = asyncio.Event()

    @property
    def running(self) -> int:
        """The number of jobs that run now."""
        return sum(job.is_run for job in self._held)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait in this worker: for their chat, a slot or the endpoint."""
        return len(self._held) - self.running

    @property
    def oldest_submitted_at(self) -> datetime | None:
        """The first time of submission of the jobs of this worker; None where none is known."""
        times = (job.ticket.facts.submitted_at for job in self._held)
        return min((time for time in times if time is not None), default=None)

    def find(self, job_id: str) -> HeldJob | None:
        """Return a job of this worker, of several copies one that is run; None without any."""
        copies = [job for job in self._held if job.ticket.job_id == job_id]
        return max(copies, key=lambda job: job.is_run, default=None)

    @property
    def counts(self) -> Mapping[str, int]:
        """The numbers of jobs that are `running` and `waiting`, for the log."""
        return {"running": self.running, "waiting": self.waiting}

    def cancel(self, request: CancelRequest) -> None:
        """Cancel the jobs that a new request covers, and remember it for jobs that come later."""
        self._cancel(request, is_new=True)

    def cancel_logged(self, request: CancelRequest) -> None:
        """Cancel the jobs that a request of the log covers, which may be older than they are."""
        self._cancel(request, is_new=False)

    def _cancel(self, request: CancelRequest, *, is_new: bool) -> None:
        self._cancels.keep(request, datetime.now(UTC))
        for job in self._held:
            if covers(request, job.ticket, taken_before=is_new):
                job.cancel()

    def know_requests_since(self, since: datetime) -> None:
        """Remember that all requests since then are known, for jobs submitted since then."""
        self._known_since = since
        self._more_known.set()
        self._more_known = asyncio.Event()

    async def until_requests_known(self, ticket: Ticket) -> None:
        """Wait until all requests are known that may have been made for a job."""
        submitted = ticket.facts.submitted_at or datetime.min.replace(tzinfo=UTC)
        while self._known_since > submitted:
            await self._more_known.wait()

    @contextmanager
    def holding(self, ticket: Ticket, span: Span) -> Iterator[HeldJob]:
        """Register a job for cancel requests while the body runs."""
        job = HeldJob(ticket, span)
        if self._cancels.cover(ticket):
            job.cancel()
        self._held.add(job)
        try:
            yield job
        finally:
            self._held.discard(job)
