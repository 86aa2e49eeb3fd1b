"""Submit jobs and receive events as any program would: AMQP and JSON, known to all versions."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from benchmarks.parts.amqp import CHANNEL, AmqpProtocol
from benchmarks.parts.unconfirmed import Unconfirmed

_UNCONFIRMED: Final = 2000


class _Event(msgspec.Struct, rename="camel"):
    job_id: str
    attempt: int
    event: str


_events = msgspec.json.Decoder(_Event)


def _future() -> "asyncio.Future[float]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class JobSeen:
    """What was received of a job. Times are of `time.monotonic`.

    Attributes:
        first: Set with the time of its first event.
        ended: Set with the time of its `end`.
        attempt: The highest attempt of its events.
    """

    first: "asyncio.Future[float]" = field(default_factory=_future)
    ended: "asyncio.Future[float]" = field(default_factory=_future)
    attempt: int = 0


class Events:
    """All events of an installation, by job."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobSeen] = {}

    def job(self, job_id: str) -> JobSeen:
        """Return what was received of a job, now and later."""
        return self._jobs.setdefault(job_id, JobSeen())

    async def listen(self, url: str, exchange: str) -> AmqpProtocol:
        """Bind a queue, and take its messages from now on."""
        protocol = await AmqpProtocol.open(url)
        queue = f"events-{uuid4().hex[:12]}"
        await protocol.asks(commands.Queue.Declare(queue=queue, exclusive=True))
        bind = commands.Queue.Bind(queue=queue, exchange=exchange, routing_key="chat.#")
        await protocol.asks(bind)
        protocol.on_body = self._take
        await protocol.asks(commands.Basic.Consume(queue=queue, no_ack=True))
        return protocol

    async def ended(self, job_ids: Iterable[str], within_s: float) -> int:
        """Wait until jobs have ended, no longer than this; return how many have."""
        ends = [self.job(job_id).ended for job_id in job_ids]
        if ends:
            await asyncio.wait(ends, timeout=max(0.0, within_s))
        return sum(end.done() for end in ends)

    def _take(self, body: bytes, _tag: int) -> None:
        now, event = time.monotonic(), _events.decode(body)
        seen = self.job(event.job_id)
        seen.attempt = max(seen.attempt, event.attempt)
        if not seen.first.done():
            seen.first.set_result(now)
        if event.event == "end" and not seen.ended.done():
            seen.ended.set_result(now)


class Producer:
    """Publishes to one queue, in the order of the calls, with confirms."""

    def __init__(self, protocol: AmqpProtocol, queue: str) -> None:
        self._protocol = protocol
        self._queue = queue
        self._unconfirmed = Unconfirmed()
        self._publish = marshal(commands.Basic.Publish(exchange="", routing_key=queue), CHANNEL)
        protocol.on_ack = self._unconfirmed.take

    @classmethod
    async def open(cls, url: str, queue: str) -> Self:
        protocol = await AmqpProtocol.open(url)
        await protocol.asks(commands.Confirm.Select())
        return cls(protocol, queue)

    def put(self, job: Mapping[str, Any], **properties: Any) -> float:  # noqa: ANN401 - as in pamqp
        """Publish a job, and return the time."""
        self.put_body(json.dumps(job).encode(), delivery_mode=2, **properties)
        return time.monotonic()

    def put_body(self, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - as in pamqp
        """Publish a body of less than a frame."""
        header = ContentHeader(0, len(body), commands.Basic.Properties(**properties))
        frames = (self._publish, marshal(header, CHANNEL), marshal(ContentBody(body), CHANNEL))
        self._protocol.transport.write(b"".join(frames))
        self._unconfirmed.add()

    async def confirmed(self, left: int = 0) -> None:
        """Wait until no more than `left` messages are unconfirmed.

        Raises:
            TimeoutError: They were not, within 60 s.
        """
        await self._unconfirmed.until(left)

    async def window(self) -> None:
        """Wait until one more message may be published."""
        await self.confirmed(_UNCONFIRMED)

    async def waiting(self, queue: str) -> int:
        """Return how many messages of a queue no consumer holds."""
        declared = await self._protocol.asks(commands.Queue.Declare(queue=queue, passive=True))
        assert isinstance(declared, commands.Queue.DeclareOk)
        return int(declared.message_count or 0)

    def close(self) -> None:
        self._protocol.transport.abort()
