"""Whether the jobs of a chat run in the order of their submission, and how long each waits."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aimicromind_testing import Call
from benchmarks.pools.pool import Pool, Site, pool, takes
from benchmarks.pools.rows import Row, percentile
from benchmarks.pools.versions import Version

_AT_ONCE: Final = 8
_APART_S: Final = 0.05
_FEWEST, _MOST = 2, 20
_JOB_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Way:
    """A way to submit the jobs of a chat.

    Attributes:
        name: Name in tables.
        goal: Most jobs that may begin before an earlier one of their chat.
        names_previous: Whether each job names the one before it in `after`.
        apart_s: Seconds between two jobs of a chat.
    """

    name: str
    goal: str
    names_previous: bool = False
    apart_s: float = 0.0


WAYS: Final = (
    Way("previous job named", "0", names_previous=True),
    Way(f"nothing named, {_APART_S * 1000:.0f} ms apart", "0", apart_s=_APART_S),
    Way("nothing named, bursts", "printed"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A job that was called. Times are of `time.monotonic`."""

    submitted_at: float
    called_at: float
    ended_at: float


async def order(
    site: Site, version: Version, way: Way, workers: int, jobs: int, within_s: float
) -> list[Row]:
    """Submit jobs of many chats, eight chats at a time, 2 to 20 jobs each."""
    site.endpoint.calls.clear()
    until = time.monotonic() + within_s
    chats = _sizes(jobs)
    submitted: list[dict[str, float]] = []
    async with pool(site, version, workers) as on:

        async def one_by_one() -> None:
            for chat, size in chats:
                if time.monotonic() < until:
                    submitted.append(await _submit(on, way, chat, size))
                    await on.events.ended(submitted[-1], until - time.monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(one_by_one())
    steps = list(_steps(on, submitted))
    what = f"{way.name}, {workers} workers"
    waits = [wait for each in steps for wait in waited(each)]
    median, slow = percentile(waits, 0.5), percentile(waits, 0.99)
    return [
        Row(f"{what}: jobs ended", sum(map(len, steps))),
        Row(f"{what}: called before an earlier job", sum(map(overtaking, steps)), way.goal),
        Row(f"{what}: from the previous end to the call, p50 ms", _ms(median)),
        Row(f"{what}: the same, p99 ms", _ms(slow)),
    ]


async def _submit(on: Pool, way: Way, chat: int, size: int) -> dict[str, float]:
    """Submit the jobs of a chat; return the time of each, by its id and in order."""
    submitted: dict[str, float] = {}
    previous: str | None = None
    for number in range(size):
        after = {"after": previous} if way.names_previous and previous else {}
        job = on.job(f"{chat}-{number}", f"chat-{chat}", takes(_JOB_MS), **after)
        submitted[job["jobId"]] = on.jobs.put(job)
        previous = job["jobId"]
        if way.apart_s:
            await asyncio.sleep(way.apart_s)
    return submitted


def _steps(on: Pool, chats: Iterable[Mapping[str, float]]) -> Iterator[list[Step]]:
    """Return the jobs of each chat that ended, in the order of submission."""
    called: dict[str, Call] = {}
    for call in on.site.endpoint.calls:
        called.setdefault(call.question, call)
    for submitted in chats:
        yield [
            Step(submitted_at, called[job_id].started, on.events.job(job_id).ended.result())
            for job_id, submitted_at in submitted.items()
            if job_id in called and on.events.job(job_id).ended.done()
        ]


def overtaking(steps: Sequence[Step]) -> int:
    """Count the jobs that were called before one that was submitted earlier."""
    latest, count = 0.0, 0
    for step in steps:
        count += step.called_at < latest
        latest = max(latest, step.called_at)
    return count


def waited(steps: Sequence[Step]) -> Iterator[float]:
    """Return how long each job waited after the end of the job that was called before it.

    A job that was submitted after that end waited since its submission.
    """
    free_at = 0.0
    for step in sorted(steps, key=lambda it: it.called_at):
        yield max(0.0, step.called_at - max(step.submitted_at, free_at))
        free_at = step.ended_at


def _sizes(jobs: int) -> Iterator[tuple[int, int]]:
    """Yield numbers and sizes of chats, the same in each run."""
    chance, left, chat = random.Random(1), jobs, 0
    while left > 0:
        size = min(left, chance.randint(_FEWEST, _MOST))
        yield chat, size
        chat, left = chat + 1, left - size


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
