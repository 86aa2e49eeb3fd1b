"""What the milestones of others cost a worker: at its start, and for a redelivered job."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pamqp import commands

from aimicromind_schemas import SUBMITTED_HEADER
from benchmarks.parts.amqp import AmqpProtocol
from benchmarks.parts.programs import Program, ProgramFailed
from benchmarks.pools.milestones import fill
from benchmarks.pools.pool import Pool, Site, pool, takes
from benchmarks.pools.rows import Row, spread
from benchmarks.pools.versions import Version

_CAUGHT_UP: Final = "journal.caught_up"
# Before every worker, which consumes without a priority.
_PRIORITY: Final = 100
_TAKEN_WITHIN_S: Final = 30.0
# The log is read that often.
_LOOK_S: Final = 0.005


async def journal(
    site: Site, version: Version, milestones: int, repeats: int, within_s: float
) -> list[Row]:
    """Start a worker beside so many milestones of others, and deliver jobs to it again."""
    beside = f"beside {milestones:,} milestones"
    async with pool(site, version) as on:
        await fill(site.url, on.names.journal, milestones)
        first = on.job("first", "first", takes(50))
        on.jobs.put(first)
        await on.jobs.confirmed()
        began = time.monotonic()
        async with on.worker() as worker:
            await worker.ready("worker.ready", within_s)
            ready_s = time.monotonic() - began
            first_s, warm_s = await asyncio.gather(
                _first_event(on, first["jobId"], began, within_s),
                _warm(version, worker, began, within_s),
            )
            warm_mb = worker.rss_bytes() / 1e6
            timed_s = await _repeated(on, "timed", repeats, within_s)
            others_s = await _repeated(on, "others", repeats, within_s)
            mb = worker.rss_bytes() / 1e6
    return [
        Row(f"first event of a fresh job after the start, {beside}, s", first_s, "at once"),
        Row(f"caught up after the start, {beside}, s", warm_s),
        Row(
            f"milestones a second, {beside}", _per_s(milestones, ready_s, warm_s), "at least 10,000"
        ),
        Row(f"memory after the first job, {beside}, MB", warm_mb),
        *_redelivered("a redelivered job", timed_s, beside),
        *_redelivered("a redelivered job without a time of submission", others_s, beside),
        Row(f"memory after that, {beside}, MB", mb),
    ]


def _redelivered(job: str, shown_s: Sequence[float], beside: str) -> list[Row]:
    what = f"first event of {job}, {beside}"
    first_ms = shown_s[0] * 1000 if shown_s else None
    return [
        Row(f"{what}: the first job, ms", first_ms),
        *spread(f"{what}: the others", shown_s[1:]),
        Row(f"{what}: jobs", len(shown_s)),
    ]


async def _repeated(on: Pool, name: str, count: int, within_s: float) -> list[float]:
    """Have jobs delivered again, one after the other; return the time to the first event of each.

    A job that shows nothing in time ends the list. Those named `timed` have a time of submission.
    """
    took: list[float] = []
    until = time.monotonic() + within_s
    for number in range(count):
        job = on.job(f"{name}-{number}", f"{name}-{number}", takes(50))
        headers = {SUBMITTED_HEADER: datetime.now(UTC).isoformat()} if name == "timed" else {}
        lost_at = await _take_and_lose(on, job, headers)
        one_s = await _first_event(on, job["jobId"], lost_at, until - time.monotonic())
        if one_s is None:
            break
        took.append(one_s)
        await on.events.ended([job["jobId"]], within_s)
    return took


async def _take_and_lose(on: Pool, job: Mapping[str, object], headers: Mapping[str, str]) -> float:
    """Submit a job, take it before every worker, and lose the connection; return when."""
    taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    taker = await AmqpProtocol.open(on.site.url)
    try:
        taker.on_body = lambda _body, _tag: taken.set_result(None)
        await taker.asks(commands.Basic.Qos(prefetch_count=1))
        consume = commands.Basic.Consume(
            queue=on.names.jobs, arguments={"x-priority": _PRIORITY}, no_ack=False
        )
        await taker.asks(consume)
        on.jobs.put(job, headers=dict(headers))
        async with asyncio.timeout(_TAKEN_WITHIN_S):
            await taken
    finally:
        taker.transport.abort()
    return time.monotonic()


async def _first_event(on: Pool, job_id: str, since: float, within_s: float) -> float | None:
    seen = on.events.job(job_id)
    await asyncio.wait([seen.first], timeout=max(0.0, within_s))
    return seen.first.result() - since if seen.first.done() else None


async def _warm(version: Version, worker: Program, began: float, within_s: float) -> float | None:
    """Return how long it took to catch up; None if that is not logged, or not in time."""
    if not version.logs(_CAUGHT_UP):
        return None
    try:
        await worker.says(_CAUGHT_UP, within_s)
    except ProgramFailed:
        return None
    return time.monotonic() - began


def _per_s(count: int, ready_s: float, warm_s: float | None) -> float | None:
    """Return how many milestones a ready worker read a second."""
    return None if warm_s is None or not count else count / max(warm_s - ready_s, _LOOK_S)
