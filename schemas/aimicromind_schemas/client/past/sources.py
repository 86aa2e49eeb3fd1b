"""What was published before a follower began, or while it missed something: its sources.

A follower joins the live queue first, and asks a source then. Thus each event is known to the
source, comes live, or both. `reading.py` drops what comes twice.

To add a source, implement `Past`. `first_answer` asks the sources in order.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.live.buffer import Buffer
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Position


@dataclass(frozen=True, slots=True)
class Missed:
    """What a follower asks for.

    Attributes:
        wanted: Which events.
        since: Where to begin, by any clock; None for the first event that is left.
        handle: Where the job's events begin in the event log; None where nobody knows.
        after: The event of the job behind which to begin; None for its first one.
        live: What comes live meanwhile. A source may take deliveries out of it: those that belong
            to its answer, and those before them.
        knows: Returns whether an event, or a later one of its job, was shown before.
    """

    wanted: Wanted
    since: datetime | None
    handle: str | None
    after: Position | None
    live: Buffer
    knows: Callable[[Event], bool]


class Replay(Protocol):
    """The answer of a source.

    Attributes:
        is_whole: Once the events are over: False if the follower was too slow for some of them.
    """

    is_whole: bool

    @property
    def progress(self) -> float:
        """How much of the answer's source is read, from 0 to 1."""

    def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events in order, up to where the live events go on.

        Raises:
            BrokerGone: The connection closed.
        """

    def close(self) -> None:
        """Stop, also if the events were never asked for."""


class Past(Protocol):
    """A source of events that were published before."""

    async def ask(self, missed: Missed) -> Replay:
        """Begin an answer; `close` it.

        Raises:
            NoSuchQueue: This source does not exist here, or cannot answer: ask the next one.
            BrokerGone: The connection closed.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """


async def first_answer(sources: Sequence[Past], missed: Missed) -> Replay | None:
    """Return the answer of the first source that has one; None where none has.

    Raises:
        BrokerGone, BrokerUnreachable, BrokerRefused: See `Past.ask`.
    """
    for source in sources:
        try:
            return await source.ask(missed)
        except NoSuchQueue:
            continue
    return None
