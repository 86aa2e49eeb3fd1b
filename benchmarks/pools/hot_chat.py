"""How long a chat with many jobs takes, compared with the sum of their times."""

import time
from typing import Final

from benchmarks.pools.pool import Site, pool, takes
from benchmarks.pools.rows import Row
from benchmarks.pools.versions import Version

_JOB_MS: Final = 50


async def hot_chat(
    site: Site, version: Version, workers: int, jobs: int, within_s: float
) -> list[Row]:
    """Submit all jobs of one chat at once."""
    async with pool(site, version, workers) as on:
        sent = [on.job(f"hot-{number}", "hot", takes(_JOB_MS)) for number in range(jobs)]
        began = time.monotonic()
        for job in sent:
            on.jobs.put(job)
        ended = await on.events.ended([job["jobId"] for job in sent], within_s)
        took_s = time.monotonic() - began
    what = f"one chat, {jobs:,} jobs of {_JOB_MS} ms, {workers} workers"
    whole = took_s / (jobs * _JOB_MS / 1000)
    return [
        Row(f"{what}: ended within {within_s:.0f} s", ended, f"{jobs:,}"),
        Row(f"{what}: time by sum of times", whole if ended == jobs else None, "at most 1.3"),
    ]
