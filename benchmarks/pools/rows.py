"""Show what was measured: a row for each figure, a column for each version."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.report.results import shown


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of one turn.

    Attributes:
        what: What it is, with its unit.
        value: The figure; None if it was not reached in time, or cannot be measured.
        goal: The goal, if there is one.
    """

    what: str
    value: float | None
    goal: str = ""


class Table:
    """Collects rows of several turns."""

    def __init__(self) -> None:
        self._goals: dict[str, str] = {}
        self._values: defaultdict[tuple[str, str], list[float | None]] = defaultdict(list)

    def add(self, column: str, rows: Iterable[Row]) -> None:
        """Add the rows of one version and turn."""
        for row in rows:
            self._goals.setdefault(row.what, row.goal)
            self._values[row.what, column].append(row.value)

    def markdown(self) -> str:
        """Return all rows: counts of each turn, else the median of the turns and their range."""
        lines = ["| what | before | now | goal |", "|---|---:|---:|---|"]
        for what, goal in self._goals.items():
            before, now = (self._shown(what, column) for column in ("before", "now"))
            lines.append(f"| {what} | {before} | {now} | {goal} |")
        return "\n".join(lines)

    def _shown(self, what: str, column: str) -> str:
        values = [it for it in self._values[what, column] if it is not None]
        if values and all(isinstance(it, int) for it in values):
            return ", ".join(f"{it:,}" for it in values)
        return shown(values)


def spread(what: str, seconds: Sequence[float], goal: str = "") -> list[Row]:
    """Return rows for the median and the maximum of times, in ms."""
    middle, most = (statistics.median(seconds), max(seconds)) if seconds else (None, None)
    return [Row(f"{what}: median, ms", _ms(middle), goal), Row(f"{what}: worst, ms", _ms(most))]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which this share of the values lies; None without values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
