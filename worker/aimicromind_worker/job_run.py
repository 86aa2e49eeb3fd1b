"""One job while a worker has it: attempts and calls, one after the other, up to an outcome.

What the outcome means for the queue is decided in `settling`.
"""

import asyncio
import random
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState

from aimicromind_schemas import FailureKind
from aimicromind_worker.attempt import Attempt, EventSink, Limits
from aimicromind_worker.core.admission import Ticket
from aimicromind_worker.core.errors import (
    CallFailed,
    NoAnswer,
    StreamCut,
    StreamMixed,
    StreamStalled,
)
from aimicromind_worker.core.exchange import PredictionCall, Response
from aimicromind_worker.core.request import call_chat_id, prediction_body
from aimicromind_worker.core.retry import (
    CallAgain,
    Decision,
    GiveUp,
    Leave,
    NewAttempt,
    RetryPolicy,
    Situation,
)
from aimicromind_worker.core.saved_answer import continues
from aimicromind_worker.core.worker_events import Tally, retry_event
from aimicromind_worker.idle_watch import IdleWatch
from aimicromind_worker.outcome import (
    Cancelled,
    Completed,
    Delayed,
    Failed,
    Outcome,
    Unfinished,
)
from aimicromind_worker.recovery import Found, Recovery

log = structlog.get_logger()

# The endpoint may go on and save the answer after these; after an error it saves none.
_RUN_GOES_ON = (StreamCut, StreamStalled, NoAnswer, StreamMixed)
# The answer is saved before the stream ends, so that one that is not there yet will not come.
_PATIENCE_AFTER_END = timedelta(seconds=2)
# A worker can be lost before it has told of a call; what is given back counts, too, up to 4.2.
_MOST_CRASHES = 5


class Predictions(Protocol):
    """The endpoint, as a job needs it."""

    async def can_stream(self, chatflow_id: str) -> bool | None:
        """Ask whether the flow streams, None where nobody knows."""

    def call(self, call: PredictionCall) -> AbstractAsyncContextManager[Response]:
        """Make one call."""

    def abort(self, call: PredictionCall) -> None:
        """Ask the endpoint to stop what a call began, and wait for nothing."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every run of this worker shares.

    Attributes:
        predictions: The endpoint.
        sink: Where events go.
        idle_watch: Breaks off silent streams.
        limits: What one job may take.
        policy: What follows a failed call.
        recovery: Where answers are that nobody read.
    """

    predictions: Predictions
    sink: EventSink
    idle_watch: IdleWatch
    limits: Limits
    policy: RetryPolicy
    recovery: Recovery


class JobRun:
    """Runs one job, once. Only `hand_back` and `cancel` may come from another task.

    Attributes:
        ticket: The job.
        attempt: The attempt that is published now.
        calls: Calls begun, those of earlier workers as far as is known.
        given_up: How many of them were broken off because their worker left.
        sent: Whether the endpoint may have had a request.
        open_attempt: The attempt whose call the endpoint may still finish, 0 if none.
        recovered: Whether the answer was read from the endpoint's memory.
    """

    def __init__(self, ticket: Ticket, means: Means) -> None:
        self.ticket = ticket
        self.calls = ticket.calls_before
        self.given_up = ticket.given_up_before
        self.sent = ticket.sent_before
        self.open_attempt = ticket.open_attempt
        self.recovered = False
        before = ticket.attempts_before
        # Whoever ends a job that was never run has attempt 0; a run has the next one.
        self.attempt = Attempt(ticket, before + 1 if before else 0, means.sink, means.limits)
        self._attempts = [self.attempt]
        self._means = means
        self._started = time.monotonic()
        self._ran = False
        self._doubtful = 0
        self._side_effect = ticket.side_effect_before
        self._decision: Decision = CallAgain(timedelta())
        self._scope: asyncio.Timeout | None = None
        self._handed_back = False
        self._cancelled = False
        self._last_call: PredictionCall | None = None

    @property
    def side_effect(self) -> bool:
        """Whether a tool or action event was published in any attempt, as far as we know."""
        return self._side_effect or self.attempt.answer.side_effect

    def tally(self) -> Tally:
        """Count what an `end` that is published next says."""
        return Tally(
            attempts=self.attempt.number if self._ran else max(0, self.attempt.number - 1),
            calls=self.calls,
            events=self.attempt.next_seq + 1,
            duration=timedelta(seconds=time.monotonic() - self._started),
            recovered=self.recovered,
        )

    def hand_back(self) -> None:
        """Interrupt the run; its outcome is `Unfinished`, unless it is already known."""
        self._handed_back = True
        self._interrupt()

    def cancel(self) -> None:
        """Interrupt the run; its outcome is `Cancelled`, unless it is already known."""
        self._cancelled = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(0)

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event of the job."""
        for attempt in self._attempts:
            await attempt.confirmed()

    async def run(self) -> Outcome:
        """Run attempts until one answers, or none may follow."""
        if self._cancelled:
            return Cancelled()
        if self._left() <= timedelta():
            return Failed(FailureKind.EXPIRED, "the job's time ran out before it was run")
        outcome = await self._run()
        if isinstance(outcome, Completed) or not self._cancelled:
            return outcome
        if self._last_call is not None:
            self._means.predictions.abort(self._last_call)
        return Cancelled()

    async def _run(self) -> Outcome:
        try:
            async with asyncio.timeout(self._left().total_seconds()) as self._scope:
                if not self._handed_back:
                    return await self._recover_lost() or self._refusal() or await self._call_all()
        except CallFailed as failure:
            return self._given_up(failure)
        except TimeoutError:
            if self._scope is None or not self._scope.expired():
                raise
        finally:
            self._scope = None
        if self._handed_back:
            return Unfinished()
        return Failed(FailureKind.EXPIRED, "the job's time ran out")

    async def _call_all(self) -> Completed:
        """Make calls until one answers.

        Raises:
            CallFailed: The last one failed; `_decision` says what follows.
        """
        self._ran = True
        if self.attempt.number == 0:
            self._begin(1)
        async for call in self._calls():
            with call:
                await self._call()
        return Completed()

    def _left(self) -> timedelta:
        return self.ticket.deadline - datetime.now(UTC)

    def _refusal(self) -> Failed | None:
        """Say why the job must not be run at all, if so."""
        idempotent = self.ticket.job.idempotent
        risky = self._side_effect if idempotent is None else not idempotent
        if risky and (self.ticket.sent_before or self._side_effect):
            message = "not called again, it could repeat an action"
            return Failed(FailureKind.REPEAT_UNSAFE, message)
        if self._counted_calls() >= self._max_calls():
            message = f"{self.calls} calls were begun, and no worker lived to finish one"
            return Failed(FailureKind.DELIVERY_LIMIT, message)
        if self.ticket.crashes >= max(_MOST_CRASHES, self._max_calls()):
            message = f"{self.ticket.crashes} workers were lost that had this job"
            return Failed(FailureKind.DELIVERY_LIMIT, message)
        return None

    def _hold_left(self) -> timedelta:
        return self._means.limits.hold - timedelta(seconds=time.monotonic() - self._started)

    def _max_calls(self) -> int:
        return max_calls_of(self.ticket, self._means.limits)

    def _counted_calls(self) -> int:
        """Count the calls held against the job: not those that a leaving worker broke off."""
        return self.calls - self.given_up

    def _begin(self, number: int) -> None:
        self._side_effect = self.side_effect
        self.attempt = Attempt(self.ticket, number, self._means.sink, self._means.limits)
        self._attempts.append(self.attempt)

    def _calls(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=self._decide,
            wait=lambda _: _wait_of(self._decision).total_seconds(),
            before_sleep=self._announce,
        )

    async def _call(self) -> None:
        """Make one call and publish what it answers.

        Raises:
            CallFailed: It did not answer.
        """
        attempt, call = self.attempt, None
        # Outside the attempt's time: an attempt in which no call is begun would never count.
        streams = await self._means.predictions.can_stream(self.ticket.job.chatflow_id)
        try:
            async with attempt.deadline():
                self.calls += 1
                attempt.calls += 1
                attempt.answer.begin_call()
                call = self._last_call = self._next_call(streams=streams is not False)
                async with self._means.predictions.call(call) as response:
                    await attempt.show(response, self._means.idle_watch)
        except asyncio.CancelledError:
            self.given_up += self._handed_back
            self.sent = True
            self.open_attempt = attempt.number
            raise
        except CallFailed as failure:
            self.sent |= failure.request_sent
            may_go_on = attempt.answer.output and isinstance(failure, _RUN_GOES_ON)
            if call is None or not may_go_on or not await self._recover(call, failure):
                raise
        else:
            await self._complete_if_empty(call)

    def _next_call(self, *, streams: bool) -> PredictionCall:
        ticket, attempt = self.ticket, self.attempt
        chat_id = call_chat_id(ticket.job_id, attempt.number, attempt.calls)
        if self._means.limits.shares_chat_id:
            chat_id = ticket.chat_id
        return PredictionCall(
            ticket.job.chatflow_id,
            chat_id,
            prediction_body(ticket.job, ticket.chat_id, chat_id),
            streams,
            ticket.facts.trace,
        )

    async def _recover(self, call: PredictionCall, failure: CallFailed) -> bool:
        """Publish what the endpoint saved of a call whose stream failed; say whether it did."""
        if self._means.limits.shares_chat_id:
            # The chat's other turns are in the same place, and nothing tells them apart.
            return False
        self.open_attempt = self.attempt.number
        found = await self._look([call.endpoint_chat_id], self._hold_left())
        self.open_attempt = 0
        if found is None:
            return False
        if not continues(found.answer, self.attempt.answer.text):
            self._follow_with(failure, timedelta())
        self._show_found(found)
        return True

    async def _complete_if_empty(self, call: PredictionCall) -> None:
        """Show what was saved where the stream ended well and held no text."""
        answer = self.attempt.answer
        if answer.has_text or not (message_id := answer.message_id):
            return
        found = await self._look([call.endpoint_chat_id], _PATIENCE_AFTER_END, message_id)
        if found is not None and found.answer.text:
            self._show_found(found)

    async def _recover_lost(self) -> Completed | None:
        """Look for the answer to a call that another worker left open; show it whole."""
        ticket, attempt = self.ticket, self.open_attempt
        if not attempt or self._means.limits.shares_chat_id:
            return None
        chat_ids = [
            call_chat_id(ticket.job_id, attempt, call + 1) for call in range(self._max_calls())
        ]
        # A call that showed nothing may never have been made: one look has to do.
        patience = self._hold_left() if ticket.open_shown else timedelta()
        found = await self._look(chat_ids, patience)
        self.open_attempt = 0
        if found is None:
            return None
        self._ran = True
        self.calls = max(self.calls, found.place + 1)
        self._show_found(found)
        return Completed()

    async def _look(
        self, chat_ids: list[str], patience: timedelta, message_id: str | None = None
    ) -> Found | None:
        flow = self.ticket.job.chatflow_id
        return await self._means.recovery.look(flow, chat_ids, patience, message_id)

    def _show_found(self, found: Found) -> None:
        self.recovered = True
        self.attempt.show_saved(found.answer, found.endpoint_chat_id)
        log.info("answer.recovered", attempt=self.attempt.number, calls=self.calls)

    def _decide(self, state: RetryCallState) -> bool:
        failure = _failure_of(state)
        if failure is None or self._cancelled:
            return False
        self._doubtful += failure.kind == FailureKind.ENDPOINT_ERROR
        situation = Situation(
            calls=self._counted_calls(),
            max_calls=self._max_calls(),
            doubtful=self._doubtful,
            output=self.attempt.answer.output,
            side_effect=self.side_effect,
            idempotent=self.ticket.job.idempotent,
            left=self._left(),
            attempt_time=self.attempt.timeout,
            hold_left=self._hold_left(),
        )
        jitter = random.random()  # noqa: S311 - spreads retries, hides nothing
        self._decision = self._means.policy.decide(failure, situation, jitter)
        return isinstance(self._decision, CallAgain | NewAttempt)

    def _announce(self, state: RetryCallState) -> None:
        failure = _failure_of(state)
        if failure is None:
            return
        wait = _wait_of(self._decision)
        new_attempt = isinstance(self._decision, NewAttempt)
        log.warning(
            "retry.scheduled",
            kind=failure.kind,
            attempt=self.attempt.number,
            calls=self.calls,
            wait_s=round(wait.total_seconds(), 3),
            new_attempt=new_attempt,
        )
        if new_attempt:
            self._follow_with(failure, wait)

    def _follow_with(self, failure: CallFailed, wait: timedelta) -> None:
        """Close the attempt, and begin the next one."""
        following = self.attempt.number + 1
        self.attempt.publish(retry_event(failure.kind, str(failure), following, wait))
        self._begin(following)

    def _given_up(self, failure: CallFailed) -> Failed | Delayed:
        match self._decision:
            case GiveUp(kind, message):
                return Failed(kind, message, failure.http_status)
            case Leave(delay):
                return Delayed(failure.kind, str(failure), delay)
            case CallAgain() | NewAttempt():
                return Failed(failure.kind, str(failure), failure.http_status)


def max_calls_of(ticket: Ticket, limits: Limits) -> int:
    """Say how many calls of a job may be begun; a job can only lower the worker's own limit."""
    own = ticket.job.max_attempts
    return limits.max_calls if own is None else min(own, limits.max_calls)


def _failure_of(state: RetryCallState) -> CallFailed | None:
    failure = state.outcome.exception() if state.outcome is not None else None
    return failure if isinstance(failure, CallFailed) else None


def _wait_of(decision: Decision) -> timedelta:
    return decision.after if isinstance(decision, CallAgain | NewAttempt) else timedelta()
