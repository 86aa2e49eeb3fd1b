"""Run workers on a broker and an endpoint of their own, with jobs of several kinds."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Never
from uuid import uuid4

from aimicromind_schemas import Names, PredictionJob
from aimicromind_schemas.client import Client
from aimicromind_testing import (
    Head,
    PrivateBroker,
    Script,
    ScriptedEndpoint,
    answer,
    error_answer,
    send,
    too_many_requests,
)
from tests.support.processes import WorkerProcess, Workers

WORKERS: Final = 2
_ROUND_S: Final = 1.0
_USAGE: Final = send("usageMetadata", {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7})
_FLOWS: Final[Mapping[str, tuple[Script, ...]]] = {
    "completes": (answer(10, rate=50, after=[_USAGE]),),
    "slow": (answer(20, rate=10),),
    "refused": (error_answer("Unauthorized"),),
    "limited": (too_many_requests("30"),),
    "breaks": (Script.of(Head()),),
}
_FAILING: Final = frozenset({"refused", "breaks"})


class StoppableEndpoint:
    """A scripted endpoint that may be stopped, and is at the same address after each start."""

    def __init__(self) -> None:
        self.url = ""
        self._port = 0
        self._open = AsyncExitStack()

    async def start(self) -> None:
        endpoint = await self._open.enter_async_context(ScriptedEndpoint(port=self._port))
        for flow, scripts in _FLOWS.items():
            endpoint.flow(flow, *scripts)
        self.url = endpoint.url
        self._port = int(endpoint.url.rpartition(":")[2])

    async def stop(self) -> None:
        await self._open.aclose()


class Pool:
    """Workers, and a producer that submits a job of each kind every second.

    Attributes:
        endpoint: What the workers call.
        submitted: The number of jobs by now.
        fails: Whether jobs are submitted that end as dead letters.
    """

    def __init__(self, endpoint: StoppableEndpoint, workers: list[WorkerProcess]) -> None:
        self.endpoint = endpoint
        self.submitted = 0
        self.fails = True
        self._workers = workers

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator["Pool"]:
        """Run all of it while the body runs."""
        names, endpoint = Names(f"try-{uuid4().hex[:8]}"), StoppableEndpoint()
        async with PrivateBroker() as broker:
            await endpoint.start()
            try:
                settings = {
                    "AMQP_URL": broker.url,
                    "PREFIX": names.prefix,
                    "BASE_URL": endpoint.url,
                    "CONCURRENCY": 8,
                }
                async with Workers(folder, settings, quiet=True) as started:
                    workers = [await started.start() for _ in range(WORKERS)]
                    pool = cls(endpoint, [await worker.ready() for worker in workers])
                    async with pool._submitting(broker.url, names):
                        yield pool
            finally:
                await endpoint.stop()

    async def addresses(self) -> list[str]:
        """Return `host:port` of the metrics of each worker."""
        return [(await it.health_url()).removeprefix("http://") for it in self._workers]

    @asynccontextmanager
    async def _submitting(self, url: str, names: Names) -> AsyncIterator[None]:
        async with Client.open(url, prefix=names.prefix) as client, asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._submit(client))
            yield
            task.cancel()

    async def _submit(self, client: Client) -> Never:
        """Submit a job of each kind every second; those of the flow `slow` are of one chat."""
        while True:
            for flow in _FLOWS:
                if flow in _FAILING and not self.fails:
                    continue
                chat_id = "busy" if flow == "slow" else None
                job = PredictionJob(chatflow_id=flow, question="Why?", chat_id=chat_id)
                await client.submit(job)
                self.submitted += 1
            await asyncio.sleep(_ROUND_S)
