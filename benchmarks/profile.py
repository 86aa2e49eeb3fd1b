"""Where the worker's time goes under 500 streams: `python -m benchmarks.profile`.

py-spy looks at the running process from outside, a hundred times a second. Time that a function
spends in C code (uvloop, msgspec, httptools) is its own.
"""

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import click

from benchmarks.loads import Load
from benchmarks.queues import queues
from benchmarks.turn import Stage, consuming, jobs, stage, working
from benchmarks.workers import PRODUCT

_SPY: Final = str(Path(sys.executable).with_name("py-spy"))


@click.command()
@click.option("--streams", default=500, show_default=True)
@click.option("--rate", default=20, show_default=True, help="Tokens a second; 0 is a flood.")
@click.option("--tokens", default=200, show_default=True)
@click.option("--top", default=10, show_default=True, help="How many functions.")
@click.option("--native", is_flag=True, help="Also tell functions of C extensions apart.")
def main(*, streams: int, rate: int, tokens: int, top: int, native: bool) -> None:
    """Print the functions with the most time of their own, and those below which most is."""
    asyncio.run(_profile(Load(streams, rate, tokens), top, native=native))


async def _profile(load: Load, top: int, *, native: bool) -> None:
    async with stage() as on:
        stacks = await _stacks(on, load, native=native)
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for stack, samples in stacks.items():
        own[stack[-1]] += samples
        below.update(dict.fromkeys(stack, samples))
    every = own.total()
    print(f"{load.name}, {every} samples\n")
    print("| own time | with all below | function |\n|---:|---:|---|")
    for name, samples in own.most_common(top):
        print(f"| {samples / every:.1%} | {below[name] / every:.1%} | `{name}` |")


async def _stacks(on: Stage, load: Load, *, native: bool) -> Counter[tuple[str, ...]]:
    """Run the worker under the load and give what py-spy saw, outermost function first."""
    place, found = on.place(load.streams), on.folder / "stacks.txt"
    async with (
        queues(place, PRODUCT),
        consuming(on, place, load, warm_ups=0) as consumer,
        working(on, place, PRODUCT) as worker,
    ):
        spy = await asyncio.create_subprocess_exec(
            *(_SPY, "record", "--pid", str(worker.pid), "--format", "raw", "--output", str(found)),
            *(["--native"] if native else []),
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
        # Line numbers would part one function into many.
        names = tuple(re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";"))
        stacks[names] += int(samples)
    return stacks


if __name__ == "__main__":
    main()
