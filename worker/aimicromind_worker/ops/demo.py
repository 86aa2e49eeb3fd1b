"""Run the demo: a broker, an endpoint, a worker and five jobs, shown live; then stop all of them.

It installs nothing. On an existing broker it uses a prefix of its own, and deletes its objects.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from rich.console import Console
from typing_extensions import override

from aimicromind_schemas import EndEvent, EndStatus, ErrorEvent, FailureKind, PredictionJob
from aimicromind_schemas.client import Client
from aimicromind_testing import (
    PrivateBroker,
    ScriptedEndpoint,
    add_demo_flows,
    find_rabbitmq_server,
)
from aimicromind_testing.at_work import at_work
from aimicromind_testing.broker.docker import docker_answers, docker_broker
from aimicromind_worker.amqp.declaring import remove
from aimicromind_worker.app.broker import broker_connection, needed_topology
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.ops.following.views import LiveView, PlainView

_DEADLINE = timedelta(minutes=3)
_NO_BROKER = (
    "no broker was found: set AIMICROMIND_AMQP_URL, or install RabbitMQ "
    "(Debian and Ubuntu: apt-get install rabbitmq-server; macOS: brew install rabbitmq), "
    "or start Docker"
)


class NoBroker(NotAchieved):
    """There is no broker, and no means to start one."""

    def __init__(self) -> None:
        super().__init__(_NO_BROKER)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends."""

    status: EndStatus
    attempts: int = 1
    kind: FailureKind | None = None

    @override
    def __str__(self) -> str:
        reason = f" ({self.kind})" if self.kind else ""
        return f"{self.status}{reason} after {self.attempts} attempt(s)"


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the demo, and how it should end."""

    question: str
    ending: Ending = Ending(EndStatus.COMPLETED)


SCRIPTED_JOBS: Mapping[str, Job] = {
    "plain-chain": Job("What is a queue for?"),
    "tool-agent": Job("What is six times seven?"),
    "retrieval": Job("What does the manual say?"),
    "breaks-once": Job("And if a stream breaks?", Ending(EndStatus.COMPLETED, attempts=2)),
    "unauthorized": Job(
        "And with a wrong key?", Ending(EndStatus.FAILED, kind=FailureKind.UNAUTHORIZED)
    ),
}


async def run_demo(console: Console, flows: Sequence[str], question: str) -> bool:
    """Run the demo.

    Args:
        console: Output: live on a terminal, else plain lines.
        flows: Flows of the endpoint in AIMICROMIND_BASE_URL; empty without that setting.
        question: Question for these flows.

    Returns:
        Whether every job ended as it should.

    Raises:
        NoBroker: No broker was found; the text says what to install.
    """
    task = asyncio.current_task()
    if task is not None:
        # SIGTERM must stop broker, endpoint and worker, too.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    base_url = os.environ.get("AIMICROMIND_BASE_URL")
    jobs = SCRIPTED_JOBS
    if base_url:
        jobs = {flow: Job(question) for flow in flows}
    async with AsyncExitStack() as stack:
        amqp_url = await stack.enter_async_context(_broker(console))
        if not base_url:
            endpoint = await stack.enter_async_context(ScriptedEndpoint())
            add_demo_flows(endpoint)
            base_url = endpoint.url
            _say(console, f"endpoint: scripted, {len(jobs)} flows")
        settings = Settings.read(
            amqp_url=amqp_url, base_url=base_url, prefix=f"aimicromind-demo-{uuid4().hex[:8]}"
        )
        async with asyncio.timeout(_DEADLINE.total_seconds()), _worker(settings):
            endings = await _run_jobs(console, settings, jobs)
    return _report(console, jobs, endings)


@asynccontextmanager
async def _broker(console: Console) -> AsyncIterator[str]:
    given = os.environ.get("AIMICROMIND_AMQP_URL")
    if given:
        _say(console, "broker: the one in AIMICROMIND_AMQP_URL")
        yield given
    elif find_rabbitmq_server() is not None:
        _say(console, "broker: a private node of this machine's RabbitMQ")
        async with PrivateBroker() as broker:
            yield broker.url
    elif await docker_answers():
        _say(console, "broker: RabbitMQ in a container")
        async with docker_broker() as url:
            yield url
    else:
        raise NoBroker


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[None]:
    """Run a worker for the body, then delete its topology."""
    try:
        async with at_work(settings):
            yield
    finally:
        async with broker_connection(settings, "aimicromind-worker demo") as connection:
            await remove(connection, needed_topology(settings))


async def _run_jobs(
    console: Console, settings: Settings, jobs: Mapping[str, Job]
) -> Mapping[str, Ending]:
    flows = {f"demo-{uuid4()}": flow for flow in jobs}
    titles = {job_id: f"{flow}: {jobs[flow].question}" for job_id, flow in flows.items()}
    kinds: dict[str, FailureKind] = {}
    endings: dict[str, Ending] = {}
    live = LiveView(console, titles) if console.is_terminal else None
    view = live or PlainView(console, flows)
    async with (
        Client.open(settings.broker_urls, settings.prefix, tls=settings.broker_tls) as client,
        client.private("chat.#") as events,
    ):
        for job_id, flow in flows.items():
            job = PredictionJob(chatflow_id=flow, question=jobs[flow].question, job_id=job_id)
            await client.submit(job)
        with live or nullcontext():
            async for event in events:
                view.show(event)
                if isinstance(event, ErrorEvent):
                    kinds[event.job_id] = event.data.kind
                elif isinstance(event, EndEvent):
                    data, kind = event.data, kinds.get(event.job_id)
                    endings[flows[event.job_id]] = Ending(data.status, data.attempts, kind)
                if len(endings) == len(jobs):
                    break
    return endings


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _report(console: Console, jobs: Mapping[str, Job], endings: Mapping[str, Ending]) -> bool:
    """Print which jobs ended otherwise than they should; return whether none did."""
    wrong = [flow for flow, job in jobs.items() if endings[flow] != job.ending]
    for flow in wrong:
        _say(console, f"{flow}: {endings[flow]} instead of {jobs[flow].ending}")
    _say(console, f"{len(jobs) - len(wrong)} of {len(jobs)} jobs ended as they should")
    if meant := [flow for flow, job in jobs.items() if job.ending.status != EndStatus.COMPLETED]:
        _say(console, f"{', '.join(meant)} was meant to fail")
    return not wrong
