"""The loads: how many streams at once, and how fast each of them speaks."""

from dataclasses import dataclass
from typing import Final

FLOOD: Final = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What one turn asks of a worker.

    Attributes:
        streams: Jobs at once.
        rate: Tokens per second of each; FLOOD is as fast as the worker reads.
        tokens: Tokens of each.
        longer_by: Bytes by which each token is longer than usual.
    """

    streams: int
    rate: int
    tokens: int
    longer_by: int = 0

    @property
    def name(self) -> str:
        """What tables call it, the number of tokens left out."""
        if self.tokens == 1:
            return f"{self.streams} of one token"
        how = f"at {self.rate}/s" if self.rate else "flooding"
        return f"{self.streams} {how}"

    @property
    def question(self) -> str:
        """What makes the benchmark's endpoint answer like this."""
        return f"n={self.tokens} rate={self.rate} size={self.longer_by}"

    @property
    def events_of_a_job(self) -> int:
        """The tokens, and `start`, `metadata` and `end`."""
        return self.tokens + 3


ONE: Final = Load(1, 50, 200)
TEN: Final = Load(10, 50, 250)
HUNDRED: Final = Load(100, 30, 200)
MANY: Final = Load(500, 20, 200)
MOST: Final = Load(1000, 10, 200)
FLOODING: Final = Load(100, FLOOD, 500)
# What jobs cost beside their events.
SHORT: Final = Load(500, 20, 1)

WHOLE: Final = (ONE, TEN, HUNDRED, MANY, MOST, FLOODING, SHORT)
QUICK: Final = (
    Load(10, 50, 50),
    Load(100, 30, 45),
    Load(500, 20, 40),
    Load(100, FLOOD, 100),
)
