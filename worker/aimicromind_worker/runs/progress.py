"""Record how far a job has come: its attempts, and its calls by this and earlier workers."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from structlog.contextvars import bind_contextvars

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.catching_up.snapshot import RunningJob
from aimicromind_worker.core.endpoint.usage import UsageCount
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.core.job.worker_events import Tally, retry_event
from aimicromind_worker.runs.attempt import Attempt
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.telemetry.tracing import Span


class Progress:
    """The progress of a job in this worker, from one delivery on. Use it from the job's task.

    Attributes:
        ticket: The job.
        span: The job's trace span.
        calls: The number of calls begun, including the known ones of earlier workers.
        uncounted: The number of those that were broken off, or left the job waiting for its key.
        unreached: How often this worker could not reach the endpoint.
        sent: Whether the endpoint may have received a request for the job.
        open_attempt: The attempt whose call the endpoint may still finish, 0 if none.
        chat_pause: The time to wait before the chat's next call, after one that may still run.
        recovered: Whether the answer was read from the endpoint's saved messages.
        ran: Whether this worker has run the job.
        confirm_took: The time of the last wait for confirms, None before the first.
    """

    def __init__(self, ticket: Ticket, publisher: Publisher, limits: Limits, span: Span) -> None:
        self.ticket = ticket
        self.span = span
        self.calls = ticket.before.calls
        self.uncounted = ticket.before.uncounted
        self.unreached = 0
        self.sent = ticket.before.sent
        self.open_attempt = ticket.before.open_attempt
        self.chat_pause = timedelta()
        self.recovered = False
        self.ran = False
        self.confirm_took: timedelta | None = None
        self._publisher = publisher
        self._limits = limits
        self._began = time.monotonic()
        self._attempts: list[Attempt] = []
        self._has_called = False
        self._has_copy = False

    @property
    def attempt(self) -> Attempt:
        """The attempt that is published now; it is begun if there is none.

        It is attempt 0 if the job was never run.
        """
        if not self._attempts:
            # A job that ends without a run has attempt 0; a run has the next number.
            before = self.ticket.before.attempt
            self._begin(before + 1 if before else 0)
        return self._attempts[-1]

    @property
    def running(self) -> RunningJob:
        """What a follower that comes late may read; this begins no attempt."""
        if not self._attempts:
            return RunningJob(self.ticket.job_id)
        return RunningJob(self.ticket.job_id, self._attempts[-1].number, self._attempts[-1].kept)

    @property
    def side_effect(self) -> bool:
        """Whether a tool or action event is known to be published in any attempt."""
        shown = (attempt.answer.side_effect for attempt in self._attempts)
        return self.ticket.before.side_effect or any(shown)

    @property
    def usage(self) -> UsageCount:
        """The tokens that the model's provider counted in the calls of this worker."""
        counted = UsageCount()
        for attempt in self._attempts:
            counted = counted.plus(attempt.answer.usage)
        return counted

    @property
    def usage_of_job(self) -> UsageCount:
        """The same with the calls of earlier workers, as far as they requeued the job."""
        return self.ticket.before.usage.plus(self.usage)

    @property
    def max_calls(self) -> int:
        """The most calls that may be begun for the job."""
        return self.ticket.max_calls(self._limits.max_calls)

    @property
    def counted_calls(self) -> int:
        """The number of calls that count against `max_calls`.

        Three kinds do not count: calls that were broken off, calls that were lost with a first
        worker, and calls after which the job waits for its key.
        """
        forgiven_before = self.ticket.forgiven_calls(self._limits.max_calls)
        uncounted_now = self.uncounted - self.ticket.before.uncounted
        return self.calls - forgiven_before - uncounted_now

    @property
    def duration(self) -> timedelta:
        """The time since this worker received the job."""
        return timedelta(seconds=time.monotonic() - self._began)

    @property
    def hold_left(self) -> timedelta:
        """The time until this worker must have settled the job."""
        return self._limits.hold - self.duration

    def run(self) -> None:
        """Record that this worker runs the job, and begin an attempt if there is none."""
        self.ran = True
        if not self._attempts or self.attempt.number == 0:
            self._begin(self.ticket.before.attempt + 1)

    def follow_with(self, kind: FailureKind, message: str, wait: timedelta) -> None:
        """Publish a `retry`, which ends the attempt, and begin the next attempt.

        Args:
            kind: Why the attempt ended.
            message: The same as a sentence.
            wait: How long it takes until the next attempt makes its call.
        """
        following = self.attempt.number + 1
        self.attempt.publish(retry_event(kind, message, following, wait))
        self.attempt.span.note("retry", kind=kind, next_attempt=following)
        self.attempt.span.end(kind)
        self.attempt.kept.clear()
        self._begin(following)

    def note_copy(self) -> None:
        """Take in that a copy of the job waits in another worker, which may run it after this."""
        self._has_copy = True
        if self._has_called:
            self.record_begin()

    def record_begin(self) -> None:
        """Record the attempt in the journal before its call, if a copy of the job waits."""
        if self._has_copy:
            self.attempt.record_begin()

    def until_first_call(self) -> timedelta | None:
        """Count the call that begins; return the time since submission if it is the job's first."""
        is_first, self._has_called = not self._has_called, True
        return self._since_submission(datetime.now(UTC)) if is_first else None

    def until_first_output(self) -> timedelta | None:
        """Return the time from submission to the first output; None without output."""
        shown = (attempt.first_output_at for attempt in self._attempts)
        first = next((at for at in shown if at is not None), None)
        return None if first is None else self._since_submission(first)

    def _since_submission(self, at: datetime) -> timedelta | None:
        """Return the time since submission; None if not known, or a worker ran the job before."""
        facts = self.ticket.facts
        if facts.submitted_at is None or not facts.is_submission_exact:
            return None
        if not self.ticket.before.is_unrun:
            return None
        # The clock of the producer may be ahead.
        return max(timedelta(), at - facts.submitted_at)

    def state(self) -> JobState:
        """Return the state that travels with the job to the next worker."""
        return replace(
            self.ticket.before,
            attempt=self.attempt.number,
            calls=self.calls,
            uncounted=self.uncounted,
            side_effect=self.side_effect,
            sent=self.sent,
            open_attempt=self.open_attempt,
            waits=0,
            handle=self._attempts[0].answer.handle if self._attempts else None,
            usage=self.usage_of_job,
        )

    def tally(self) -> Tally:
        """Return the counts for an `end` that is published next."""
        return Tally(
            attempts=self.attempt.number if self.ran else max(0, self.attempt.number - 1),
            calls=self.calls,
            events=self.attempt.next_seq + 1,
            duration=self.duration,
            recovered=self.recovered,
        )

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event of the job."""
        began = time.monotonic()
        for attempt in self._attempts:
            await attempt.confirmed()
        self.confirm_took = timedelta(seconds=time.monotonic() - began)

    def _begin(self, number: int) -> None:
        if number == 0:
            span = self.span
        else:
            span = self.span.attempt(number)
            bind_contextvars(attempt=number)
        shown = [attempt for attempt in self._attempts if attempt.next_seq]
        begun = Attempt(self.ticket, number, self._publisher, self._limits, span)
        begun.answer.handle = shown[0].answer.handle if shown else self.ticket.before.handle
        begun.begins_job = not shown
        self._attempts.append(begun)
