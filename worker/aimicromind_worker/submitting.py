"""Put one job on the queue from the command line and, if asked, show its events to the end."""

import asyncio
from contextlib import nullcontext

import click
import msgspec
from rich.console import Console

from aimicromind_schemas import EndEvent, EndStatus, Event, Names, PredictionJob, chat_binding
from aimicromind_worker.adapters.chat import listen, submit
from aimicromind_worker.adapters.connection import connect
from aimicromind_worker.reasons import NotAchieved
from aimicromind_worker.settings import BrokerSettings
from aimicromind_worker.views import LiveView, PlainView, View

_CONNECTION = "aimicromind-worker submit"


class StillRunning(NotAchieved):
    """The job did not end while we watched; it goes on."""

    def __init__(self, within_s: float) -> None:
        super().__init__(
            f"the job has not ended within {within_s:g} s and goes on without us; "
            "if it has not begun: is a worker running?"
        )


async def submit_job(settings: BrokerSettings, job: PredictionJob, *, as_json: bool) -> None:
    """Submit a job and say its names.

    Raises:
        JobNotTaken: The broker did not take it.
    """
    names = Names(settings.prefix)
    async with (
        connect(settings.broker_urls, _CONNECTION, settings.heartbeat) as broker,
        broker.channel() as channel,
    ):
        await submit(channel, names, job)
    chat_id = job.chat_id or job.job_id
    if as_json:
        _write_json({"jobId": job.job_id, "chatId": chat_id})
    else:
        click.echo(f"job {job.job_id} of chat {chat_id} is on the queue")


async def submit_and_follow(
    settings: BrokerSettings, job: PredictionJob, *, as_json: bool, within_s: float
) -> bool:
    """Submit a job and show its events until it ends.

    Returns:
        Whether it completed.

    Raises:
        JobNotTaken: The broker did not take it.
        StillRunning: It did not end in time.
    """
    names = Names(settings.prefix)
    job_id = job.job_id or ""
    console = Console()
    titles = {job_id: f"{job.chatflow_id} {job_id}"}
    live = LiveView(console, titles) if console.is_terminal and not as_json else None
    view: View = JsonView() if as_json else live or PlainView(console, titles)
    try:
        async with (
            asyncio.timeout(within_s),
            connect(
                settings.broker_urls, "aimicromind-worker follow", settings.heartbeat
            ) as broker,
            listen(broker, names, chat_binding(job.chat_id or job_id)) as events,
            broker.channel() as channel,
        ):
            await submit(channel, names, job)
            with live or nullcontext():
                async for event in events:
                    if event.job_id != job_id:
                        continue
                    view.show(event)
                    if isinstance(event, EndEvent):
                        return event.data.status is EndStatus.COMPLETED
    except TimeoutError as error:
        raise StillRunning(within_s) from error
    return False


class JsonView:
    """Writes each event as one line of JSON, as it was published."""

    def show(self, event: Event) -> None:
        """Write the next event."""
        _write_json(event.wire())


def _write_json(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode())
