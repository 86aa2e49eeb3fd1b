"""A client process, of any version: it uses the public client alone, and prints JSON lines.

`python program.py follow URL PREFIX COUNT STUCK` follows COUNT jobs, each in its chat. STUCK of
them take nothing before all others have ended.
`python program.py result URL PREFIX FLOW OWN [JOB …]` waits for results of OWN jobs that it
submits, and of these jobs of others.
`python program.py late URL PREFIX JOINS TOGETHER CHAT …` joins running jobs late, each named as its
chat: JOINS times one after the other, then TOGETHER at once.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aimicromind_schemas import PredictionJob
from aimicromind_schemas.client import Client, Gap

PAGE_KB = 4
OPENED_S, SILENCE_S = 15.0, 60.0


def say(**facts: Any) -> None:  # noqa: ANN401 - JSON
    print(json.dumps(facts), flush=True)


def rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KB


class Seen:
    """What all followers have seen.

    Attributes:
        lags_s: From the time of an event until its follower had it.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.events = 0
        self.missing = 0
        self.ended: set[int] = set()
        self.lags_s: list[float] = []
        self.last_at = time.monotonic()

    def note(self, number: int, item: Any, *, is_stuck: bool) -> None:  # noqa: ANN401 - an event or a gap
        """Count what a follower got; the delays of a stuck one do not count."""
        self.last_at = time.monotonic()
        if isinstance(item, Gap):
            self.missing += len(item.missing)
            return
        self.events += 1
        if not is_stuck:
            self.lags_s.append((datetime.now(UTC) - item.time).total_seconds())
        if item.event == "end":
            self.ended.add(number)


async def follow(url: str, prefix: str, count: int, stuck: int) -> None:
    async with Client.open(url, prefix) as client:
        seen, release = Seen(), asyncio.Event()
        before_kb, began = rss_kb(), time.monotonic()

        async def one(number: int) -> None:
            name = f"job-{number}"
            async with client.follow(chat_id=name, job_id=name) as items:
                seen.opened += 1
                seen.last_at = time.monotonic()
                if number < stuck:
                    await release.wait()
                async for item in items:
                    seen.note(number, item, is_stuck=number < stuck)

        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        await until(seen, lambda: seen.opened == count, OPENED_S)
        # A client that opens no further follower shows nothing more.
        silence_s = SILENCE_S if seen.opened == count else 0.0
        say(opened=seen.opened, took_s=time.monotonic() - began, kb=rss_kb() - before_kb)
        cpu_s = time.process_time()
        others = count - stuck
        await until(seen, lambda: len(seen.ended) == others, silence_s)
        say(
            others_ended=len(seen.ended),
            events=seen.events,
            missing=seen.missing,
            cpu_s=time.process_time() - cpu_s,
            lag_s=statistics.median(seen.lags_s) if seen.lags_s else None,
            lag_worst_s=max(seen.lags_s, default=None),
            kb=rss_kb() - before_kb,
        )
        release.set()
        await until(seen, lambda: len(seen.ended) == count, silence_s)
        say(all_ended=len(seen.ended), missing=seen.missing)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(seen: Seen, holds: Callable[[], bool], silence_s: float) -> None:
    """Wait until something holds, or nothing happened for a while."""
    seen.last_at = time.monotonic()
    while not holds() and time.monotonic() - seen.last_at < silence_s:  # noqa: ASYNC110 - a count
        await asyncio.sleep(0.01)


async def result(url: str, prefix: str, flow: str, own: int, foreign: list[str]) -> None:
    async with Client.open(url, prefix) as client:
        own_s = []
        for _ in range(own):
            began = time.monotonic()
            job_id = await client.submit(PredictionJob(chatflow_id=flow, question="Why?"))
            await client.result(job_id, within=timedelta(seconds=60))
            own_s.append(time.monotonic() - began)
        say(own_s=own_s)
        for name in foreign:
            began, cpu_s = time.monotonic(), time.process_time()
            await client.result(name, chat_id=name, within=timedelta(seconds=60))
            took_s = time.monotonic() - began
            say(foreign=name, took_s=took_s, cpu_s=time.process_time() - cpu_s)
    say(done=True)


async def late(url: str, prefix: str, joins: int, together: int, chats: list[str]) -> None:
    async with Client.open(url, prefix) as client:
        newest: dict[str, int] = {}

        async def was_there(chat: str) -> None:
            async with client.follow(chat_id=chat, job_id=chat) as items:
                async for item in items:
                    if not isinstance(item, Gap):
                        newest[chat] = item.seq

        async def join(number: int) -> tuple[float, int, int]:
            """Return how long it took to have all up to now, how many events, and how many not."""
            chat, began = chats[number % len(chats)], time.monotonic()
            target, events, missing = newest[chat], 0, 0
            async with client.follow(chat_id=chat, job_id=chat, from_start=True) as items:
                async for item in items:
                    if isinstance(item, Gap):
                        missing += len(item.missing)
                        continue
                    events += 1
                    if item.seq >= target:
                        break
            return time.monotonic() - began, events, missing

        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(was_there(chat)) for chat in chats]
            async with asyncio.timeout(SILENCE_S):
                while len(newest) < len(chats):  # noqa: ASYNC110 - a count
                    await asyncio.sleep(0.01)
            cpu_s = time.process_time()
            joined = [await join(number) for number in range(joins)]
            used_s = time.process_time() - cpu_s
            say(joined_s=[it[0] for it in joined], cpu_s=used_s, events=joined[-1][1])
            many = await asyncio.gather(*map(join, range(together)))
            say(together_s=[it[0] for it in many], missing=sum(it[2] for it in many))
            for task in watching:
                task.cancel()


def main() -> None:
    match sys.argv[1:]:
        case ["follow", url, prefix, count, stuck]:
            asyncio.run(follow(url, prefix, int(count), int(stuck)))
        case ["result", url, prefix, flow, own, *foreign]:
            asyncio.run(result(url, prefix, flow, int(own), foreign))
        case ["late", url, prefix, joins, together, *chats]:
            asyncio.run(late(url, prefix, int(joins), int(together), chats))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
