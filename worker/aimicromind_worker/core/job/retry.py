"""Decide what follows a failed call: another call, a retry delay, or the failure of the job.

The order of the rules, of which the first that fits decides:

1. The server refuses the key for the flow: requeue the job until it is accepted again.
2. The failure is lasting, or doubtful after output or twice, or the calls are used up: fail.
3. Another call may repeat an action: fail with `repeat_unsafe`.
4. The circuit breaker is open: requeue the job with the shortest delay.
5. The wait is too long to keep the slot, or the flow holds too many slots: requeue the job.
6. Otherwise call again: as a new attempt after output or a timeout, else within the attempt.

A wait that would reach the job's deadline fails the job instead.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import CallFailed, Doubtful, Lasting
from aimicromind_worker.core.endpoint.errors import AttemptOverdue, EndpointDown

RETRY_DELAYS: Final = tuple(timedelta(seconds=it) for it in (2, 10, 30, 60, 120, 300, 600))
"""The retry delays. Each has a queue with that TTL: a queue expires messages only at its head."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts about a job after one of its calls failed.

    Attributes:
        calls: The number of calls that count against the job, the failed one included.
        max_calls: The most calls of the job.
        unreached: How often this worker could not reach the endpoint.
        doubtful: The number of calls that failed with an error that no rule knows.
        output: Whether this attempt showed output.
        side_effect: Whether a tool or action event was published in any attempt.
        blind: Whether a call shows nothing before it is over, not even that a tool ran.
        idempotent: The job's own `idempotent`; None if it is absent.
        left: The time until the job's deadline.
        attempt_time: The longest time of another attempt.
        hold_left: The time until this worker must have settled the job.
        key_refused: Whether the server refuses the key for all jobs of the flow.
        crowded: Whether the flow's calls fail and its jobs hold too many slots.
        chat_pause: The time until the chat may be called for again.
    """

    calls: int
    max_calls: int
    unreached: int
    doubtful: int
    output: bool
    side_effect: bool
    blind: bool
    idempotent: bool | None
    left: timedelta
    attempt_time: timedelta
    hold_left: timedelta
    key_refused: bool = False
    crowded: bool = False
    chat_pause: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class CallAgain:
    """Call again within the same attempt.

    Attributes:
        after: The wait before the call.
    """

    after: timedelta


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Publish a `retry`, after which consumers drop what was shown, then call again.

    Attributes:
        after: The wait before the call.
    """

    after: timedelta


@dataclass(frozen=True, slots=True)
class Requeue:
    """Requeue the job; the worker that receives it next begins a new attempt.

    Attributes:
        after: The retry delay.
    """

    after: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the job.

    Attributes:
        kind: The public kind of the failure.
        message: The same as a sentence.
    """

    kind: FailureKind
    message: str


Decision = CallAgain | NewAttempt | Requeue | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The waits between calls.

    Attributes:
        first_wait: The most that is waited after the first failure, four times as much after each
            further one.
        longest_wait: The most of any wait that the worker chooses.
        longest_retry_after: The most of a wait that the endpoint asks for.
        longest_stay: The longest wait for which the job keeps its slot.
    """

    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(seconds=60)
    longest_retry_after: timedelta = timedelta(seconds=600)
    longest_stay: timedelta = timedelta(seconds=5)

    def decide(self, failure: CallFailed, now: Situation, jitter: float) -> Decision:
        """Return what follows a failed call.

        Args:
            failure: The error of the call.
            now: The facts about the job.
            jitter: A random number from 0 to 1, by which the worker's own wait is multiplied.
        """
        if now.key_refused:
            return _requeue_within(failure, RETRY_DELAYS[1], now.left)
        if isinstance(failure, Lasting) or not self._worth_it(failure, now):
            return GiveUp(failure.kind, str(failure))
        if self._may_repeat_something(failure, now):
            message = f"not called again, because it could repeat an action: {failure}"
            return GiveUp(FailureKind.REPEAT_UNSAFE, message)
        if isinstance(failure, EndpointDown):
            # The next worker makes it wait until calls are made again.
            return _requeue_within(failure, RETRY_DELAYS[0], now.left)
        wait = max(now.chat_pause, self._wait(failure, now.calls + now.unreached, jitter))
        over = now.output or isinstance(failure, AttemptOverdue)
        too_long = wait > self.longest_stay or (over and wait + now.attempt_time > now.hold_left)
        requeues = too_long or now.crowded
        if requeues and not failure.request_sent:
            return _requeue_within(failure, delay_for(wait), now.left)
        if requeues:
            wait = delay_for(wait)
        if wait >= now.left:
            return GiveUp(failure.kind, str(failure))
        if requeues:
            return Requeue(wait)
        return NewAttempt(wait) if over else CallAgain(wait)

    def _worth_it(self, failure: CallFailed, now: Situation) -> bool:
        if isinstance(failure, Doubtful) and (now.output or now.doubtful > 1):
            return False
        return now.calls < now.max_calls

    def _may_repeat_something(self, failure: CallFailed, now: Situation) -> bool:
        if now.idempotent:
            return False
        unseen = now.blind and failure.run_goes_on
        return now.side_effect or unseen or (now.idempotent is False and failure.request_sent)

    def _wait(self, failure: CallFailed, tries: int, jitter: float) -> timedelta:
        """Return an exponential wait with full jitter, added to what the endpoint asks for."""
        times: int = 4 ** max(0, min(tries, 8) - 1)
        widest = min(self.first_wait * times, self.longest_wait)
        asked = min(failure.retry_after or timedelta(), self.longest_retry_after)
        return asked + widest * jitter


def _requeue_within(failure: CallFailed, longest: timedelta, left: timedelta) -> Requeue | GiveUp:
    """Requeue with the longest delay that fits; fail the job if its time is too short for any."""
    fitting = [it for it in RETRY_DELAYS if it <= longest and it < left]
    return Requeue(fitting[-1]) if fitting else GiveUp(failure.kind, str(failure))


def delay_for(wait: timedelta) -> timedelta:
    """Return the shortest retry delay that is at least the wait, else the longest one."""
    return next((each for each in RETRY_DELAYS if each >= wait), RETRY_DELAYS[-1])


def delay_within(wait: timedelta) -> timedelta:
    """Return the longest retry delay that is at most the wait, else the shortest one."""
    return max((each for each in RETRY_DELAYS if each <= wait), default=RETRY_DELAYS[0])
