"""Print the functions with the most CPU time under 500 streams: `python -m benchmarks.profile`.

py-spy samples the running process from outside, 100 times a second. Time in C code (uvloop,
msgspec, httptools) counts as the calling function's own.
"""

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.turns.loads import MANY, Load
from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Stage, consuming, jobs, stage, working
from benchmarks.turns.workers import PRODUCT

_SPY: Final = str(Path(sys.executable).with_name("py-spy"))
_FUNCTIONS: Final = 10


async def main() -> None:
    """Print the functions with the most time of their own."""
    async with stage() as on:
        stacks = await _stacks(on, MANY)
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for stack, samples in stacks.items():
        own[stack[-1]] += samples
        below.update(dict.fromkeys(stack, samples))
    every = own.total()
    print(f"{MANY.name}, {every} samples\n")
    print("| own time | with all below | function |\n|---:|---:|---|")
    for name, samples in own.most_common(_FUNCTIONS):
        print(f"| {samples / every:.1%} | {below[name] / every:.1%} | `{name}` |")


async def _stacks(on: Stage, load: Load) -> Counter[tuple[str, ...]]:
    """Run the worker under a load; return samples by stack, outermost function first."""
    place, found = on.place(load.streams), on.folder / "stacks.txt"
    async with (
        queues(place, PRODUCT),
        consuming(on, place, load, warm_ups=0) as consumer,
        working(on, place, PRODUCT) as worker,
    ):
        spy = await asyncio.create_subprocess_exec(
            *(_SPY, "record", "--pid", str(worker.pid), "--format", "raw", "--output", str(found)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await PRODUCT.send(place, jobs("job", load.streams, load))
        await consumer.says("{", 200)
        os.kill(spy.pid, signal.SIGINT)
        await asyncio.wait_for(spy.wait(), 60)
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in found.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        # With line numbers, one function would count as many.
        names = tuple(re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";"))
        stacks[names] += int(samples)
    return stacks


if __name__ == "__main__":
    asyncio.run(main())
