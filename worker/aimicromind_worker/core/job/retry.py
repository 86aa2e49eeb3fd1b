"""Decide what follows a failed call: another call, a retry delay, or the failure of the job."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import CallFailed, Doubtful, Lasting
from aimicromind_worker.core.endpoint.errors import AttemptOverdue, EndpointDown

RETRY_DELAYS: Final = tuple(timedelta(seconds=it) for it in (2, 10, 30, 60, 120, 300, 600))
"""Each is a queue of its own; 3.10 takes the delay from the queue, in order, not the message."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a job when a call of it has failed.

    Attributes:
        calls: Calls begun so far, the failed one included.
        max_calls: Calls that may be begun; a job can only lower the worker's own limit.
        unreached: How often the endpoint could not be reached.
        doubtful: How many of them failed with an error that no rule knows.
        output: Whether this attempt showed output.
        side_effect: Whether a tool or action event was published, in any attempt.
        blind: Whether a call shows nothing until it is over, not even that a tool ran.
        idempotent: What the job says about being called twice, None if nothing.
        left: Time until the job's deadline.
        attempt_time: Longest time of another attempt.
        hold_left: Time until this worker must have let go of the job.
        key_refused: Whether the server refuses the key to all jobs of the flow, perhaps not for
            long.
        crowded: Whether jobs of the flow, whose calls fail, hold too many slots.
        chat_pause: How long the chat must not be called for.
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
    """Call again after this wait, within the same attempt."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Tell consumers to drop what was shown, then call again after this wait."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class Requeue:
    """Let the job wait in a delay queue; whoever gets it next makes a new attempt."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the job."""

    kind: FailureKind
    message: str


Decision = CallAgain | NewAttempt | Requeue | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between calls.

    Attributes:
        first_wait: Upper end of the wait after the first failure; each further one has four times
            as much.
        longest_wait: Upper end of any wait that we choose.
        longest_retry_after: Upper end of a wait that the endpoint asks for.
        longest_stay: Longest wait for which the job keeps its slot.
    """

    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(seconds=60)
    longest_retry_after: timedelta = timedelta(seconds=600)
    longest_stay: timedelta = timedelta(seconds=5)

    def decide(self, failure: CallFailed, now: Situation, jitter: float) -> Decision:
        """Return what follows a failed call.

        Args:
            failure: What went wrong.
            now: What is known of the job.
            jitter: A random number from 0 to 1, for the whole width of the wait.
        """
        if now.key_refused:
            return _requeue_within(failure, RETRY_DELAYS[1], now.left)
        if isinstance(failure, Lasting) or not self._worth_it(failure, now):
            return GiveUp(failure.kind, str(failure))
        if self._may_repeat_something(failure, now):
            message = f"not called again, it could repeat an action: {failure}"
            return GiveUp(FailureKind.REPEAT_UNSAFE, message)
        if isinstance(failure, EndpointDown):
            # Where it comes back to, it waits until calls are made again.
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
        """Back off exponentially with full jitter; what the endpoint asks for is the least."""
        times: int = 4 ** max(0, min(tries, 8) - 1)
        widest = min(self.first_wait * times, self.longest_wait)
        asked = min(failure.retry_after or timedelta(), self.longest_retry_after)
        return asked + widest * jitter


def _requeue_within(failure: CallFailed, longest: timedelta, left: timedelta) -> Requeue | GiveUp:
    """Wait for what may change without the job: to the end of its time, if need be."""
    fitting = [it for it in RETRY_DELAYS if it <= longest and it < left]
    return Requeue(fitting[-1]) if fitting else GiveUp(failure.kind, str(failure))


def delay_for(wait: timedelta) -> timedelta:
    """Return the shortest delay that is no shorter than the wait, else the longest there is."""
    return next((each for each in RETRY_DELAYS if each >= wait), RETRY_DELAYS[-1])


def delay_within(wait: timedelta) -> timedelta:
    """Return the longest delay that is no longer than the wait, else the shortest there is."""
    return max((each for each in RETRY_DELAYS if each <= wait), default=RETRY_DELAYS[0])
