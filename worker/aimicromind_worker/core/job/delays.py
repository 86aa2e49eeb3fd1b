"""The retry delays: how long a job can wait on the broker, holding no slot."""

from datetime import timedelta
from typing import Final

RETRY_DELAYS: Final = tuple(timedelta(seconds=each) for each in (2, 10, 30, 60, 120, 300, 600))
"""Each is a queue of its own; 3.10 takes the delay from the queue, in order, not the message."""


def delay_for(wait: timedelta) -> timedelta:
    """Return the shortest delay that is no shorter than the wait, else the longest there is."""
    return next((rung for rung in RETRY_DELAYS if rung >= wait), RETRY_DELAYS[-1])


def delay_within(wait: timedelta) -> timedelta:
    """Return the longest delay that is no longer than the wait, else the shortest there is."""
    return max((rung for rung in RETRY_DELAYS if rung <= wait), default=RETRY_DELAYS[0])
