"""Whether the jobs of a chat run in the order of their submission, and how long each waits."""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
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
        names_previous: Whether each job names the one before it in `after`.
        apart_s: Seconds between two jobs of a chat.
    """

    name: str
    names_previous: bool = False
    apart_s: float = 0.0


WAYS: Final = (
    Way("previous job named", names_previous=True),
    Way(f"nothing named, {_APART_S * 1000:.0f} ms apart", apart_s=_APART_S),
    Way("nothing named, bursts"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A job that was called. Times are of `time.monotonic`.

    Attributes:
        submitted_at: When it was published.
        called_at: When the endpoint was called.
        ended_at: When its `end` came.
        delivered_at: When a worker got it, by the log of the worker; None: it does not tell.
    """

    submitted_at: float
    called_at: float
    ended_at: float
    delivered_at: float | None


async def order(
    site: Site, version: Version, way: Way, workers: int, jobs: int, within_s: float
) -> list[Row]:
    """Submit jobs of many chats, eight chats at a time, 2 to 20 jobs each."""
    site.endpoint.calls.clear()
    until = time.monotonic() + within_s
    chats = _sizes(jobs)
    submitted: list[dict[str, float]] = []
    async with pool(site, version, workers, LOG_LEVEL="debug", LOG_FORMAT="json") as on:

        async def one_by_one() -> None:
            for chat, size in chats:
                if time.monotonic() < until:
                    submitted.append(await _submit(on, way, chat, size))
                    await on.events.ended(submitted[-1], until - time.monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(one_by_one())
    return _rows(way, f"{way.name}, {workers} workers", list(_steps(on, submitted)))


def _rows(way: Way, what: str, steps: Sequence[Sequence[Step]]) -> list[Row]:
    waits = [wait for each in steps for wait in waited(each)]
    median, slow = percentile(waits, 0.5), percentile(waits, 0.99)
    rows = [
        Row(f"{what}: jobs ended", sum(map(len, steps))),
        Row(
            f"{what}: called before a job that was submitted earlier",
            sum(overtaking((step.submitted_at, step.called_at) for step in each) for each in steps),
            "0" if way.names_previous else "printed",
        ),
    ]
    if way.apart_s:
        # Where workers have much to do, jobs are delivered late, and close together.
        earlier = f"delivered {_APART_S * 1000:.0f} ms earlier"
        delivered = _overtaking_delivered(steps)
        rows.append(Row(f"{what}: called before a job that was {earlier}", delivered, "0"))
    return [
        *rows,
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
    delivered = _delivered(on.logs())
    for submitted in chats:
        yield [
            Step(
                submitted_at,
                called[job_id].started,
                on.events.job(job_id).ended.result(),
                delivered.get(job_id),
            )
            for job_id, submitted_at in submitted.items()
            if job_id in called and on.events.job(job_id).ended.done()
        ]


def _delivered(logs: Iterable[Path]) -> dict[str, float]:
    """Return when each job was first delivered, by the logs."""
    to_monotonic = time.monotonic() - time.time()
    found: dict[str, float] = {}
    for path in logs:
        for line in path.read_text().splitlines():
            if '"job.delivered"' in line:
                entry = json.loads(line)
                at = datetime.fromisoformat(entry["timestamp"]).timestamp() + to_monotonic
                found[entry["job_id"]] = min(at, found.get(entry["job_id"], at))
    return found


def overtaking(steps: Iterable[tuple[float, float]], apart_s: float = 0.0) -> int:
    """Count the jobs that were called before one that came earlier.

    Args:
        steps: When each came, and when it was called.
        apart_s: How much earlier that one must have come.
    """
    came: deque[tuple[float, float]] = deque()
    latest, count = 0.0, 0
    for came_at, called_at in sorted(steps):
        while came and came[0][0] <= came_at - apart_s:
            latest = max(latest, came.popleft()[1])
        count += called_at < latest
        came.append((came_at, called_at))
    return count


def _overtaking_delivered(steps: Iterable[Sequence[Step]]) -> int | None:
    """Count the jobs that were called before one delivered earlier; None: no log tells."""
    delivered = [
        [(it.delivered_at, it.called_at) for it in each if it.delivered_at is not None]
        for each in steps
    ]
    if not any(delivered):
        return None
    return sum(overtaking(each, _APART_S) for each in delivered)


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
