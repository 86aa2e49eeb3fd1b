"""Notice a cancellation that a library turned into something else."""

import asyncio


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
