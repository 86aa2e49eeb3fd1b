"""Submit jobs, follow chats and cancel, for the command line, with the public client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from datetime import timedelta

from aimicromind_schemas import EndEvent, EndStatus, Event, Gap, PredictionJob
from aimicromind_schemas.client import Client
from aimicromind_schemas.client.transport.cancelling import is_cancelled
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.ops import terminal
from aimicromind_worker.ops.following.history import told
from aimicromind_worker.ops.following.views import JsonView, LiveView, PlainView, View
from aimicromind_worker.ops.status.queue_place import goes_on, with_place
from aimicromind_worker.ops.terminal import say, say_json

_PATIENCE = timedelta(seconds=30)

Items = AsyncIterator[Event | Gap]


class StillRunning(NotAchieved):
    """The job did not end in time; it goes on."""

    def __init__(self, within_s: float) -> None:
        super().__init__(
            f"the job has not ended within {within_s:g} s, and goes on; "
            "`aimicromind-worker status` shows whether a worker takes jobs"
        )


@dataclass(frozen=True, slots=True)
class Watch:
    """What to show of a chat, and how.

    Attributes:
        chat_id: The chat.
        job_id: Show only this job, until it ends.
        from_start: Whether to begin with the event log.
        as_json: Whether to write JSON lines.
        within_s: Longest time, in seconds; None for no end.
    """

    chat_id: str
    job_id: str | None = None
    from_start: bool = False
    as_json: bool = False
    within_s: float | None = None


async def submit_job(settings: BrokerSettings, job: PredictionJob, *, as_json: bool) -> None:
    """Submit a job and print its jobId and chatId.

    Raises:
        ClientError: The broker did not confirm the job.
    """
    async with _client(settings) as client:
        job_id = await client.submit(job)
    chat_id = job.chat_id or job_id
    if as_json:
        say_json({"jobId": job_id, "chatId": chat_id})
    else:
        say(f"job {job_id} of chat {chat_id} is submitted")


async def submit_and_watch(
    settings: BrokerSettings, job: PredictionJob, *, as_json: bool, within_s: float
) -> bool:
    """Submit a job and show its events until it ends.

    Returns:
        Whether the job completed.

    Raises:
        ClientError: The broker did not confirm the job.
        StillRunning: The job did not end in time.
    """
    job_id = job.job_id or ""
    view = _view({job_id: f"{job.chatflow_id} {job_id}"}, as_json=as_json)
    submitted = False
    async with _client(settings) as client:
        try:
            async with asyncio.timeout(within_s), client.request(job) as items:
                submitted = True
                if as_json:
                    return await _show(items, view, job_id)
                async with with_place(settings, job_id, items, _say_beside) as coming:
                    return await _show(coming, view, job_id)
        except TimeoutError as error:
            raise StillRunning(within_s) from error
        except asyncio.CancelledError:
            if submitted and is_cancelled():
                for line in goes_on(job_id, job.chat_id or job_id):
                    _say_beside(line)
            raise


async def watch_chat(settings: BrokerSettings, watch: Watch) -> bool:
    """Show the events of a chat.

    Returns:
        Whether the job completed; always true for a whole chat.

    Raises:
        ClientError: The events cannot be read.
        StillRunning: The job did not end in time.
    """
    async with _client(settings) as client:
        try:
            async with (
                asyncio.timeout(watch.within_s),
                client.follow(
                    chat_id=watch.chat_id, job_id=watch.job_id, from_start=watch.from_start
                ) as items,
            ):
                view = _view(None, as_json=watch.as_json, progress=lambda: items.progress)
                async with aclosing(told(items, view)) as shown:
                    return await _show(shown, view, watch.job_id)
        except TimeoutError as error:
            if watch.job_id is None or watch.within_s is None:
                return True
            raise StillRunning(watch.within_s) from error


async def cancel(settings: BrokerSettings, job_id: str | None, chat_id: str | None) -> None:
    """Cancel a job, or a chat's jobs.

    Raises:
        ClientError: The broker did not confirm the request.
        ValueError: The id is invalid.
    """
    async with _client(settings) as client:
        await client.cancel(job_id=job_id, chat_id=chat_id)
    say(f"asked to cancel {f'job {job_id}' if job_id else f'chat {chat_id}'}")


async def _show(items: Items, view: View, job_id: str | None) -> bool:
    """Show events up to the end of the job; return whether it completed."""
    with view if isinstance(view, LiveView) else nullcontext():
        async for item in items:
            view.show(item)
            if isinstance(item, EndEvent) and item.job_id == job_id:
                return item.data.status is EndStatus.COMPLETED
    return job_id is None


def _say_beside(sentence: str) -> None:
    """Write a sentence beside the events, for people."""
    say(sentence, err=True, needed=False)


def _client(settings: BrokerSettings) -> AbstractAsyncContextManager[Client]:
    return Client.open(settings.broker_urls, settings.prefix, _PATIENCE, settings.broker_tls)


def _view(
    titles: dict[str, str] | None,
    *,
    as_json: bool,
    progress: Callable[[], float] = lambda: 1.0,
) -> View:
    if as_json:
        return JsonView()
    console = terminal.console()
    if console.is_terminal:
        return LiveView(console, titles, progress)
    return PlainView(console, titles)
