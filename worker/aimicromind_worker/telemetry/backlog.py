"""Keep the numbers of messages that wait on the broker, as they were counted last."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Final

# Prometheus calls a series stale after the same time.
_GOOD_FOR_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class QueueTotals:
    """Messages that wait on the broker; None: not known.

    Attributes:
        backlog: Messages of the queue of jobs that no worker has.
        delayed: Messages of all delay queues.
        dead: Messages of the dead-letter queue of jobs.
    """

    backlog: int | None = None
    delayed: int | None = None
    dead: int | None = None


class Backlog:
    """The last count. One for the process; use it from the event loop.

    Attributes:
        wanted: Set once the numbers were read; whoever counts clears it.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self._totals = QueueTotals()
        self._counted_at = 0.0

    def keep(self, totals: QueueTotals) -> None:
        """Keep what was counted just now."""
        self._totals, self._counted_at = totals, monotonic()

    def forget(self) -> None:
        """Count as not known what was counted."""
        self._totals = QueueTotals()

    def read(self) -> QueueTotals:
        """Return the last count, and request another one; counts older than 5 min are not known."""
        self.wanted.set()
        return self._totals if monotonic() - self._counted_at < _GOOD_FOR_S else QueueTotals()
