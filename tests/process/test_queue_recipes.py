"""The recipes of docs/queues.md, run as they stand there."""

import asyncio
import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pika
import pytest
from pika.exceptions import AMQPError

from aimicromind_testing import answer
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.consumer import delete, ready_messages, taken
from tests.support.waiting import until

_PAGE = Path(__file__).parents[2] / "docs" / "queues.md"
_RECIPES = dict(re.findall(r"```python (\w+)\n(.*?)```", _PAGE.read_text(), re.DOTALL))
_QUEUES = ("service", "endings", "cheap")
_MODULES = {"datetime": dt, "hashlib": hashlib, "json": json, "pika": pika}
_READS = [name for name in _RECIPES if name not in {"retries", "status"}]


class Channel:
    """A channel of pika that tells when somebody consumes.

    Attributes:
        consumes: Set then; all bindings are there.
    """

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - pika has no types
        self.consumes = Event()
        self._channel = channel

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - pika has no types
        return getattr(self._channel, name)

    def consume(self, *arguments: object, **named: object) -> Iterator[Any]:
        """Consume as pika does."""
        self.consumes.set()
        return iter(self._channel.consume(*arguments, **named))


@pytest.mark.parametrize("recipe", _READS)
async def test_recipe_brings_all_events_in_order(recipe: str, stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(60, rate=30) if recipe == "running" else answer(20))
    await stage.ready_worker()
    job = a_job(chatId="chat-1")
    with stage.listen() as consumer, _channel(stage) as channel:
        if recipe == "log":
            stage.submit(job)
            await stage.ended(consumer, job)
        if recipe == "running":
            stage.submit(job)
            await consumer.saw(job.job_id, "token")
        taken: list[Any] = []
        reading = asyncio.create_task(asyncio.to_thread(_follow, stage, recipe, channel, taken))
        await asyncio.to_thread(channel.consumes.wait, 15)
        if recipe not in {"log", "running"}:
            stage.submit(job)
            await stage.ended(consumer, job)
        await asyncio.wait_for(reading, 20)
        await stage.stop_workers()

    everything = [message.event for message in consumer.job(job.job_id)]
    assert len(everything) > 10
    assert taken == (everything[-1:] if recipe == "endings" else everything)


async def test_recipe_with_retries_handles_each_event_or_has_it_as_a_dead_letter(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(2))
    await stage.ready_worker()
    jobs = [a_job() for _ in range(5)]
    poison, once = jobs[1].job_id, jobs[2].job_id
    handled: list[str] = []
    tries: list[str] = []
    name = f"{stage.names.prefix}.consumers.accounts"

    def handle(event: Any) -> None:  # noqa: ANN401 - as JSON has it
        tries.append(event["jobId"])
        if event["jobId"] == poison or (tries.count(once) == 1 and event["jobId"] == once):
            raise ValueError("no such customer")
        handled.append(event["jobId"])

    try:
        with stage.listen() as consumer, _channel(stage) as channel:
            known = {"channel": channel, "handle": handle}
            reading = asyncio.create_task(asyncio.to_thread(_consume, stage, known))
            await asyncio.to_thread(channel.consumes.wait, 15)
            stage.submit(*jobs)
            await stage.ended(consumer, *jobs)
            await until(lambda: len(handled) == 4)
            await until(lambda: ready_messages(stage.broker.url, f"{name}.dead"))
            channel.connection.add_callback_threadsafe(channel.connection.close)
            await asyncio.wait_for(reading, 20)
            ((body, headers),) = taken(stage.broker.url, f"{name}.dead")
    finally:
        delays = [f"{name}.delay.{it}" for it in (1, 2)]
        delete(stage.broker.url, [name, f"{name}.dead", *delays], [name])

    assert sorted(handled) == sorted(job.job_id for job in jobs if job.job_id != poison)
    assert (json.loads(body)["jobId"], tries.count(poison)) == (poison, 3)
    assert headers["x-aimicromind-attempts"] == 3
    assert headers["x-aimicromind-message"] == "no such customer"


def test_page_has_recipes() -> None:
    assert _READS == ["live", "durable", "endings", "classic", "log", "running"]
    assert {"retries", "status"} <= set(_RECIPES)


def _consume(stage: Stage, known: dict[str, Any]) -> None:
    written = _RECIPES["retries"].replace('"aimicromind.', f'"{stage.names.prefix}.')
    written = written.replace("(1, 10, 60)", "(1, 2)")
    with suppress(AMQPError):
        exec(compile(written, f"{_PAGE}:retries", "exec"), known | _MODULES)


async def test_recipe_brings_a_report_of_each_worker(stage: Stage) -> None:
    await stage.ready_workers(2, CONCURRENCY=3)
    taken: list[Any] = []
    with _channel(stage) as channel:
        reading = asyncio.to_thread(_follow, stage, "status", channel, taken)
        await asyncio.wait_for(reading, 20)

    assert [(it["slots"], it["ready"]) for it in taken] == [(3, True)] * 2
    assert len({it["pid"] for it in taken}) == 2


def _follow(stage: Stage, recipe: str, channel: Channel, taken: list[Any]) -> None:
    written = _RECIPES[recipe].replace('"aimicromind.', f'"{stage.names.prefix}.')
    known = {"channel": channel, "take": taken.append, **_MODULES}
    exec(compile(written, f"{_PAGE}:{recipe}", "exec"), known)


@contextmanager
def _channel(stage: Stage) -> Iterator[Channel]:
    connection = pika.BlockingConnection(pika.URLParameters(stage.broker.url))
    try:
        yield Channel(connection.channel())
    finally:
        with suppress(AMQPError, ValueError):
            connection.close()
        delete(stage.broker.url, _QUEUES, [])
