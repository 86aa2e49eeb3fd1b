"""How fast jobs that expired in the queue are ended."""

import time
from typing import Final

from benchmarks.pools.pool import Site, depth, pool, takes
from benchmarks.pools.rows import Row
from benchmarks.pools.versions import Version

_EXPIRED_WITHIN_S: Final = 180.0
_READY_WITHIN_S: Final = 60.0


async def expired(site: Site, version: Version, jobs: int, within_s: float) -> list[Row]:
    """Put jobs on a queue without workers until they expire, then start one worker."""
    async with pool(site, version) as on:
        for number in range(jobs):
            job = on.job(f"late-{number}", f"late-{number}", takes(50))
            on.jobs.put(job, expiration="1")
            await on.jobs.window()
        await on.jobs.confirmed()
        await depth(on, on.names.jobs_reaped, lambda count: count >= jobs, _EXPIRED_WITHIN_S)
        async with on.worker() as worker:
            await worker.ready("worker.ready", _READY_WITHIN_S)
            began = time.monotonic()
            ended = await depth(on, on.names.jobs_dead, lambda count: count >= jobs, within_s)
            took_s = time.monotonic() - began
    return [
        Row(f"{jobs:,} expired jobs: ended within {within_s:.0f} s", ended, f"{jobs:,}"),
        Row(f"{jobs:,} expired jobs: ended a second", ended / took_s, "at least 500"),
    ]
