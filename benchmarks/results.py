"""What a whole run gave, and the figures that are read from it."""

import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.cut import Cut
from benchmarks.machine import Machine
from benchmarks.publishing import Published
from benchmarks.turn import Figures
from benchmarks.workers import PRODUCT


class Results(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        turns: Of each worker and load one for each turn, in order.
        publishing: Of each way one for each turn, in order.
        cuts: The floods with cuts.
    """

    machine: Machine
    turns: Sequence[Figures]
    publishing: Sequence[Published]
    cuts: Sequence[Cut]

    def of(self, worker: str, load: str) -> list[Figures]:
        """Give the turns of a worker under a load; none if it was not measured."""
        return [it for it in self.turns if (it.worker, it.load) == (worker, load)]

    def each(self, figure: str, worker: str, load: str | None = None) -> list[float]:
        """Give a figure, turn by turn; `count.` goes before those of the consumer."""
        return [
            _read(it, figure)
            for it in self.turns
            if it.worker == worker and load in {it.load, None}
        ]

    def beside(self, figure: str, other: str, load: str) -> list[float]:
        """Give the product's figure as a part of another worker's, turn by turn.

        The two of a turn are compared: what the machine had to do besides was similar.
        """
        ours, theirs = self.each(figure, PRODUCT.name, load), self.each(figure, other, load)
        return [our / its for our, its in zip(ours, theirs, strict=False) if its]

    def published(self, way: str) -> list[float]:
        """Give the CPU of each message, turn by turn."""
        return [it.cpu_us for it in self.publishing if it.way == way]


def _read(figures: Figures, path: str) -> float:
    value: object = figures
    for name in path.split("."):
        value = getattr(value, name)
    assert isinstance(value, int | float)
    return float(value)


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Write the median, and the range where there are several; a dash where there is none."""
    if not values:
        return "-"
    median = number(statistics.median(values), digits)
    if len(values) == 1:
        return median
    return f"{median} ({number(min(values), digits)} to {number(max(values), digits)})"


def number(value: float, digits: int = 3) -> str:
    """Write so many digits that count, without exponent."""
    if not value:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    places = max(0, digits - whole) if whole else digits
    return f"{value:,.{places}f}"
