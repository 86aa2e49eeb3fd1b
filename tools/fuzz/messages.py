"""Send odd messages to a worker and a client: `COUNT=500000 SEED=1 python -m tools.fuzz.messages`.

The exit code is 1 if a promise was broken.
"""

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

from aimicromind_testing import PrivateBroker
from tools.fuzz.report import largest_mb
from tools.fuzz.through_guard import Fuzzed, through_guard


async def fuzz(seed: int, count: int) -> Fuzzed:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        async with PrivateBroker() as broker:
            return await through_guard(broker, Path(folder), seed, count)


def main() -> None:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    count = int(os.environ.get("COUNT", "500000"))
    print(f"COUNT={count} SEED={seed}", flush=True)
    found = asyncio.run(fuzz(seed, count))
    found.show()
    print(f"  most memory of the client's process, publisher included: {largest_mb():.0f} MB")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
