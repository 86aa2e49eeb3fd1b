"""What chats that wait cost other chats: the time of short jobs, and refused declarations."""

import asyncio
import time
from typing import Final

from benchmarks.pools.pool import LONG, Pool, Site, depth, pool, takes
from benchmarks.pools.rows import Row, spread
from benchmarks.pools.versions import Version

_TAKEN_WITHIN_S: Final = 10.0
_PAUSE_S: Final = 0.2
_FIRST_WITHIN_S: Final = 60.0
_ALL_WITHIN_S: Final = 120.0


async def waiting(site: Site, version: Version, count: int, chats: int, shorts: int) -> list[Row]:
    """Submit short jobs one after the other, without waiting jobs and beside `count` of them.

    The waiting jobs are of `chats` chats. One of two workers runs a long job of each of these.
    The short jobs begin once the queue is empty, or after 10 s.
    """
    async with pool(site, version, workers=1) as on:
        busy = [on.job(f"busy-{number}", f"busy-{number}", LONG) for number in range(chats)]
        for job in busy:
            on.jobs.put(job)
        await asyncio.wait([on.events.job(job["jobId"]).first for job in busy], timeout=30)
        await on.start(1)
        quiet = await _shorts(on, "quiet", shorts)
        refused = site.refused()
        began = time.monotonic()
        for number in range(count):
            on.jobs.put(on.job(f"waits-{number}", f"busy-{number % chats}", takes(50)))
        await on.jobs.confirmed()
        await depth(on, on.names.jobs, lambda count: count == 0, _TAKEN_WITHIN_S)
        beside = await _shorts(on, "beside", shorts)
        after, seconds = site.refused(), time.monotonic() - began
    what = f"first event of a short job beside {count:,} waiting jobs"
    rows = [
        *spread("first event of a short job, nobody waits", quiet),
        *spread(what, beside, "as when nobody waits"),
        Row(f"{what}: submitted and not begun within {_FIRST_WITHIN_S:.0f} s", _missing(beside)),
    ]
    if refused is not None and after is not None:
        each, per_s = (after - refused) / count, (after - refused) / seconds
        rows.append(Row(f"refused declarations per job, {count:,} waiting", each, "at most 1"))
        rows.append(Row(f"refused declarations a second, {count:,} waiting", per_s))
    return rows


async def _shorts(on: Pool, name: str, count: int) -> list[float]:
    """Return the time from each submission to the first event; a job that is late ends the list."""
    took: list[float] = []
    until = time.monotonic() + _ALL_WITHIN_S
    for number in range(count):
        job = on.job(f"{name}-{number}", f"{name}-{number}", takes(50))
        submitted, seen = on.jobs.put(job), on.events.job(job["jobId"])
        done, _ = await asyncio.wait([seen.first], timeout=_FIRST_WITHIN_S)
        took.append(seen.first.result() - submitted if done else _FIRST_WITHIN_S)
        if not done or time.monotonic() > until:
            break
        await on.events.ended([job["jobId"]], _FIRST_WITHIN_S)
        await asyncio.sleep(_PAUSE_S)
    return took


def _missing(took: list[float]) -> int:
    return sum(it >= _FIRST_WITHIN_S for it in took)
