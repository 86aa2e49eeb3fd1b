"""A delivery → a job: admitted, looked up, and named in traces and logs."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from traceback import extract_tb

import structlog
from structlog.contextvars import bound_contextvars, unbind_contextvars

from aimicromind_schemas import Names
from aimicromind_worker.core.job.admission import Admission, Rejected, Ticket, admit
from aimicromind_worker.core.job.content_encoding import is_packed
from aimicromind_worker.core.job.history import History
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.jobs.ports import Delivery, JobHistory
from aimicromind_worker.jobs.settlement import reject, repeat_end
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.outcome import Outcome, in_words
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.telemetry.tracing import Span, trace_id

log = structlog.get_logger()

# A broker that restarts raises the delivery count of each job by up to 3.
_IGNORES_COUNTS_S = 60.0
# What is longer can hold the event loop for more than some milliseconds.
_READ_AT_ONCE_BYTES = 64 * 1024


class Intake:
    """What every delivery goes through, whether it is run or was dead-lettered by the broker."""

    def __init__(
        self,
        dependencies: Dependencies,
        journal: JobHistory,
        names: Names,
        lifetime: timedelta,
        max_job_bytes: int,
        *,
        after_loss: bool,
    ) -> None:
        """Prepare.

        Args:
            dependencies: What every run needs.
            journal: The pool's memory.
            names: The topology's names.
            lifetime: Longest life of a job, from when a worker first has it.
            max_job_bytes: Largest job.
            after_loss: Whether this worker lost the broker just before: after a broker restart,
                delivery counts are ignored for 60 s, since the restart raised them.
        """
        self._dependencies = dependencies
        self._journal = journal
        self._names = names
        self._lifetime = lifetime
        self._max_job_bytes = max_job_bytes
        self._ignores_counts_until = monotonic() + (_IGNORES_COUNTS_S if after_loss else 0)
        self._reading = asyncio.Lock()

    async def admit(self, delivery: Delivery) -> Admission:
        """Read a delivery; a long one in a thread."""
        facts, body = delivery.facts, delivery.body
        if monotonic() < self._ignores_counts_until:
            facts = replace(facts, failures_before=0)
        now, encoding = datetime.now(UTC), facts.content_encoding
        read = partial(admit, body, facts, self._names, now, self._lifetime, self._max_job_bytes)
        if len(body) <= _READ_AT_ONCE_BYTES and not is_packed(body, encoding):
            return read()
        # One at a time: with more of them the event loop waits long for its turn.
        async with self._reading:
            return await asyncio.to_thread(read)

    @contextmanager
    def span_of(self, job: Ticket | Rejected, delivery: Delivery, queue: str) -> Iterator[Span]:
        """Open a span for the body, and bind the job's ids to its log lines."""
        chat_id = job.chat_id
        flow = job.job.chatflow_id if isinstance(job, Ticket) else ""
        trace = delivery.facts.trace
        with self._dependencies.tracer.job(queue, job.job_id, chat_id or "", flow, trace) as span:
            traced = {"trace_id": it} if (it := trace_id(span.context)) else {}
            with bound_contextvars(job_id=job.job_id, chat_id=chat_id, **traced):
                try:
                    yield span
                finally:
                    unbind_contextvars("attempt")

    async def reject(self, rejected: Rejected, delivery: Delivery, span: Span) -> None:
        """Publish that a job is rejected, and dead-letter it."""
        await reject(rejected, delivery, self._dependencies.publisher, span)
        self._dependencies.meter.job_left("rejected", rejected.kind, timedelta())
        span.end(rejected.kind)

    async def known(self, job_id: str, facts: MessageFacts) -> History:
        """Return what the pool knows of a job.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
        """
        return await self._journal.look_up(job_id, facts.submitted_at)

    async def repeat_end(self, job_id: str, known: History, delivery: Delivery, span: Span) -> None:
        """Publish the end of a job that has ended once more, and settle the delivery."""
        end = await self._journal.end_of(job_id)
        await repeat_end(known, end, delivery, self._dependencies.publisher, span)

    def measure(self, outcome: Outcome, progress: Progress) -> None:
        """Count a job that has ended or was requeued."""
        meter, first = self._dependencies.meter, progress.attempt.first_output_after
        word, kind = in_words(outcome)
        progress.span.end(kind)
        meter.job_left(word, kind, progress.duration)
        if first is not None:
            meter.first_output(first)
        if progress.confirm_took is not None:
            meter.confirmed(progress.confirm_took)

    async def guarded(self, work: Coroutine[None, None, None], delivery: Delivery) -> None:
        """Reject a message whose handling fails, so that the session goes on."""
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            note_fault(error)
            await delivery.reject()


def note_fault(error: Exception) -> None:
    """Log a fault of our own without its text, which might hold what a job or an answer says."""
    frames = extract_tb(error.__traceback__)[-5:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    log.error("job.fault", error=type(error).__name__, where=where)
