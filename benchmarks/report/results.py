"""Keep the results of a run, and read figures from them."""

import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.report.machine import Machine
from benchmarks.turns.cut import CutFlood
from benchmarks.turns.publishing import Published
from benchmarks.turns.turn import Figures
from benchmarks.turns.workers import PRODUCT


class Results(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        machine: Where it was made.
        turns: Figures of each worker and load, one for each turn, in order.
        publishing: Figures of each way of publishing, one for each turn, in order.
        cuts: Figures of the floods with resets.
    """

    machine: Machine
    turns: Sequence[Figures]
    publishing: Sequence[Published]
    cuts: Sequence[CutFlood]

    def of(self, worker: str, load: str) -> list[Figures]:
        """Return the turns of a worker under a load; empty if it was not measured."""
        return [it for it in self.turns if (it.worker, it.load) == (worker, load)]

    def each(self, figure: str, worker: str, load: str | None = None) -> list[float]:
        """Return a figure of each turn, by its name; one of the consumer begins with `count.`."""
        return [
            _read(it, figure)
            for it in self.turns
            if it.worker == worker and load in {it.load, None}
        ]

    def beside(self, figure: str, other: str, load: str) -> list[float]:
        """Return the ratio of the worker's figure to another worker's, for each turn.

        Both of one turn ran on a similarly busy machine.
        """
        ours, theirs = self.each(figure, PRODUCT.name, load), self.each(figure, other, load)
        return [our / its for our, its in zip(ours, theirs, strict=False) if its]

    def published(self, way: str) -> list[float]:
        """Return the CPU time of a message in µs, for each turn."""
        return [it.cpu_us for it in self.publishing if it.way == way]


def _read(figures: Figures, path: str) -> float:
    value: object = figures
    for name in path.split("."):
        value = getattr(value, name)
    assert isinstance(value, int | float)
    return float(value)


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Return the median, and the range of several values; a dash without values."""
    if not values:
        return "-"
    median = number(statistics.median(values), digits)
    if len(values) == 1:
        return median
    return f"{median} ({number(min(values), digits)} to {number(max(values), digits)})"


def number(value: float, digits: int = 3) -> str:
    """Return a number with this many significant digits, without exponent."""
    if not value:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    places = max(0, digits - whole) if whole else digits
    return f"{value:,.{places}f}"
