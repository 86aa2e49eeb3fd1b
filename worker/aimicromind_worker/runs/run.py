"""Run one job in this worker: make calls, one after the other, until there is an outcome.

Invariants:

- A run has exactly one outcome, and settles nothing: `jobs/settlement.py` acts on the outcome.
- The saved answer of a lost call is looked for before another call is made.
- A call that may repeat an action is not made, unless the job says that it is idempotent.
- `core/job/retry.py` alone decides what follows a failed call.
- An interrupt never replaces an answer: a complete run stays `Completed`.
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import structlog
from tenacity import AsyncRetrying, RetryCallState

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.retry import (
    CallAgain,
    Decision,
    GiveUp,
    NewAttempt,
    Requeue,
    Situation,
)
from aimicromind_worker.runs.call import Calls
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.outcome import (
    Cancelled,
    Completed,
    Delayed,
    Failed,
    Outcome,
    Unfinished,
    Waits,
)
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.telemetry.tracing import Span

log = structlog.get_logger()

# A worker can be lost before it records a call. Up to RabbitMQ 4.2, a requeue counts as a loss.
_MOST_CRASHES = 5


class JobRun:
    """The run of one job. Only `shut_down` and `cancel` may be called from another task.

    Attributes:
        progress: The job's attempts and calls so far.
    """

    def __init__(self, ticket: Ticket, dependencies: Dependencies, span: Span) -> None:
        self.progress = Progress(ticket, dependencies.publisher, dependencies.limits, span)
        self._ticket = ticket
        self._policy = dependencies.policy
        self._flows = dependencies.flows
        self._calls = Calls(self.progress, dependencies)
        self._begun = False
        self._doubtful = 0
        self._decision: Decision = CallAgain(timedelta())
        self._scope: asyncio.Timeout | None = None
        self._shuts_down = False
        self._cancelled = False

    def shut_down(self) -> None:
        """Interrupt the run: its outcome is `Unfinished`, or `Waits` before it has begun."""
        self._shuts_down = True
        self._interrupt()

    def cancel(self) -> None:
        """Interrupt the run: its outcome is `Cancelled`, unless the job is complete."""
        self._cancelled = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(0)

    async def run(self) -> Outcome | Waits:
        """Make calls until one is answered or none may follow; call this once.

        Returns:
            The outcome; `Waits` if nothing was run.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        if self._cancelled:
            return Cancelled()
        if self._left() <= timedelta():
            return Failed(FailureKind.EXPIRED, "the job's time ran out before it was run")
        outcome = await self._run()
        await self._calls.note_broken_off()
        if isinstance(outcome, Completed) or not self._cancelled:
            return outcome
        await self._calls.abort()
        return Cancelled()

    async def _run(self) -> Outcome | Waits:
        try:
            async with asyncio.timeout(self._left().total_seconds()) as self._scope:
                if not self._shuts_down:
                    pause = await self._calls.pause_of_chat()
                    if pause is not None:
                        return Waits(pause)
                    self._begun = True
                    log.info("job.started", attempts_before=self._ticket.before.attempt)
                    lost_call = self.progress.open_attempt > 0
                    if await self._calls.recover_lost():
                        return Completed()
                    refusal = self._refusal(lost_call=lost_call)
                    return refusal or await self._call_until_answered()
        except CallFailed as failure:
            return self._outcome_of(failure)
        except TimeoutError:
            if self._scope is None or not self._scope.expired():
                raise
        finally:
            self._scope = None
        if self._shuts_down:
            return Unfinished() if self._begun else Waits(timedelta())
        return Failed(FailureKind.EXPIRED, "the job's time ran out")

    async def _call_until_answered(self) -> Completed:
        """Make calls until one is answered.

        Raises:
            CallFailed: The last call failed; `_decision` is what follows.
        """
        self.progress.run()
        failed: list[CallFailed] = []
        try:
            await self._calls.call()
        except CallFailed as failure:
            failed.append(failure.with_traceback(None))
        if failed:
            await self._call_again(failed)
        return Completed()

    async def _call_again(self, failed: list[CallFailed]) -> None:
        """Do what follows the first call, whose failure is taken out of `failed`."""

        async def call() -> None:
            if failed:
                raise failed.pop()
            await self._calls.call()

        calls = AsyncRetrying(
            retry=self._decide,
            wait=lambda _: _wait_of(self._decision).total_seconds(),
            before_sleep=self._announce,
        )
        try:
            await calls(call)
        except (CallFailed, asyncio.CancelledError) as failure:
            # Tenacity keeps the failure, whose traceback would keep the job and its request.
            raise failure.with_traceback(None) from failure.__cause__
        finally:
            calls.iter_state.reset()

    def _left(self) -> timedelta:
        return self._ticket.deadline - datetime.now(UTC)

    def _refusal(self, *, lost_call: bool) -> Failed | None:
        """Return why no call may be made for the job; None if one may.

        Args:
            lost_call: Whether an earlier worker left a call open that has no saved answer.
        """
        progress, idempotent = self.progress, self._ticket.job.idempotent
        unseen = self._ticket.blind and lost_call
        risky = progress.side_effect or unseen if idempotent is None else not idempotent
        if risky and (progress.sent or progress.side_effect):
            message = "not called again, because it could repeat an action"
            return Failed(FailureKind.REPEAT_UNSAFE, message)
        if progress.counted_calls >= progress.max_calls:
            message = f"{progress.calls} calls were begun, and no worker finished one"
            return Failed(FailureKind.DELIVERY_LIMIT, message)
        if self._ticket.before.crashes >= max(_MOST_CRASHES, progress.max_calls):
            message = f"{self._ticket.before.crashes} workers were lost while they had this job"
            return Failed(FailureKind.DELIVERY_LIMIT, message)
        return None

    def _decide(self, state: RetryCallState) -> bool:
        failure = _failure_of(state)
        if failure is None or self._cancelled:
            return False
        self._doubtful += failure.kind == FailureKind.ENDPOINT_ERROR
        progress, flow = self.progress, self._ticket.job.chatflow_id
        situation = Situation(
            calls=progress.counted_calls,
            max_calls=progress.max_calls,
            unreached=progress.unreached,
            doubtful=self._doubtful,
            output=progress.attempt.answer.output,
            side_effect=progress.side_effect,
            blind=self._ticket.blind,
            idempotent=self._ticket.job.idempotent,
            left=self._left(),
            attempt_time=progress.attempt.timeout,
            hold_left=progress.hold_left,
            key_refused=failure.by_server and self._flows.is_locked(flow),
            crowded=self._flows.holds_too_much(flow),
            chat_pause=progress.chat_pause,
        )
        jitter = random.random()  # noqa: S311 - spreads retries, hides nothing
        self._decision = self._policy.decide(failure, situation, jitter)
        progress.uncounted += situation.key_refused and isinstance(self._decision, Requeue)
        return isinstance(self._decision, CallAgain | NewAttempt)

    def _announce(self, state: RetryCallState) -> None:
        failure = _failure_of(state)
        if failure is None:
            return
        kind, wait = failure.kind, _wait_of(self._decision)
        new_attempt = isinstance(self._decision, NewAttempt)
        log.warning(
            "retry.scheduled",
            kind=kind,
            calls=self.progress.calls,
            wait_s=round(wait.total_seconds(), 3),
            new_attempt=new_attempt,
        )
        span = self.progress.attempt.span
        span.note("retry.scheduled", kind=kind, wait_s=wait.total_seconds())
        if new_attempt:
            self.progress.follow_with(kind, str(failure), wait)

    def _outcome_of(self, failure: CallFailed) -> Failed | Delayed:
        match self._decision:
            case GiveUp(kind, message):
                return Failed(kind, message, failure.http_status)
            case Requeue(delay):
                return Delayed(failure.kind, str(failure), delay)
            case CallAgain() | NewAttempt():
                return Failed(failure.kind, str(failure), failure.http_status)


def _failure_of(state: RetryCallState) -> CallFailed | None:
    failure = state.outcome.exception() if state.outcome is not None else None
    return failure if isinstance(failure, CallFailed) else None


def _wait_of(decision: Decision) -> timedelta:
    return decision.after if isinstance(decision, CallAgain | NewAttempt) else timedelta()
