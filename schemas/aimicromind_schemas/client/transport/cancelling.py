"""Notice a cancellation that a library turned into something else."""

import asyncio
from collections.abc import Coroutine
from typing import Any

# asyncio keeps weak references to tasks only.
_closings: set[asyncio.Task[None]] = set()


def is_cancelled() -> bool:
    """Return whether the current task was cancelled: aiormq also raises `CancelledError` itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def unless_cancelled() -> None:
    """Raise the cancellation of the current task if something swallowed it.

    Up to Python 3.11, `asyncio.wait_for` returns its result and drops a cancellation that comes
    meanwhile (python/cpython#86296). aiormq uses it to close channels and for deadlines; it also
    raises errors of its own instead.

    Raises:
        CancelledError: The task was cancelled.
    """
    if is_cancelled():
        raise asyncio.CancelledError


async def uncancelled(closing: Coroutine[Any, Any, None]) -> None:
    """Wait for a clean-up, which continues even if this wait is cancelled.

    FastAPI ends the stream of a client that has gone by cancelling a scope of anyio. That cancels
    every further wait in the scope, including waits of clean-ups.
    """
    task = asyncio.create_task(closing)
    _closings.add(task)
    task.add_done_callback(_closings.discard)
    await asyncio.shield(task)
