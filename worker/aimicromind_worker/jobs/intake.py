"""Turn a delivery into an admitted job, look it up, and name it in traces, logs and metrics."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from traceback import extract_tb

import structlog
from structlog.contextvars import bound_contextvars, unbind_contextvars

from aimicromind_schemas import Names
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.job.admission import Admission, Rejected, Ticket, admit
from aimicromind_worker.core.job.content_encoding import is_packed
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.jobs.ports import Delivery, JobHistory
from aimicromind_worker.jobs.settlement import reject, repeat_end
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.outcome import Outcome, in_words
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.telemetry.tracing import Span, trace_id

log = structlog.get_logger()

# A broker restart raises the delivery count of each job by up to 3.
_IGNORES_COUNTS_S = 60.0
# Reading a longer body can block the event loop for more than some milliseconds.
_READ_AT_ONCE_BYTES = 64 * 1024
# A worker publishes an `end` 5 s after its record at the latest, or is lost.
_END_FOLLOWS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended before.

    Attributes:
        known: The job's history in the journal.
        end: The body of its `end`; None if it is not stored any more.
    """

    known: History
    end: bytes | None = None


@dataclass(frozen=True, slots=True)
class Unpublished:
    """The journal has the record of the job's `end`, and the `end` was not published.

    Attributes:
        is_recent: Whether a worker may be about to publish it.
    """

    is_recent: bool


class Intake:
    """The steps that all deliveries share: those to run and those that the broker dead-lettered."""

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
        """Prepare to admit deliveries.

        Args:
            dependencies: What all runs share.
            journal: The pool's memory of jobs.
            names: The names of exchanges and queues.
            lifetime: The longest life of a job, from its first delivery to a worker.
            max_job_bytes: The largest body of a job, decompressed.
            after_loss: Whether this worker has just reconnected. Then delivery counts are ignored
                for 60 s: a broker restart raised them.
        """
        self._dependencies = dependencies
        self._journal = journal
        self._names = names
        self._lifetime = lifetime
        self._max_job_bytes = max_job_bytes
        self._ignores_counts_until = monotonic() + (_IGNORES_COUNTS_S if after_loss else 0)
        self._reading = asyncio.Lock()

    async def admit(self, delivery: Delivery) -> Admission:
        """Read a delivery; use a thread where the body is compressed or above 64 KiB."""
        facts, body = delivery.facts, delivery.body
        if monotonic() < self._ignores_counts_until:
            facts = replace(facts, failures_before=0)
        now, encoding = datetime.now(UTC), facts.content_encoding
        read = partial(admit, body, facts, self._names, now, self._lifetime, self._max_job_bytes)
        if len(body) <= _READ_AT_ONCE_BYTES and not is_packed(body, encoding):
            return read()
        # One thread at a time: with more, the event loop waits too long for the GIL.
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
        """Publish the `error` and `end` of a rejected job, dead-letter it and count it."""
        await reject(rejected, delivery, self._dependencies.publisher, span)
        self._dependencies.meter.job_left("rejected", rejected.kind, timedelta())
        span.end(rejected.kind)

    async def known(self, job_id: str, facts: MessageFacts) -> History:
        """Return what the pool knows of a job.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        return await self._journal.look_up(job_id, facts.submitted_at)

    def recalled(self, job_id: str) -> History | None:
        """Return what was read of a job by now; None if nothing was."""
        return self._journal.recall(job_id)

    def is_behind(self, job_id: str) -> bool:
        """Return whether a job has ended, or waits after a failure of its own, as is known now."""
        return self._journal.is_behind(job_id)

    async def end_of(self, job_id: str, known: History) -> Ended | Unpublished:
        """Return what became of a job whose history has a status.

        Where the endings do not reach back so far any more, the job counts as ended.

        Raises:
            HistoryUnknown: The endings cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        stored = await self._journal.end_of(job_id, known.ended_at)
        if stored.body is not None or stored.is_removed:
            return Ended(known, stored.body)
        recorded_at = known.ended_at
        is_recent = recorded_at is not None and datetime.now(UTC) - recorded_at < _END_FOLLOWS
        return Unpublished(is_recent)

    async def known_unended(self, job_id: str, facts: MessageFacts) -> History:
        """Return what the pool knows of a job whose `end` was recorded, but not published.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        log.info("job.end_unpublished")
        return await self._journal.look_up_unended(job_id, facts.submitted_at)

    async def repeat_end(
        self, ended: Ended, delivery: Delivery, span: Span, *, is_copy: bool = False
    ) -> None:
        """Publish again the `end` of a job that has ended, and settle the delivery."""
        publisher = self._dependencies.publisher
        await repeat_end(ended.known, ended.end, delivery, publisher, span, is_copy=is_copy)
        self._dependencies.meter.job_left("repeated", "", timedelta())

    def measure(self, outcome: Outcome, progress: Progress) -> None:
        """Count a job that has ended or was requeued."""
        meter, first = self._dependencies.meter, progress.attempt.first_output_after
        word, kind = in_words(outcome)
        progress.span.end(kind)
        meter.job_left(word, kind, progress.duration)
        meter.flows.job_left(progress.ticket.job.chatflow_id, word, progress.usage.by_direction)
        if first is not None:
            meter.first_output(first)
        if (shown := progress.until_first_output()) is not None:
            meter.output_since_submission(shown)
        if progress.confirm_took is not None:
            meter.confirmed(progress.confirm_took)

    async def guarded(self, work: Coroutine[None, None, None], delivery: Delivery) -> None:
        """Run the handling of one message; reject the message if the handling has a fault.

        Raises:
            ConnectionError: The connection to the broker is lost; the delivery is not settled.
        """
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            note_fault(error)
            await delivery.reject()


def note_fault(error: Exception) -> None:
    """Log a fault of the worker without its text, which might quote a job or an answer."""
    frames = extract_tb(error.__traceback__)[-5:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    log.error("job.fault", error=type(error).__name__, where=where)
