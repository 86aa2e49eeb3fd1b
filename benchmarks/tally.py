"""Counts what comes: whether all of it, in order, once, and how late."""

from array import array
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """What came of all jobs.

    Attributes:
        events: Messages, repeats included.
        lost: Of the expected, how many never came.
        disordered: How many came after one that belongs behind them.
        repeated: How many came again.
        p50_ms: Median of the time from the endpoint's writing to the consumer's reading.
        p99_ms: What one of a hundred tokens exceeds.
        seconds: From the first to the last message.
    """

    events: int
    lost: int
    disordered: int
    repeated: int
    p50_ms: float
    p99_ms: float
    seconds: float

    @property
    def wrong(self) -> int:
        """How many events are not as they should be."""
        return self.lost + self.disordered + self.repeated


class Series:
    """Numbers that should come as 0, 1, 2 …

    Attributes:
        disordered: How many came after one that belongs behind them.
        repeated: How many came again.
    """

    __slots__ = ("_missing", "_next", "disordered", "repeated")

    def __init__(self) -> None:
        self.disordered = 0
        self.repeated = 0
        self._next = 0
        self._missing: set[int] = set()

    def take(self, number: int) -> None:
        """Note the next one."""
        if number == self._next:
            self._next += 1
        elif number > self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self.disordered += 1
        else:
            self.repeated += 1

    def lost(self, expected: int) -> int:
        """Say how many of so many did not come."""
        return len(self._missing) + expected - self._next


class Tally:
    """Takes in what one consumer gets.

    Each event has a number of its worker's (`seq`), and each token the endpoint's own. Both are
    checked: the first shows what went wrong behind the worker, the second within it.
    """

    def __init__(self) -> None:
        self.ended: set[bytes] = set()
        self._sequences: defaultdict[bytes, Series] = defaultdict(Series)
        self._tokens: defaultdict[bytes, Series] = defaultdict(Series)
        self._late_ns = array("q")
        self._events = 0
        self._first_ns = 0
        self._last_ns = 0

    def take(self, job: bytes, seq: int, now_ns: int) -> None:
        """Take in any event."""
        self._events += 1
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self._sequences[job].take(seq)

    def take_token(self, job: bytes, number: int, emitted_ns: int, now_ns: int) -> None:
        """Take in what a token says besides."""
        self._tokens[job].take(number)
        self._late_ns.append(now_ns - emitted_ns)

    def count(self, jobs: int, events: int) -> Count:
        """Sum up.

        Args:
            jobs: How many there should be.
            events: How many events each of them should have, three of which are no tokens.
        """
        lost = disordered = repeated = 0
        for series, expected in ((self._sequences, events), (self._tokens, events - 3)):
            seen = series.values()
            # An event that is wrong by both numbers is one event.
            lost = max(lost, sum(it.lost(expected) for it in seen) + (jobs - len(seen)) * expected)
            disordered = max(disordered, sum(it.disordered for it in seen))
            repeated = max(repeated, sum(it.repeated for it in seen))
        late = sorted(self._late_ns) or [0]
        return Count(
            self._events,
            lost,
            disordered,
            repeated,
            late[len(late) // 2] / 1e6,
            late[len(late) * 99 // 100] / 1e6,
            (self._last_ns - self._first_ns) / 1e9,
        )
