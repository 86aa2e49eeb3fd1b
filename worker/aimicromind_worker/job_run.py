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
from aimicromind_worker.core.errors import CallFailed
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
from aimicromind_worker.core.worker_events import Tally, retry_event
from aimicromind_worker.idle_watch import IdleWatch

log = structlog.get_logger()

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
    """

    predictions: Predictions
    sink: EventSink
    idle_watch: IdleWatch
    limits: Limits
    policy: RetryPolicy


@dataclass(frozen=True, slots=True)
class Completed:
    """The endpoint ended the stream after a success."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job will not be run again."""

    kind: FailureKind
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The job was interrupted; another worker goes on with it."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The job waits on the broker, on that rung of the ladder, and holds no slot."""

    kind: FailureKind
    message: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the job to be stopped."""


Outcome = Completed | Failed | Unfinished | Delayed | Cancelled


class JobRun:
    """Runs one job, once. Only `hand_back` and `cancel` may come from another task.

    Attributes:
        ticket: The job.
        attempt: The attempt that is published now.
        calls: Calls begun, those of earlier workers as far as is known.
        given_up: How many of them were broken off because their worker left.
        sent: Whether the endpoint may have had a request.
    """

    def __init__(self, ticket: Ticket, means: Means) -> None:
        self.ticket = ticket
        self.calls = ticket.calls_before
        self.given_up = ticket.given_up_before
        self.sent = ticket.sent_before
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
        outcome = self._refusal() or await self._run()
        if isinstance(outcome, Completed) or not self._cancelled:
            return outcome
        if self._last_call is not None:
            self._means.predictions.abort(self._last_call)
        return Cancelled()

    async def _run(self) -> Outcome:
        self._ran = True
        if self.attempt.number == 0:
            self._begin(1)
        try:
            async with asyncio.timeout(self._left().total_seconds()) as self._scope:
                if not self._handed_back:
                    async for call in self._calls():
                        with call:
                            await self._call()
                    return Completed()
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

    def _left(self) -> timedelta:
        return self.ticket.deadline - datetime.now(UTC)

    def _refusal(self) -> Failed | None:
        """Say why the job must not be run at all, if so."""
        if self._left() <= timedelta():
            return Failed(FailureKind.EXPIRED, "the job's time ran out before it was run")
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
        ticket, attempt, predictions = self.ticket, self.attempt, self._means.predictions
        flow = ticket.job.chatflow_id
        # Outside the attempt's time: an attempt in which no call is begun would never count.
        streams = await predictions.can_stream(flow)
        async with attempt.deadline():
            self.calls += 1
            attempt.calls += 1
            attempt.answer.begin_call()
            chat_id = call_chat_id(ticket.job_id, attempt.number, attempt.calls)
            if self._means.limits.shares_chat_id:
                chat_id = ticket.chat_id
            body = prediction_body(ticket.job, ticket.chat_id, chat_id)
            call = PredictionCall(flow, chat_id, body, streams is not False, ticket.facts.trace)
            self._last_call = call
            try:
                async with predictions.call(call) as response:
                    await attempt.show(response, self._means.idle_watch)
            except asyncio.CancelledError:
                self.given_up += self._handed_back
                self.sent = True
                raise
            except CallFailed as failure:
                self.sent |= failure.request_sent
                raise

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
            hold_left=self._means.limits.hold - timedelta(seconds=time.monotonic() - self._started),
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
