"""Measure the cost of an event by its size, in ten floods: `python -m benchmarks.sizes`."""

import asyncio
from typing import Final

from benchmarks.turns.loads import FLOOD, Load
from benchmarks.turns.turn import Figures, stage, turn
from benchmarks.turns.workers import PRODUCT

_STREAMS: Final = 10
_SIZES: Final = (0, 100, 1_000, 10_000, 100_000, 1_000_000)
# Below the longest answer that the worker accepts, 8 MiB.
_MOST_BYTES: Final = 7_000_000
_MOST_TOKENS: Final = 3_000
_TURNS: Final = 3


async def main() -> None:
    """Print a table."""
    print("| token, bytes | events | CPU µs/event | broker CPU µs/event | MB/s | wrong |")
    print("|---:|---:|---:|---:|---:|---:|")
    async with stage() as on:
        for size in _SIZES:
            load = Load(_STREAMS, FLOOD, min(_MOST_TOKENS, _MOST_BYTES // (size + 32)), size)
            found = sorted([await turn(on, PRODUCT, load) for _ in range(_TURNS)], key=_cpu)
            median, wrong = found[_TURNS // 2], sum(it.count.wrong for it in found)
            mb = median.events_per_s * (size + 32) / 1e6
            costs = f"{median.cpu_us:,.1f} | {median.broker_cpu_us:,.1f} | {mb:,.1f}"
            print(f"| {size + 32:,} | {median.count.events:,} | {costs} | {wrong} |", flush=True)


def _cpu(figures: Figures) -> float:
    return figures.cpu_us


if __name__ == "__main__":
    asyncio.run(main())
