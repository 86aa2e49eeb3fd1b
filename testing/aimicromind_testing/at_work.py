"""A worker at work in the event loop that one has: for the demo, and for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aimicromind_worker.app.settings import Settings
from aimicromind_worker.app.worker import Worker


@asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[None]:
    """Run a worker during the body; jobs that still run at its end are requeued.

    Raises:
        Exception: What keeps the worker from its work.
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
        # The second time, it no longer waits for jobs to end.
        worker.stop()
        worker.stop()
        await running
