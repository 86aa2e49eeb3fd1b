"""Show, replay and delete dead letters, for the `dead` commands."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from aimicromind_schemas import Names
from aimicromind_worker.amqp.dead_letters import QueuedDeadLetter, dead_letters
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.app.build import broker_connection
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.core.job.dead_letter import Choice, DeadLetter, NotReplayable
from aimicromind_worker.ops.terminal import console, safe_line, say, say_body, say_json

_CONNECTION = "aimicromind-worker dead"


class NoSuchJob(NotAchieved):
    """No dead letter has the id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no dead letter has the id {job_id}: see `aimicromind-worker dead list`")


async def list_all(settings: BrokerSettings, choice: Choice, *, as_json: bool) -> None:
    """Print the chosen dead letters, the oldest first, and their number by kind."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    # Time, id and kind are used in other commands, thus never cut. Ids of chats and flows may fold.
    for heading in ("failed at (UTC)", "job", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in ("chat", "flow"):
        table.add_column(heading, overflow="fold")
    kinds: Counter[str] = Counter()
    async with _chosen(settings, choice) as jobs:
        async for letter in jobs:
            dead = letter.dead
            kinds[dead.kind] += 1
            if as_json:
                say_json(dead)
            else:
                table.add_row(*(Text(safe_line(cell)) for cell in _row(dead)))
    if not as_json:
        console().print(table if kinds else "no dead letters")
        say(_counts(kinds), err=True)


async def show(settings: BrokerSettings, job_id: str, *, body: bool) -> None:
    """Print one dead letter as JSON; its body only on request, because prompts may be secret.

    Raises:
        NoSuchJob: There is no such dead letter.
    """
    async with _chosen(settings, Choice(job_id=job_id)) as jobs:
        async for letter in jobs:
            say_json(letter.dead)
            if body:
                say_body(letter.body)
            return
    raise NoSuchJob(job_id)


async def replay(settings: BrokerSettings, choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    """Replay the chosen dead letters in the order in which they failed.

    Each is confirmed before the next, thus a chat keeps its order.

    Raises:
        NotReplayed: The broker nacked one; this one and the following ones stay dead letters.
    """
    done = left = 0
    async with _chosen(settings, choice) as jobs:
        async for letter in jobs:
            said: dict[str, object] = {"jobId": letter.dead.job_id, "chatId": letter.dead.chat_id}
            if dry_run:
                said["wouldReplay"] = True
                done += 1
            else:
                try:
                    said["replayedAs"] = await letter.replay()
                    done += 1
                except NotReplayable as error:
                    said["left"] = str(error)
                    left += 1
            _say(said, as_json=as_json)
    verb = "would be replayed" if dry_run else "replayed"
    say(f"{done} {verb}" + (f", {left} left" if left else ""), err=True, needed=False)


async def purge(settings: BrokerSettings, choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    """Delete the chosen dead letters."""
    done = 0
    async with _chosen(settings, choice) as jobs:
        async for letter in jobs:
            done += 1
            if not dry_run:
                await letter.take_out()
            said = {"jobId": letter.dead.job_id, "wouldPurge" if dry_run else "purged": True}
            _say(said, as_json=as_json)
    say(f"{done} {'would be purged' if dry_run else 'purged'}", err=True, needed=False)


@asynccontextmanager
async def _chosen(
    settings: BrokerSettings, choice: Choice
) -> AsyncIterator[AsyncIterator[QueuedDeadLetter]]:
    names = Names(settings.prefix)
    async with (
        broker_connection(settings, _CONNECTION) as connection,
        aclosing(dead_letters(connection, names)) as jobs,
    ):
        now = datetime.now(UTC)
        yield (letter async for letter in jobs if choice.fits(letter.dead, now))


def _row(dead: DeadLetter) -> tuple[str, ...]:
    failed_at = f"{dead.failed_at.astimezone(UTC):%Y-%m-%d %H:%M}" if dead.failed_at else "?"
    return failed_at, dead.job_id, dead.kind, dead.chat_id, dead.chatflow_id


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common()) or "0"


def _say(said: dict[str, object], *, as_json: bool) -> None:
    # The command continues when nobody reads its output any more.
    if as_json:
        say_json(said, needed=False)
    else:
        say(" ".join(f"{name}={value}" for name, value in said.items()), needed=False)
