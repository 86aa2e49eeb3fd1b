"""The performance goals of the worker, with their limits and how each is computed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.report.results import Results, shown
from benchmarks.turns.loads import FLOODING, HUNDRED, MANY, MOST, TEN
from benchmarks.turns.workers import CELERY_GEVENT, FASTSTREAM, NAIVE, PRODUCT, RAW


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        number: Goals with one number belong together.
        name: What is measured, with its unit.
        limit: Limit of the median of all turns.
        limit_text: The limit as text.
        measure: Returns the value of each turn; empty where the run did not measure it.
        is_least: Whether the median must reach the limit, instead of staying below.
    """

    number: int
    name: str
    limit: float
    limit_text: str
    measure: Callable[[Results], Sequence[float]]
    is_least: bool = False

    def verdict(self, results: Results) -> str:
        """Return `met`, `**not met**` or `not measured`."""
        values = self.measure(results)
        if not values:
            return "not measured"
        median = statistics.median(values)
        met = median >= self.limit if self.is_least else median <= self.limit
        return "met" if met else "**not met**"


def _beside(figure: str, other: str, load: str) -> Callable[[Results], Sequence[float]]:
    return lambda results: results.beside(figure, other, load)


def _own(figure: str, load: str | None = None) -> Callable[[Results], Sequence[float]]:
    return lambda results: results.each(figure, PRODUCT.name, load)


def _published(results: Results) -> Sequence[float]:
    ours, theirs = results.published("pipelined"), results.published("awaited")
    return [our / its for our, its in zip(ours, theirs, strict=True)]


def _of_most_streams(results: Results) -> Sequence[float]:
    most = results.each("cpu_us", PRODUCT.name, MOST.name)
    fewer = results.each("cpu_us", PRODUCT.name, HUNDRED.name)
    return [one / other for one, other in zip(most, fewer, strict=False)]


def _idle_beside_naive(results: Results) -> Sequence[float]:
    ours, its = results.each("idle_mb", PRODUCT.name), results.each("idle_mb", NAIVE.name)
    return [statistics.median(ours) / statistics.median(its)] if ours and its else []


def _ready_cpu(results: Results) -> Sequence[float]:
    return results.each("ready_cpu_s", PRODUCT.name)


def _wrong(results: Results) -> Sequence[float]:
    wrong = results.each("count.wrong", PRODUCT.name)
    return [sum(wrong)] if wrong else []


def _wrong_after_cuts(results: Results) -> Sequence[float]:
    return [sum(it.wrong for it in results.cuts)] if results.cuts else []


_CPU, _BROKER, _MEMORY = "cpu_us", "broker_cpu_us", "kb_per_stream"
_P50, _P99 = "count.p50_ms", "count.p99_ms"

GOALS: Final = (
    # number, name, limit, limit as text, measure
    Goal(1, "CPU of one message, publisher alone, to awaited", 1 / 15, "1/15", _published),
    Goal(2, "CPU of one event to naive", 1 / 4, "1/4", _beside(_CPU, NAIVE.name, MANY.name)),
    Goal(
        2, "CPU of one event to FastStream", 1 / 7, "1/7", _beside(_CPU, FASTSTREAM.name, MANY.name)
    ),
    Goal(
        2,
        "CPU of one event to Celery gevent",
        1 / 4,
        "1/4",
        _beside(_CPU, CELERY_GEVENT.name, MANY.name),
    ),
    Goal(3, "CPU of one event to the raw bound", 2.5, "2.5", _beside(_CPU, RAW.name, MANY.name)),
    Goal(
        4,
        "flood: events a second to naive",
        4,
        "at least 4",
        _beside("events_per_s", NAIVE.name, FLOODING.name),
        is_least=True,
    ),
    Goal(
        4,
        "flood: CPU of one event to naive",
        1 / 12,
        "1/12",
        _beside(_CPU, NAIVE.name, FLOODING.name),
    ),
    Goal(5, "CPU of one event with 1000 streams to that with 100", 1, "1", _of_most_streams),
    Goal(6, "memory of a stream among 1000, KB", 40, "40", _own(_MEMORY, MOST.name)),
    Goal(6, "idle memory to naive", 1.15, "1.15", _idle_beside_naive),
    Goal(6, "CPU from start to ready, s", 1.5, "1.5", _ready_cpu),
    Goal(7, "p50 of latency to naive, 10 streams", 1, "1", _beside(_P50, NAIVE.name, TEN.name)),
    Goal(7, "p99 of latency to naive, 10 streams", 1, "1", _beside(_P99, NAIVE.name, TEN.name)),
    Goal(
        7,
        "p99 of latency to naive, 500 streams",
        1 / 10,
        "1/10",
        _beside(_P99, NAIVE.name, MANY.name),
    ),
    Goal(
        8,
        "broker's CPU of one event to naive",
        1 / 2,
        "1/2",
        _beside(_BROKER, NAIVE.name, MANY.name),
    ),
    Goal(9, "events lost, repeated or out of order, all turns", 0, "0", _wrong),
    Goal(9, "events lost, altered or out of order after cuts", 0, "0", _wrong_after_cuts),
)


def goals_table(results: Results) -> list[str]:
    """Return the lines of a table of all goals."""
    rows = ["| | goal | limit | measured | |", "|---:|---|---:|---:|---|"]
    rows += [
        f"| {goal.number} | {goal.name} | {goal.limit_text} | {shown(goal.measure(results))} "
        f"| {goal.verdict(results)} |"
        for goal in GOALS
    ]
    return rows
