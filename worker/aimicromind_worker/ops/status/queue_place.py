"""Tell, until the first event of a submitted job, where it waits and who takes jobs."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Never

from aiormq.exceptions import AMQPError

from aimicromind_schemas import Event, Gap
from aimicromind_schemas.client import ClientError
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.ops.status.reading import StatusReader

_ANSWERED_WITHIN: Final = timedelta(seconds=1)
_EVERY_S: Final = 2.0
_SOON_S: Final = 1.0
_CLOSED_WITHIN_S: Final = 1.0
# A command that follows a job does not end because this is not known.
_FAILURES: Final = (
    AMQPError,
    ClientError,
    ConnectionError,
    NotAchieved,
    RuntimeError,
    TimeoutError,
)

Items = AsyncIterator[Event | Gap]


@asynccontextmanager
async def with_place(
    settings: BrokerSettings, job_id: str, items: Items, tell: Callable[[str], None]
) -> AsyncIterator[Items]:
    """Wait for the first item of a job that was just submitted, and tell where the job waits.

    Args:
        settings: The addresses of the broker, and the names of the queues.
        job_id: The job.
        items: The items of the job.
        tell: A callback with a sentence, each time that it changes, before the first item.

    Yields:
        All items.
    """
    coming = asyncio.ensure_future(anext(items, None))
    telling = asyncio.create_task(_keep_telling(settings, job_id, tell))
    try:
        await asyncio.wait((coming,))
        telling.cancel()
        yield _from(coming.result(), items)
    finally:
        for task in (telling, coming):
            task.cancel()
        await asyncio.wait((telling, coming), timeout=_CLOSED_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job waits, and who takes jobs.

    Attributes:
        job: What the worker does with it that has it; None: none that answers has it.
        before: The jobs before it in the queue, at most; None: it is in the queue no more.
        workers: The workers that take jobs and answer.
        consumers: The consumers of the queue.
    """

    job: str | None
    before: int | None
    workers: int
    consumers: int

    def sentence(self, *, exact: bool) -> str:
        """Return it as a sentence.

        Args:
            exact: Whether none of the jobs before it may have come later.
        """
        if self.job == "running":
            return "a worker runs it; no answer yet"
        if self.job is not None:
            return "a worker has it: it waits for its chat, a slot or the endpoint"
        if self.before is None:
            return "delayed, or a worker that does not answer has it"
        how = "" if exact or not self.before else "at most "
        return f"queued, {how}{self.before} before it, {self._takers}"

    @property
    def _takers(self) -> str:
        if self.workers:
            return "1 worker" if self.workers == 1 else f"{self.workers} workers"
        if self.consumers:
            return "no worker answers"
        return "no worker takes jobs: start one with `aimicromind-worker run`"


def goes_on(job_id: str, chat_id: str) -> Sequence[str]:
    """Return lines: a job goes on, and the commands that follow and cancel it."""
    chat, job = shlex.quote(chat_id), shlex.quote(job_id)
    # An id may begin with a dash.
    chat = f"-- {chat}" if chat.startswith("-") else chat
    return (
        f"job {job_id} goes on",
        f"follow it: aimicromind-worker follow --from-start --job={job} {chat}",
        f"cancel it: aimicromind-worker cancel --job={job}",
    )


async def _from(first: Event | Gap | None, items: Items) -> Items:
    if first is not None:
        yield first
    async for item in items:
        yield item


async def _keep_telling(settings: BrokerSettings, job_id: str, tell: Callable[[str], None]) -> None:
    # Of most jobs there is an event by then, and nothing to tell.
    soon = asyncio.create_task(asyncio.sleep(_SOON_S))
    with suppress(*_FAILURES):
        async with StatusReader.open(settings) as reader:
            await _tell_changes(reader, job_id, tell, soon)


async def _tell_changes(
    reader: StatusReader, job_id: str, tell: Callable[[str], None], soon: asyncio.Task[None]
) -> Never:
    told: Place | None = None
    least: int | None = None
    while True:
        counts, reports = await reader.ask(_ANSWERED_WITHIN, job_id)
        job = next((it.job for it in reports if it.job), None)
        # The job itself is in the queue. Jobs that came later are behind it.
        in_queue = None if counts.ready == 0 else counts.ready - 1
        before = in_queue if in_queue is None or least is None else min(least, in_queue)
        now = Place(job, before, sum(it.ready for it in reports), counts.consumers)
        await soon
        if now != told:
            tell(now.sentence(exact=told is None))
            told = now
        least = before if before is not None else least
        await asyncio.sleep(_EVERY_S)
