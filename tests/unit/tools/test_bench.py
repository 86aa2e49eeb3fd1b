"""The benchmark's own checks can fail."""

from collections.abc import Sequence

import pytest

from benchmarks.parts.tally import Count, EventTally
from benchmarks.report.goals import Goal
from benchmarks.report.machine import Machine
from benchmarks.report.results import Results, shown

_MACHINE = Machine("", "", 2, 1.0, "", 0.0, {})


def tallied(numbers: Sequence[int], seqs: Sequence[int] | None = None) -> Count:
    """Take in the tokens with these numbers, between a `start` and `metadata` and `end`."""
    tally = EventTally()
    tally.take(b"job", 0, 0)
    for place, number in enumerate(numbers):
        tally.take(b"job", seqs[place] if seqs else place + 1, 0)
        tally.take_token(b"job", number, 0, 2_000_000)
    tally.take(b"job", len(numbers) + 1, 0)
    tally.take(b"job", len(numbers) + 2, 0)
    return tally.count(jobs=1, events=4 + 3)


def test_what_came_in_order_is_not_wrong() -> None:
    count = tallied([0, 1, 2, 3])

    assert (count.events, count.wrong, count.p50_ms) == (7, 0, 2.0)


@pytest.mark.parametrize(
    ("numbers", "lost", "disordered", "repeated"),
    [([0, 2, 3], 1, 0, 0), ([0, 2, 1, 3], 0, 1, 0), ([0, 1, 1, 2, 3], 0, 0, 1), ([], 4, 0, 0)],
)
def test_wrong_tokens_are_counted(
    numbers: Sequence[int], lost: int, disordered: int, repeated: int
) -> None:
    count = tallied(numbers, seqs=range(1, len(numbers) + 1))

    assert count.lost == lost
    assert (count.disordered, count.repeated) == (disordered, repeated)


def test_events_that_the_worker_numbered_wrong_are_counted() -> None:
    swapped = tallied([0, 1, 2, 3], seqs=[1, 3, 2, 4])

    assert (swapped.lost, swapped.disordered, swapped.repeated) == (0, 1, 0)


def test_jobs_of_which_nothing_came_are_lost_whole() -> None:
    count = EventTally().count(jobs=2, events=7)

    assert (count.events, count.lost) == (0, 14)


@pytest.mark.parametrize(
    ("values", "is_least", "verdict"),
    [
        ([1.0, 2.0, 3.0], False, "met"),
        ([1.0, 2.1, 3.0], False, "**not met**"),
        ([1.0, 2.1, 3.0], True, "met"),
        ([1.0], True, "**not met**"),
        ([], False, "not measured"),
    ],
)
def test_the_median_meets_a_goal_or_not(
    *, values: Sequence[float], is_least: bool, verdict: str
) -> None:
    goal = Goal(1, "it", 2.0, "2", lambda _: values, is_least=is_least)

    assert goal.verdict(Results(_MACHINE, [], [], [])) == verdict


def test_figures_are_shown_with_their_range() -> None:
    assert shown([1234.5, 0.01234, 12.345]) == "12.3 (0.012 to 1,234)"
