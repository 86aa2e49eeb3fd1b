"""Wait under deadlines that do not count some of the time."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")

_TICKS = 100
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.01, 1.0
# Of the time in which no later message is answered, only this part counts.
_NOT_OVERTAKEN = 0.25
# After so long without a missing answer, the limit for one is the first again.
_CALM_S = 600.0


async def within(
    limit: timedelta,
    work: Coroutine[Any, Any, Result],
    *,
    not_counting: Callable[[], bool],
) -> Result:
    """Wait for work, and return its result.

    Args:
        limit: Longest wait.
        work: What to wait for; cancelled when the time is over.
        not_counting: Returns whether the time that passes now does not count.

    Raises:
        TimeoutError: The time is over.
    """
    left_s = limit.total_seconds()
    tick_s = min(max(left_s / _TICKS, _SHORTEST_TICK_S), _LONGEST_TICK_S)
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait((task,), timeout=tick_s)
            if not not_counting():
                left_s -= tick_s
        return task.result()
    finally:
        task.cancel()


class Waiting(NamedTuple):
    """What has waited longest for its answer on one channel.

    Attributes:
        message: The message, or what stands for it.
        overtaken: Whether a message that was published later is answered.
    """

    message: object
    overtaken: bool


class AnswerWatch:
    """Finds that the broker leaves a message without an answer. Pure.

    RabbitMQ 3.10 does that to some messages when the node is killed that leads a stream. On another
    channel they are confirmed. Where the broker answers for nothing, or is only slow, another
    connection helps less. Thus the limit is four times as long until a later message is answered,
    and it doubles each time.
    """

    def __init__(self, limit_s: float) -> None:
        self._first_limit_s = self._limit_s = limit_s
        self._waited_s: dict[object, float] = {}
        self._calm_s = 0.0

    def restart(self) -> None:
        """Begin with another connection."""
        self._waited_s = {}

    def on_tick(self, oldest: Iterable[Waiting], passed_s: float, *, may_answer: bool) -> bool:
        """Return whether a message has waited too long.

        Args:
            oldest: Of each channel, what has waited longest.
            passed_s: The time since the last call.
            may_answer: Whether the broker has no alarm.
        """
        before = self._waited_s
        self._waited_s = {}
        for message, overtaken in oldest:
            more_s = passed_s * (1 if overtaken else _NOT_OVERTAKEN) * may_answer
            self._waited_s[message] = before[message] + more_s if message in before else 0.0
        longest_s = max(self._waited_s.values(), default=0.0)
        self._calm_s = self._calm_s + passed_s if longest_s < self._first_limit_s else 0.0
        if self._calm_s > _CALM_S:
            self._limit_s = self._first_limit_s
        if longest_s < self._limit_s:
            return False
        self._limit_s *= 2
        return True
