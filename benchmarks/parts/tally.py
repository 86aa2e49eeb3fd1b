"""Count events that are lost, repeated, out of order or late."""

from array import array
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of all jobs. Latency is from the endpoint's write to the consumer's read.

    Attributes:
        events: Messages received, repeats included.
        lost: Events that were expected, and never received.
        disordered: Events received after a later one.
        repeated: Events received again.
        p50_ms: Median of the latency.
        p99_ms: 99th percentile of the latency.
        seconds: Time from the first to the last message.
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
        """Number of wrong events."""
        return self.lost + self.disordered + self.repeated


class Series:
    """Numbers that are expected as 0, 1, 2 …

    Attributes:
        disordered: Numbers received after a higher one.
        repeated: Numbers received again.
    """

    __slots__ = ("_missing", "_next", "disordered", "repeated")

    def __init__(self) -> None:
        self.disordered = 0
        self.repeated = 0
        self._next = 0
        self._missing: set[int] = set()

    def take(self, number: int) -> None:
        """Count a number."""
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
        """Return how many of `expected` numbers were not received."""
        return len(self._missing) + expected - self._next


class EventTally:
    """Counts the events of one consumer.

    Each event has the worker's number (`seq`), and each token the endpoint's own. Both are checked:
    the first shows faults behind the worker, the second faults within it.
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
        """Count an event."""
        self._events += 1
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self._sequences[job].take(seq)

    def take_token(self, job: bytes, number: int, emitted_ns: int, now_ns: int) -> None:
        """Count a token by the endpoint's number, with its latency."""
        self._tokens[job].take(number)
        self._late_ns.append(now_ns - emitted_ns)

    def count(self, jobs: int, events: int) -> Count:
        """Return all counts.

        Args:
            jobs: Number of jobs expected.
            events: Number of events expected of each, three of which are no tokens.
        """
        lost = disordered = repeated = 0
        for series, expected in ((self._sequences, events), (self._tokens, events - 3)):
            seen = series.values()
            # An event may be wrong by both numbers, and counts once.
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
