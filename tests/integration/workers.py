"""A whole worker in the test's own process, and the chat's side of its jobs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.app.worker import Worker
from tests.support.amqp import WITHIN_S, Inbox, listening
from tests.support.waiting import until


class Running:
    """A worker at work.

    Attributes:
        worker: To be stopped, if a test wants it earlier than at the end.
        times_ready: How often it began to take jobs.
    """

    def __init__(self, settings: Settings) -> None:
        self.times_ready = 0
        self._news = asyncio.Event()
        self.worker = Worker(settings, self._note_ready)
        self._task = asyncio.create_task(self.worker.run())
        self._task.add_done_callback(lambda _: self._news.set())

    async def ready(self, times: int = 1) -> None:
        """Wait until it has begun to take jobs so often; its fault, if it has one, shows here."""
        async with asyncio.timeout(WITHIN_S):
            while self.times_ready < times:
                self._news.clear()
                await self._news.wait()
                if self._task.done():
                    await self._task
                    assert self.times_ready >= times, "the worker has ended"

    async def not_ready(self, reason: str) -> None:
        """Wait until it says that for this reason it takes no jobs."""
        await until(lambda: reason in str(self.worker.condition.why_not_ready()))

    async def ended(self) -> None:
        """Wait for its end; it says its fault, if it has one."""
        await asyncio.wait_for(asyncio.shield(self._task), WITHIN_S)

    async def leave(self) -> None:
        """Stop it, and have it hand back at once what it runs."""
        self.worker.stop()
        self.worker.stop()
        try:
            await self.ended()
        finally:
            self._task.cancel()

    def _note_ready(self) -> None:
        self.times_ready += 1
        self._news.set()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[Running]:
    """Have a worker that takes jobs."""
    running = Running(settings)
    try:
        await running.ready()
        yield running
    finally:
        await running.leave()


class Chats:
    """What a consumer of all chats has received.

    Attributes:
        inbox: Every message, repeats included.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox

    async def end_of(self, job_id: str, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Wait for a job's end, and give its data once the job's events were found in order."""
        end_id = f"{job_id}:end"
        await self.inbox.until(lambda: end_id in self.inbox.ids, within_s)
        events = self.of(job_id)
        check(events)
        end: dict[str, Any] = events[-1]["data"]
        return end

    async def end_of_only_job(self) -> dict[str, Any]:
        """Wait for the end of the one job there is, whatever its id."""
        await self.inbox.until(lambda: [it.type for it in self.inbox.messages[-1:]] == ["end"])
        return await self.end_of(self.inbox.bodies()[-1]["jobId"])

    async def shows(self, name: str, attempt: int = 1) -> None:
        """Wait for an event of this name."""
        await self.inbox.until(
            lambda: any(
                (it.type, it.headers["attempt"]) == (name, attempt) for it in self.inbox.messages
            )
        )

    def of(self, job_id: str) -> list[dict[str, Any]]:
        """Give a job's events as JSON, repeats left out."""
        bodies: dict[str | None, dict[str, Any]] = {}
        for message in self.inbox.messages:
            bodies.setdefault(message.message_id, json.loads(message.body))
        return [body for body in bodies.values() if body["jobId"] == job_id]

    def shown(self, job_id: str) -> list[tuple[int, str]]:
        """Give attempt and name of a job's events."""
        return [(event["attempt"], event["event"]) for event in self.of(job_id)]

    def data(self, job_id: str, name: str) -> list[Any]:
        """Give what a job's events of one name say."""
        return [event["data"] for event in self.of(job_id) if event["event"] == name]


@asynccontextmanager
async def chats_of(connection: AbstractConnection, names: Names) -> AsyncIterator[Chats]:
    """Listen to all chats."""
    async with listening(connection, names.events) as inbox:
        yield Chats(inbox)


def check(events: list[dict[str, Any]]) -> None:
    """Judge the events of one job that has ended, repeats left out."""
    attempts: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        attempts.setdefault(event["attempt"], []).append(event)
    for of_attempt in attempts.values():
        assert [event["seq"] for event in of_attempt] == list(range(len(of_attempt)))
    assert list(attempts) == sorted(attempts)
    assert [event["event"] for event in events].index("end") == len(events) - 1
    end, winning = events[-1], attempts[max(attempts)]
    tokens = [event["data"] for event in winning if event["event"] == "token"]
    assert end["data"]["text"] == "".join(tokens)
    assert end["data"]["events"] == len(winning)
    # Whoever ends a job that is not run again takes the next attempt for that, and counts none.
    only_ended = {event["event"] for event in winning} <= {"error", "end"}
    assert end["data"]["attempts"] in {end["attempt"], end["attempt"] - only_ended}
    starts = [event["seq"] for event in winning if event["event"] == "start"]
    assert starts in ([], [0])
