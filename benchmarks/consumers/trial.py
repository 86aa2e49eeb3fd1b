"""Run a consumer through 1,000 events and a fault in the middle, and count what became of them."""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import aio_pika
import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

from aimicromind_schemas import EndData, EndEvent, EndStatus, Message, Names, encode
from aimicromind_testing import PrivateBroker
from benchmarks.consumers.work import POISON

EVENTS: Final = 1000
_FAULT_AFTER: Final = 200
_WITHIN_S: Final = 60.0
_QUIET_S: Final = 10.0
_EXITS_S: Final = 30.0
_LOOK_S: Final = 0.1
_TOP: Final = Path(__file__).parents[2]
_NAMES: Final = Names("trial")
_QUEUE: Final = "trial.consumers.billing"
_DEAD: Final = f"{_QUEUE}.dead"

Fault = Literal["none", "SIGTERM", "SIGKILL", "broker restart"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events.

    Attributes:
        handled: How often each event was handled.
        dead: Headers of the dead letters, by event.
        left: Messages in the other queues of the consumer, after the process has ended.
        exit_code: Exit code of the process after SIGTERM; 0 for other faults.
        seconds: Time from the first event on the queue until the last one was handled.
    """

    handled: Counter[str]
    dead: Mapping[str, Mapping[str, Any]]
    left: int
    exit_code: int
    seconds: float

    @property
    def lost(self) -> int:
        """Events that were neither handled, nor are dead letters, nor in another queue."""
        return max(0, EVENTS - len(self.handled.keys() | self.dead.keys()) - self.left)

    @property
    def repeats(self) -> int:
        """How often an event was handled again."""
        return self.handled.total() - len(self.handled)


async def trial(module: str, fault: Fault) -> Outcome:
    """Run a program of this folder on a broker of its own.

    Args:
        module: Name of the program.
        fault: What happens once 200 events were handled. A process that ended is started again.
    """
    with tempfile.TemporaryDirectory(prefix="consumers-") as folder:
        noted = Path(folder) / "handled"
        noted.touch()
        async with PrivateBroker() as broker:
            await asyncio.to_thread(_declare_exchange, broker.url)
            command = (sys.executable, "-m", f"benchmarks.consumers.{module}")
            arguments = (broker.url, _NAMES.prefix, str(noted))
            async with _running(*command, *arguments) as process:
                await _consumed(broker.url)
                began = time.monotonic()
                await _publish(broker.url)
                exit_code = 0
                await _until(noted, _FAULT_AFTER)
                if fault in {"SIGTERM", "SIGKILL"}:
                    process.send_signal(signal.Signals[fault])
                    exit_code = await asyncio.wait_for(process.wait(), _EXITS_S)
                elif fault == "broker restart":
                    await broker.restart()
                if process.returncode is None:
                    seconds = await _quiet(broker, noted) - began
                else:
                    async with _running(*command, *arguments):
                        await _consumed(broker.url)
                        seconds = await _quiet(broker, noted) - began
            left = await _left(broker)
            dead = await asyncio.to_thread(_dead_letters, broker.url)
        handled = Counter(noted.read_text().split())
    return Outcome(handled, dead, left, exit_code if fault == "SIGTERM" else 0, seconds)


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=_TOP, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _consumed(url: str) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while (await asyncio.to_thread(_counts, url, _QUEUE))[1] != 1:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)


async def _until(noted: Path, lines: int) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while noted.read_bytes().count(b"\n") < lines:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(_LOOK_S)


async def _quiet(broker: PrivateBroker, noted: Path) -> float:
    """Wait until all is handled or dead, or nothing happens; return when the last was handled."""
    last, size = time.monotonic(), -1
    async with asyncio.timeout(_WITHIN_S):
        while time.monotonic() - last < _QUIET_S:
            now = noted.stat().st_size  # noqa: ASYNC240 - a small file
            if now != size:
                last, size = time.monotonic(), now
            handled = set(noted.read_text().split())  # noqa: ASYNC240
            dead, _ = await asyncio.to_thread(_counts, broker.url, _DEAD)
            if len(handled) + dead >= EVENTS:
                break
            await asyncio.sleep(_LOOK_S)
    return last


async def _left(broker: PrivateBroker) -> int:
    """Count what is in the other queues; the process has ended, thus nothing is unacknowledged."""
    listed = (await broker.rabbitmqctl("list_queues", "name")).split()
    queues = [it for it in listed if it.startswith(_QUEUE) and it != _DEAD]
    return sum([(await asyncio.to_thread(_counts, broker.url, it))[0] for it in queues])


def _declare_exchange(url: str) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        connection.channel().exchange_declare(_NAMES.events, "topic", durable=True)


async def _publish(url: str) -> None:
    """Publish all events; a broker that stops may lose those that it has not confirmed."""
    async with await aio_pika.connect(url) as connection:
        exchange = await (await connection.channel()).get_exchange(_NAMES.events, ensure=False)
        async with asyncio.TaskGroup() as publishing:
            for number in range(EVENTS):
                event = _event(number)
                message = aio_pika.Message(
                    event.body,
                    message_id=event.properties.message_id,
                    type=event.properties.type,
                    headers=dict(event.properties.headers),
                    content_type=event.properties.content_type,
                    delivery_mode=event.properties.delivery_mode,
                )
                publishing.create_task(exchange.publish(message, event.routing_key))


def _event(number: int) -> Message:
    text = f"answer {number}"
    data = EndData(
        status=EndStatus.COMPLETED,
        attempts=1,
        calls=1,
        events=1,
        duration_seconds=0.1,
        text=text,
        recovered=False,
        tags={},
    )
    return encode(
        EndEvent(
            job_id=f"job-{number}",
            chat_id=f"chat-{number}",
            chatflow_id="flow",
            attempt=1,
            seq=1,
            time=datetime.now(UTC),
            event="end",
            data=data,
        )
    )


def _counts(url: str, queue: str) -> tuple[int, int]:
    """Return the messages of a queue that no consumer has, and its consumers."""
    with (
        suppress(AMQPError),
        closing(pika.BlockingConnection(pika.URLParameters(url))) as connection,
    ):
        found = connection.channel().queue_declare(queue, passive=True).method
        return found.message_count, found.consumer_count
    return 0, 0


def _dead_letters(url: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    with (
        suppress(ChannelClosedByBroker),
        closing(pika.BlockingConnection(pika.URLParameters(url))) as connection,
    ):
        channel = connection.channel()
        while (got := channel.basic_get(_DEAD))[0] is not None:
            _, properties, body = got
            found[json.loads(body)["jobId"]] = properties.headers
    return found


def is_whole(outcome: Outcome) -> bool:
    """Return whether nothing was lost, and the poison event is a dead letter."""
    return not (outcome.lost or outcome.left) and POISON in outcome.dead
