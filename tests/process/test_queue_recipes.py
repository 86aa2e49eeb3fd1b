"""The recipes of docs/queues.md, run as they stand there."""

import asyncio
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
from tests.support.consumer import delete

_PAGE = Path(__file__).parents[2] / "docs" / "queues.md"
_RECIPES = dict(re.findall(r"```python (\w+)\n(.*?)```", _PAGE.read_text(), re.DOTALL))
_QUEUES = ("service", "endings", "cheap")


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


@pytest.mark.parametrize("recipe", [it for it in _RECIPES if it != "status"])
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


def test_page_has_recipes() -> None:
    assert list(_RECIPES) == [
        *("live", "durable", "endings", "classic", "log", "running", "status"),
    ]


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
    modules = {"hashlib": hashlib, "json": json, "pika": pika}
    known = {"channel": channel, "take": taken.append, **modules}
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
