"""Wait under a deadline that does not count some of the time, and notice a cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")

_TICKS = 100
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.01, 1.0


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


def is_cancelled() -> bool:
    """Return whether the current task was cancelled: aiormq also raises `CancelledError` itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unless_cancelled() -> None:
    """Raise the cancellation of the current task if something swallowed it.

    Up to Python 3.11, `asyncio.wait_for` returns its result and drops a cancellation that comes
    meanwhile (python/cpython#86296). aiormq uses it to close channels and for deadlines.

    Raises:
        CancelledError: The task was cancelled.
    """
    if is_cancelled():
        raise asyncio.CancelledError
