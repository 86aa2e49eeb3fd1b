"""Show, replay and delete dead letters, for the `dead` commands."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aimicromind_worker.amqp.inspection.dead_letters import dead_letters
from aimicromind_worker.amqp.inspection.queued_dead_letter import QueuedDeadLetter
from aimicromind_worker.app.broker import broker_connection
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.core.dead_letters.dead_letter import Choice, NotReplayable
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.ops.dead.choice import named_whole, queue_of
from aimicromind_worker.ops.dead.lines import Lines, Tally, as_json, total_line
from aimicromind_worker.ops.progress import progress
from aimicromind_worker.ops.terminal import columns, confirmed, say, say_body, say_json

_CONNECTION = "aimicromind-worker dead"
# RabbitMQ 4 drops a message of a quorum queue after 20 deliveries, unless the queue says otherwise.
_MANY_DELIVERIES = 10


class NotConfirmed(NotAchieved):
    """The operator was asked, and did not say yes."""

    def __init__(self) -> None:
        super().__init__("nothing was done, because the answer was not yes; --yes answers it")


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for.

    Attributes:
        choice: Which dead letters, with ids that may be short.
        queue: A consumer's dead-letter queue; None: that of the jobs.
        to: The queue to which events are replayed; None: the one that each came from.
        as_json: Whether to write JSON lines.
        dry_run: Whether to do nothing, and show what would be done.
        is_sure: Whether not to ask.
    """

    choice: Choice
    queue: str | None = None
    to: str | None = None
    as_json: bool = False
    dry_run: bool = False
    is_sure: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """The dead letters that an order chooses.

    Attributes:
        chosen: The dead letters, the oldest first.
        lines: Writes them for people.
        total: The number of all dead letters of the queue, by kind.
    """

    chosen: Sequence[QueuedDeadLetter]
    lines: Lines
    total: str

    @property
    def chosen_total(self) -> str:
        return total_line([it.dead for it in self.chosen])


async def list_all(settings: BrokerSettings, order: Order) -> None:
    """Print the chosen dead letters, the oldest first, and their number by kind.

    Raises:
        NoSuchDeadLetter, AmbiguousId: The id fits none, or several.
    """
    async with _found(settings, order) as found:
        _list(found, order)
        if not order.as_json:
            _say_total(found)


async def show(settings: BrokerSettings, order: Order, *, body: bool) -> None:
    """Print a dead letter as JSON; its body only on request, because prompts may be secret.

    Raises:
        NoSuchDeadLetter, AmbiguousId: The id fits none, or several.
    """
    async with _found(settings, order) as found:
        for letter in found.chosen:
            say_json(letter.dead)
            if body:
                say_body(letter.body)


async def replay(settings: BrokerSettings, order: Order) -> None:
    """Replay the chosen dead letters in the order in which they failed.

    Each is confirmed before the next, thus a chat keeps its order.

    Raises:
        NoSuchDeadLetter, AmbiguousId: The id fits none, or several.
        NotConfirmed: The operator did not say yes.
        NotReplayed: The broker nacked one; this one and the following ones stay dead letters.
    """
    async with _found(settings, order) as found:
        if order.dry_run:
            _list(found, order, {"wouldReplay": True})
            _say_dry(found, "would be replayed")
            return
        # A program that runs this command is sure. A person may have chosen too many.
        if sys.stdin.isatty():
            await _ask(found, order, "Replay {} to {}?")
        await _each(found, order, "replayed", lambda letter: letter.replay())


async def purge(settings: BrokerSettings, order: Order) -> None:
    """Delete the chosen dead letters.

    Raises:
        NoSuchDeadLetter, AmbiguousId: The id fits none, or several.
        NotConfirmed: The operator did not say yes.
    """
    async with _found(settings, order) as found:
        if order.dry_run:
            _list(found, order, {"wouldPurge": True})
            _say_dry(found, "would be purged")
            return
        await _ask(found, order, "Delete {} for good?")
        await _each(found, order, "purged", _take_out)


async def _take_out(letter: QueuedDeadLetter) -> Mapping[str, object]:
    await letter.take_out()
    return {"purged": True}


@asynccontextmanager
async def _found(settings: BrokerSettings, order: Order) -> AsyncIterator[_Found]:
    """Read the queue; until the body ends, nobody else sees its messages."""
    queue = queue_of(settings, order.queue, order.to)
    async with (
        broker_connection(settings, _CONNECTION) as connection,
        dead_letters(connection, queue) as reading,
    ):
        letters: list[QueuedDeadLetter] = []
        with progress("reading", reading.count) as bar:
            async for letter in reading:
                letters.append(letter)
                bar.advance()
        most = max((it.deliveries for it in letters), default=0)
        if queue.of_consumer and most >= _MANY_DELIVERIES:
            say(_many_deliveries(queue.name, most), err=True, needed=False)
        dead, now = [it.dead for it in letters], datetime.now(UTC)
        choice = named_whole(order.choice, dead)
        chosen = [it for it in letters if choice.fits(it.dead, now)]
        yield _Found(chosen, Lines(dead, columns()), total_line(dead))


def _many_deliveries(queue: str, most: int) -> str:
    return (
        f"warning: messages of {queue} were delivered up to {most} times, and each `dead` command "
        "counts as one more: the broker drops them at the queue's x-delivery-limit"
    )


def _list(found: _Found, order: Order, more: Mapping[str, object] | None = None) -> None:
    if order.as_json:
        for letter in found.chosen:
            say_json(as_json(letter.dead, more) if more else letter.dead)
        return
    for line in found.lines.of([it.dead for it in found.chosen]):
        say(line)


def _say_total(found: _Found) -> None:
    if found.chosen:
        say(found.chosen_total, err=True)
    elif found.total == total_line([]):
        say("no dead letters")
    else:
        say(f"none is chosen of {found.total}")


def _say_dry(found: _Found, what: str) -> None:
    say(f"{found.chosen_total} {what}", err=True, needed=False)


async def _ask(found: _Found, order: Order, question: str) -> None:
    if found.chosen and not order.is_sure:
        targets = ", ".join(sorted({it.goes_to for it in found.chosen} - {""}))
        if not await confirmed(question.format(found.chosen_total, targets)):
            raise NotConfirmed


async def _each(
    found: _Found,
    order: Order,
    verb: str,
    act: Callable[[QueuedDeadLetter], Awaitable[Mapping[str, object]]],
) -> None:
    """Do something with each chosen dead letter, and print what became of all."""
    tally = Tally(len(found.chosen))
    try:
        with progress(verb, len(found.chosen), beside_lines=order.as_json) as bar:
            for letter in found.chosen:
                said: Mapping[str, object]
                try:
                    said = await act(letter)
                    tally.done.append((letter.dead, said))
                except NotReplayable as error:
                    said = {"left": str(error)}
                    tally.left.append((letter.dead, str(error)))
                if order.as_json:
                    # The command continues when nobody reads its output any more.
                    say_json(as_json(letter.dead, said), needed=False)
                bar.advance()
    finally:
        for line in found.lines.summary(tally, verb):
            say(line, err=order.as_json, needed=False)
