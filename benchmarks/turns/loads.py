"""The loads: the number of concurrent streams, and the rate of each."""

from dataclasses import dataclass
from typing import Final

FLOOD: Final = 0


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one turn.

    Attributes:
        streams: Concurrent jobs.
        rate: Tokens per second of each job; FLOOD is as fast as the worker reads.
        tokens: Tokens of each job.
        longer_by: Bytes added to each token.
    """

    streams: int
    rate: int
    tokens: int
    longer_by: int = 0

    @property
    def name(self) -> str:
        """Name in tables, without the number of tokens."""
        if self.tokens == 1:
            return f"{self.streams} of one token"
        how = f"at {self.rate}/s" if self.rate else "flooding"
        return f"{self.streams} {how}"

    @property
    def question(self) -> str:
        """Question with which the benchmarks' endpoint answers accordingly."""
        return f"n={self.tokens} rate={self.rate} size={self.longer_by}"

    @property
    def events_of_a_job(self) -> int:
        """Number of events of a job: the tokens, `start`, `metadata` and `end`."""
        return self.tokens + 3


ONE: Final = Load(1, 50, 200)
TEN: Final = Load(10, 50, 250)
HUNDRED: Final = Load(100, 30, 200)
MANY: Final = Load(500, 20, 200)
MOST: Final = Load(1000, 10, 200)
FLOODING: Final = Load(100, FLOOD, 500)
# For the cost of a job beside its events.
SHORT: Final = Load(500, 20, 1)

WHOLE: Final = (ONE, TEN, HUNDRED, MANY, MOST, FLOODING, SHORT)
QUICK: Final = (
    Load(10, 50, 50),
    Load(100, 30, 45),
    Load(500, 20, 40),
    Load(100, FLOOD, 100),
)
