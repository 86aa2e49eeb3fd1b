"""What a program may choose of its consumer, and what it may read of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

Handler = Callable[[Any], Awaitable[None]]
"""Handles one event; if it raises, the event is retried."""

RETRY_AFTER: Final = (
    timedelta(seconds=1),
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
)
_NONE: Final = timedelta()


class Unprocessable(Exception):
    """Raised by a handler for an event that no retry helps: it becomes a dead letter at once."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Options of `Client.consume`.

    Raises:
        ValueError: A number or a time is out of its range.
    """

    at_once: int = 10
    """Most handlers that run at the same time, each with an event of another chat."""

    retry_after: Sequence[timedelta] = RETRY_AFTER
    """Delay before each retry. After the last one, the event becomes a dead letter."""

    time_limit: timedelta = timedelta(minutes=5)
    """How long a handler may take for one event. Then it is cancelled, and has failed."""

    drain: timedelta = timedelta(seconds=20)
    """How long handlers may go on after SIGTERM or a cancel."""

    in_order: bool = True
    """Whether one replica handles all events, and the others stand by. If not, replicas share."""

    max_bytes: int = 1_000_000_000
    """Size of the queue. Beyond it, the broker moves the oldest events to the dead letters."""

    def __post_init__(self) -> None:
        if self.at_once < 1 or self.max_bytes < 1:
            raise ValueError("at_once and max_bytes must be 1 or more")
        if self.time_limit <= _NONE or self.drain < _NONE:
            raise ValueError("time_limit must be more than 0, and drain 0 or more")
        if not all(isinstance(delay, timedelta) for delay in self.retry_after):
            raise ValueError("retry_after must have timedeltas, such as timedelta(seconds=5)")
        if any(delay < timedelta(milliseconds=1) for delay in self.retry_after):
            raise ValueError("each delay of retry_after must be 1 ms or more")


@dataclass(slots=True)
class ConsumerCounts:
    """Counts of one consumer since its start; read them at any time.

    An event that fails twice and is handled then counts once in `handled`, twice in `retried`.
    """

    handled: int = 0
    """Events whose handler returned."""

    retried: int = 0
    """Failures after which the event went to a delay queue."""

    dead: int = 0
    """Events that went to the dead-letter queue."""

    repeats: int = 0
    """Repeats of handled events, which were acknowledged."""

    running: int = 0
    """Handlers that run now."""

    seconds: float = 0.0
    """Time in handlers, also in those that failed."""
