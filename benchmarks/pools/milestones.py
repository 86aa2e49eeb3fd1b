"""Milestones of other jobs, with which a journal is filled: two for each job."""

import json
from datetime import UTC, datetime
from typing import Final

from benchmarks.pools.wire import Producer

_STEPS: Final = (("start", None), ("end", {"status": "completed"}))


def milestone(number: int) -> tuple[str, bytes]:
    """Return `message_id` and body of a milestone, as workers of all measured versions read it."""
    job_id, (event, data) = f"job-{number // 2}", _STEPS[number % 2]
    said = {"jobId": job_id, "chatId": job_id, "attempt": 1, "event": event, "data": data}
    body = json.dumps({**said, "time": datetime.now(UTC).isoformat()}).encode()
    return f"{job_id}:1:{number % 2}", body


async def fill(url: str, journal: str, count: int) -> None:
    """Write so many milestones straight to a journal, and wait until they are confirmed."""
    producer = await Producer.open(url, journal)
    try:
        for number in range(count):
            message_id, body = milestone(number)
            producer.put_body(body, message_id=message_id)
            await producer.window()
        await producer.confirmed()
    finally:
        producer.close()
