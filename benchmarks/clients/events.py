"""Publish events of jobs that no worker runs, as a worker would, at a steady rate."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from aimicromind_schemas import PARTITIONS, partition_of
from benchmarks.parts.amqp import CHANNEL, AmqpProtocol
from benchmarks.parts.unconfirmed import Unconfirmed

_OTHERS: Final = 1000
_UNCONFIRMED: Final = 1000
_PAUSE_S: Final = 0.01
_END: Final = {
    "status": "completed",
    "attempts": 1,
    "calls": 1,
    "durationSeconds": 1.0,
    "text": "Once upon a time " * 20,
    "recovered": False,
    "tags": {},
}


class EventSource:
    """Publishes to one exchange. `open` it, and `close` it at the end."""

    def __init__(self, protocol: AmqpProtocol, exchange: str) -> None:
        self._protocol = protocol
        self._exchange = exchange
        self._unconfirmed = Unconfirmed()
        protocol.on_ack = self._unconfirmed.take

    @classmethod
    async def open(cls, url: str, exchange: str) -> Self:
        protocol = await AmqpProtocol.open(url)
        await protocol.asks(commands.Confirm.Select())
        return cls(protocol, exchange)

    async def rounds(self, jobs: int, tokens: int, rate: int, more: Mapping[int, int]) -> None:
        """Publish tokens and an `end` of each job, one job after the other in each round.

        Args:
            jobs: Number of jobs.
            tokens: Tokens of each.
            rate: Events a second.
            more: Further tokens of some jobs, before all ends and as fast as they are confirmed.
        """
        began, done = time.monotonic(), 0
        for seq in range(tokens + 1):
            if seq == tokens:
                flood_began = time.monotonic()
                await self._flood(tokens, more)
                began += time.monotonic() - flood_began
            for number in range(jobs):
                last = seq + more.get(number, 0)
                self._put(f"job-{number}", *((seq, "token") if seq < tokens else (last, "end")))
                done += 1
                if done / rate > time.monotonic() - began:
                    await asyncio.sleep(_PAUSE_S)
                await self._unconfirmed.until(_UNCONFIRMED)
        await self._unconfirmed.until(0)

    async def _flood(self, begin: int, more: Mapping[int, int]) -> None:
        for number, count in more.items():
            for seq in range(begin, begin + count):
                self._put(f"job-{number}", seq, "token")
                await self._unconfirmed.until(_UNCONFIRMED)

    async def tokens(self, count: int | None = None, rate: int | None = None) -> None:
        """Publish tokens of other jobs, a thousand in turns.

        Args:
            count: How many; None: until the task is cancelled.
            rate: How many a second; None: as fast as they are confirmed.
        """
        began = time.monotonic()
        for number in itertools.count() if count is None else range(count):
            self._put(f"other-{number % _OTHERS}", number // _OTHERS, "token")
            if rate is not None and number / rate > time.monotonic() - began:
                await asyncio.sleep(_PAUSE_S)
            await self._unconfirmed.until(_UNCONFIRMED)
        await self._unconfirmed.until(0)

    async def ends(self, names: Iterable[str]) -> None:
        """Publish an `end` of each job, as fast as the broker confirms them."""
        for name in names:
            self._put(name, 0, "end")
            await self._unconfirmed.until(_UNCONFIRMED)
        await self._unconfirmed.until(0)

    def close(self) -> None:
        self._protocol.transport.abort()

    def _put(self, job_id: str, seq: int, event: str) -> None:
        data = "Once " if event == "token" else {**_END, "events": seq + 1}
        now = datetime.now(UTC)
        fields = {"jobId": job_id, "chatId": job_id, "chatflowId": "flow", "attempt": 1}
        said = {"seq": seq, "time": now.isoformat(), "event": event, "data": data}
        body = json.dumps(fields | said).encode()
        headers: dict[str, Any] = {"attempt": 1, "seq": seq, "x-stream-filter-value": job_id}
        # A log of one stream is bound to all keys, and gets the event once.
        headers["BCC"] = [str(partition_of(job_id, PARTITIONS))]
        properties = commands.Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            headers=headers,
            message_id=f"{job_id}:end" if event == "end" else f"{job_id}:1:{seq}",
            message_type=event,
            timestamp=now,
        )
        publish = commands.Basic.Publish(
            exchange=self._exchange, routing_key=f"chat.{job_id}.{event}"
        )
        header = ContentHeader(0, len(body), properties)
        frames = (publish, header, ContentBody(body))
        self._protocol.transport.write(b"".join(marshal(it, CHANNEL) for it in frames))
        self._unconfirmed.add()
