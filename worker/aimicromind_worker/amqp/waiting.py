"""Wait with a deadline whose clock can be paused, and detect cancellations that were swallowed."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")

_LOOKS = 100
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.01, 1.0


async def within(
    limit: timedelta,
    work: Coroutine[Any, Any, Result],
    *,
    not_counting: Callable[[], bool],
) -> Result:
    """Wait for a coroutine and return its result.

    Args:
        limit: The longest wait, without the time that does not count.
        work: The coroutine, which is cancelled when the time is over.
        not_counting: A function that returns whether the time does not count now.

    Raises:
        TimeoutError: The time is over.
    """
    left_s = limit.total_seconds()
    look_s = min(max(left_s / _LOOKS, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait((task,), timeout=look_s)
            if not not_counting():
                left_s -= look_s
        return task.result()
    finally:
        task.cancel()


def is_cancelled() -> bool:
    """Return whether the current task was cancelled; aiormq raises `CancelledError` on its own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unless_cancelled() -> None:
    """Raise the cancellation of the current task if a library swallowed it.

    aiormq uses `asyncio.wait_for` to close channels and keep deadlines. Up to Python 3.11, that
    returns its result and drops a cancellation that comes meanwhile (python/cpython#86296).

    Raises:
        CancelledError: The task was cancelled.
    """
    if is_cancelled():
        raise asyncio.CancelledError
