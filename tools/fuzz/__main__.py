"""Send mutated answers through the core and a worker: `COUNT=100000 SEED=1 python -m tools.fuzz`.

RELAY_COUNT cases go through a worker. NUMBER plays one case again. The exit code is 1 if a promise
was broken.
"""

import asyncio
import logging
import os
import random
import sys
import tempfile
from pathlib import Path

import structlog

from aimicromind_testing import PrivateBroker
from tools.fuzz.report import Report, largest_mb
from tools.fuzz.through_core import through_core
from tools.fuzz.through_worker import through_worker

_MOST_MB = 150


async def fuzz(seed: int, numbers: range, relayed: range) -> bool:
    core = Report("core")
    await through_core(seed, numbers, core)
    if largest_mb() > _MOST_MB:
        core.wrong.append(f"this process used {largest_mb():.0f} MB of memory")
    core.show()
    worker = Report("worker")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        async with PrivateBroker() as broker:
            await through_worker(broker, Path(folder), seed, relayed, worker)
    worker.show()
    return not core.wrong and not worker.wrong


def main() -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    count = int(os.environ.get("COUNT", "100000"))
    number = os.environ.get("NUMBER")
    relay_count = int(os.environ.get("RELAY_COUNT", "1000"))
    one = range(int(number), int(number) + 1) if number else None
    print(f"COUNT={count} RELAY_COUNT={relay_count} SEED={seed}", flush=True)
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    sys.exit(0 if asyncio.run(fuzz(seed, one or range(count), one or range(relay_count))) else 1)


if __name__ == "__main__":
    main()
