"""Wait under a deadline that does not count some of the time."""

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
