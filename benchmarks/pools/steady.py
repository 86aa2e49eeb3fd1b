"""Write milestones at a steady rate, one at a time, to a journal or to a bare socket.

`python -m benchmarks.pools.steady RATE URL JOURNAL`, or `… RATE HOST PORT`; until it is ended.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from typing import Final

from benchmarks.pools.milestones import milestone
from benchmarks.pools.wire import Producer

_FIRST: Final = 1_000_000_000


async def main(rate: int, where: str, name: str) -> None:
    """Write without end."""
    if "://" in where:
        producer = await Producer.open(where, name)

        def put(message_id: str, body: bytes) -> None:
            producer.put_body(body, message_id=message_id)

    else:
        _, writer = await asyncio.open_connection(where, int(name))

        def put(message_id: str, body: bytes) -> None:
            writer.write(message_id.encode() + body)

    print("ready", flush=True)
    await _steadily(rate, put)


async def _steadily(rate: int, put: Callable[[str, bytes], None]) -> None:
    began = time.monotonic()
    for number in itertools.count():
        put(*milestone(_FIRST + number))
        await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
