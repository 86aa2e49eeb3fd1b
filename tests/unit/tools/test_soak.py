"""Which workers a soak expects to be ready again after an outage."""

import pytest

from tests.support.checker import Outage
from tools.soak.__main__ import of_those_that_stayed

# Ready again at 20.
SILENCE = Outage("the broker's silence", began=5, cleared=10, back_within_s=10, workers=("a", "b"))


@pytest.mark.parametrize(
    ("stopped", "stayed"),
    [
        ({}, ["a", "b"]),
        ({"b": 12}, ["a"]),
        ({"b": 20}, ["a", "b"]),
        ({"c": 12}, ["a", "b"]),
    ],
)
def test_worker_that_was_stopped_before_it_had_to_be_ready_is_not_judged(
    stopped: dict[str, float], stayed: list[str]
) -> None:
    judged = of_those_that_stayed(SILENCE, stopped)

    assert judged is not None
    assert judged.workers == stayed


def test_outage_that_no_worker_outlived_is_not_judged() -> None:
    assert of_those_that_stayed(SILENCE, {"a": 11, "b": 12}) is None
