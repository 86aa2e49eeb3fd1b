"""Pytest plugin with a broker, an endpoint and a worker, for tests of consumers and producers.

`pytest_plugins = ["aimicromind_testing.plugin"]` in the `conftest.py` of the root folder provides
the fixture `aimicromind`. Everything runs in a thread. Thus tests may or may not have an event
loop of their own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from aimicromind_schemas import EndEvent, PredictionJob
from aimicromind_schemas.client import Client
from aimicromind_testing.at_work import at_work
from aimicromind_testing.broker.private import PrivateBroker
from aimicromind_testing.endpoint.server import ScriptedEndpoint
from aimicromind_worker.app.settings import Settings

Result = TypeVar("Result")
_DEADLINE_S = 90.0


class Background:
    """An event loop in a thread, independent of a test's own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the thread, and return its result.

        Raises:
            TimeoutError: It took more than 90 s.
        """
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE_S)

    def close(self) -> None:
        """Stop the event loop, and wait for the end of the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True)
class Installation:
    """A broker, a scripted endpoint, and a worker between them.

    Attributes:
        amqp_url: Address of the broker, for consumers and producers.
        prefix: First word of the names on the broker, another one in each test.
        endpoint: The endpoint; `endpoint.flow(name, *scripts)` adds a flow.
    """

    amqp_url: str
    prefix: str
    endpoint: ScriptedEndpoint
    _client: Client = field(repr=False)
    _background: Background = field(repr=False)

    def submit(self, flow: str, question: str, **fields: Any) -> str:  # noqa: ANN401 - those of a job
        """Submit a job, and return its id once the broker has confirmed it.

        Args:
            flow: Id of a flow of `endpoint`.
            question: The question.
            **fields: Further fields of `PredictionJob`, such as `chat_id`.
        """
        job = PredictionJob(chatflow_id=flow, question=question, **fields)
        return self._background.run(self._client.submit(job))

    def end_of(self, job_id: str) -> EndEvent:
        """Wait for the `end` of a job, for 90 s at most."""
        return self._background.run(self._client.result(job_id))


@pytest.fixture(scope="session")
def aimicromind_background() -> Iterator[Background]:
    """Run a thread with an event loop for the other fixtures."""
    background = Background()
    yield background
    background.close()


@pytest.fixture(scope="session")
def aimicromind_broker(aimicromind_background: Background) -> Iterator[PrivateBroker]:
    """Start a private RabbitMQ node for the session; RabbitMQ must be installed."""
    yield from _entered(aimicromind_background, PrivateBroker())


@pytest.fixture
def aimicromind(
    aimicromind_background: Background, aimicromind_broker: PrivateBroker
) -> Iterator[Installation]:
    """Run a worker between the broker and the test's scripted endpoint."""
    opened = _installation(aimicromind_background, aimicromind_broker.url)
    yield from _entered(aimicromind_background, opened)


def _entered(
    background: Background, context: AbstractAsyncContextManager[Result]
) -> Iterator[Result]:
    """Enter a context in the thread for the time of a fixture."""

    async def enter() -> Result:
        return await context.__aenter__()

    async def leave() -> None:
        await context.__aexit__(None, None, None)

    yield background.run(enter())
    background.run(leave())


@asynccontextmanager
async def _installation(background: Background, amqp_url: str) -> AsyncIterator[Installation]:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(ScriptedEndpoint())
        prefix = f"test-{uuid4().hex[:12]}"
        settings = Settings.read(amqp_url=amqp_url, base_url=endpoint.url, prefix=prefix)
        await stack.enter_async_context(at_work(settings))
        client = await stack.enter_async_context(Client.open(amqp_url, prefix))
        yield Installation(amqp_url, prefix, endpoint, client, background)
