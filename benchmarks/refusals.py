"""Measure what a queue that nacks costs other queues: `python -m benchmarks.refusals`.

Ten queues are bound to all events of one worker. Nine are read, and judged by the checker of the
fault tests. The tenth accepts everything, nacks everything, or is read too slowly for its length.
A delay is the time from an event's time stamp to its first delivery by one of the nine.
"""

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pika

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.jobs import Job, a_job
from tests.process.stage import asked_for
from tests.support.checker import Asked, Listener, Run
from tests.support.consumer import Message, publish
from tests.support.probes import probe
from tests.support.processes import Workers, serving_endpoint

_STREAMS, _RATE, _TOKENS = 50, 5, 50
_NINE: Final = 9
_WITHIN_S: Final = 120.0
_LOOK_S: Final = 0.2
_SLOW_PER_S: Final = 50
_TENTH: Final[dict[str, dict[str, Any]]] = {
    "takes all": {},
    "refuses all": {"x-max-length": 1, "x-overflow": "reject-publish"},
    "is slow": {"x-max-length": 20, "x-overflow": "reject-publish"},
}


@dataclass(frozen=True, slots=True)
class RefusalFigures:
    """Figures of one run.

    Attributes:
        delays_s: Delay of each event on each of the nine queues.
        ended_s: Time from the first job to the last `end` on the last of the nine.
        copies: Repeats of events on the nine queues.
        counted: The worker's own counters of nacked events, by name.
    """

    delays_s: Sequence[float]
    ended_s: float
    copies: int
    counted: dict[str, int]


def main() -> None:
    """Print a table with a line for each kind of tenth queue."""
    print(f"{_STREAMS} streams, {_RATE} tokens/s each, {_TOKENS} tokens; nine queues judged")
    print("| the tenth queue | delay: median ms | p99 | longest | ended s | copies | counted |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for tenth in _TENTH:
        jobs = [a_job("load", question=f"n={_TOKENS} rate={_RATE}") for _ in range(_STREAMS)]
        figures = asyncio.run(measure(tenth, jobs))
        ordered = sorted(figures.delays_s)
        median, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        print(
            f"| {tenth} | {median * 1000:.0f} | {p99 * 1000:.0f} | {ordered[-1] * 1000:.0f} "
            f"| {figures.ended_s:.1f} | {figures.copies} | {figures.counted} |",
            flush=True,
        )


async def measure(tenth: str, jobs: Sequence[Job]) -> RefusalFigures:
    """Run jobs beside one kind of tenth queue.

    Args:
        tenth: A key of `_TENTH`.
        jobs: Jobs for a flow that the endpoint serves.

    Raises:
        Broken: One of the nine queues did not receive all events in order.
    """
    names = Names(f"refusals-{uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory(prefix="refusals-") as folder:
        async with PrivateBroker() as broker, serving_endpoint() as endpoint:
            settings = {"AMQP_URL": broker.url, "PREFIX": names.prefix, "BASE_URL": endpoint}
            async with Workers(Path(folder), settings, quiet=True) as workers:
                worker = await workers.start(CONCURRENCY=len(jobs))
                await worker.ready()
                asked = {job.job_id: asked_for(job) for job in jobs}
                with _tenth(broker.url, names, tenth), _nine(broker.url, names, asked) as nine:
                    began = time.monotonic()
                    publish(broker.url, "", names.jobs, *(job.message for job in jobs))
                    await asyncio.to_thread(nine.until_all_ended)
                    ended_s = time.monotonic() - began
                    await worker.logged("job.ended", count=len(jobs), within_s=_WITHIN_S)
                _, said = await probe(f"{await worker.health_url()}/readyz")
    Run(asked=asked, listeners=nine.listeners).judge()
    copies = sum(listener.copies for listener in nine.listeners)
    return RefusalFigures(nine.delays_s, ended_s, copies, said.get("events", {}))


class _Nine:
    """Reads nine queues in a thread, each with a listener of its own."""

    def __init__(self, url: str, exchange: str, asked: dict[str, Asked]) -> None:
        self.listeners = [Listener(f"queue {number}", exchange, asked) for number in range(_NINE)]
        self.delays_s: list[float] = []
        self._asked = asked
        self._seen: list[set[str]] = [set() for _ in range(_NINE)]
        self._leaving = threading.Event()
        self._all_ended = threading.Event()
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        channel = self._connection.channel()
        for number in range(_NINE):
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, exchange, "#")
            channel.basic_consume(queue, self._taker(number), auto_ack=True)

    def until_all_ended(self) -> None:
        assert self._all_ended.wait(_WITHIN_S), "not all jobs ended on all of the nine queues"

    def read(self) -> None:
        while not self._leaving.is_set():
            self._connection.process_data_events(_LOOK_S)
        self._connection.close()

    def leave(self) -> None:
        self._leaving.set()

    def _taker(self, number: int) -> Any:  # noqa: ANN401 - pika has no types
        def take(_: object, method: object, properties: Any, body: bytes) -> None:  # noqa: ANN401
            message = Message.of(method, properties, body)
            if properties.message_id not in self._seen[number]:
                self._seen[number].add(properties.message_id)
                said = datetime.fromisoformat(message.event["time"])
                self.delays_s.append((datetime.now(UTC) - said).total_seconds())
            self.listeners[number].take(message)
            if all(listener.ended == len(self._asked) for listener in self.listeners):
                self._all_ended.set()

        return take


@contextmanager
def _nine(url: str, names: Names, asked: dict[str, Asked]) -> Iterator[_Nine]:
    nine = _Nine(url, names.events, asked)
    thread = threading.Thread(target=nine.read)
    thread.start()
    try:
        yield nine
    finally:
        nine.leave()
        thread.join()


@contextmanager
def _tenth(url: str, names: Names, tenth: str) -> Iterator[None]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True, arguments=_TENTH[tenth]).method.queue
    channel.queue_bind(queue, names.events, "#")
    leaving = threading.Event()

    def read_slowly() -> None:
        while not leaving.wait(1 / _SLOW_PER_S):
            channel.basic_get(queue, auto_ack=True)

    thread = threading.Thread(target=read_slowly if tenth == "is slow" else leaving.wait)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()
        connection.close()


if __name__ == "__main__":
    main()
