"""Run a worker in the caller's event loop, for the demo and for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aimicromind_worker.app.settings import Settings
from aimicromind_worker.app.worker import Worker


@asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[None]:
    """Run a worker for the time of the body; jobs that still run at its end are requeued.

    Raises:
        Exception: Whatever ends the worker before it is ready.
    """
    ready = asyncio.Event()
    worker = Worker(settings, ready.set)
    running = asyncio.create_task(worker.run())
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield
    finally:
        waiting.cancel()
        # The second call ends the drain at once.
        worker.stop()
        worker.stop()
        await running
