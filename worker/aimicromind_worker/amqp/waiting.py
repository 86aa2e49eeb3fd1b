"""Wait with a deadline whose clock stands still now and then; end when told to."""

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
    """Wait for work.

    Args:
        limit: Longest wait.
        work: What to wait for; broken off when the time is over.
        not_counting: Says whether the time that passes now does not count.

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
    """Return whether the task is to end: aiormq raises `CancelledError` for other reasons, too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unless_cancelled() -> None:
    """Raise the cancellation of the current task if something swallowed it.

    Up to Python 3.11, `asyncio.wait_for`, by which aiormq closes channels and keeps deadlines,
    gives its result and drops a cancellation that comes meanwhile (python/cpython#86296).

    Raises:
        CancelledError: The task is to end.
    """
    if is_cancelled():
        raise asyncio.CancelledError
