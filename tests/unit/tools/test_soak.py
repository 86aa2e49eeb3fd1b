"""Which jobs and workers a soak judges, and by when."""

import json
from pathlib import Path

import pytest

from tests.support.checker import Outage, Span
from tools.soak.outages import judged
from tools.soak.windows import windows_of

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
    (outage,) = judged([SILENCE], [], stopped)

    assert outage.workers == stayed


def test_outage_that_no_worker_outlived_is_not_judged() -> None:
    assert judged([SILENCE], [], {"a": 11, "b": 12}) == []


@pytest.mark.parametrize(
    ("down", "until"),
    [
        (Span(0, 4), 20),
        (Span(12, 17), 27),
        (Span(20, 30), 40),
        (Span(21, 30), 20),
        (Span(12, 12), 20),
    ],
)
def test_time_to_be_ready_counts_from_the_end_of_the_last_outage(down: Span, until: float) -> None:
    death = Outage("the broker's death", down.since, down.until, 3, 10, workers=("a",))
    for outages, endpoint_down in (([SILENCE], [down]), ([SILENCE, death], [])):
        first = judged(outages, endpoint_down, {})[0]

        assert first.cleared + first.back_within_s == until


def _log(folder: Path, worker: int, *facts: tuple[int, str]) -> None:
    lines = [
        json.dumps(
            {"timestamp": f"2026-01-01T00:00:{at:02}Z", "event": event, "job_id": "job"}
            | ({"attempts_before": 0} if event == "job.started" else {})
        )
        for at, event in facts
    ]
    (folder / f"{worker}.log").write_text("\n".join(lines))


STARTED, ENDED, LOST = "job.started", "job.ended", "broker.lost"


@pytest.mark.parametrize(
    ("first", "second", "excused"),
    [
        ([(1, STARTED), (2, LOST), (9, "worker.stopped")], [(3, STARTED), (4, ENDED)], {"job"}),
        ([(1, STARTED)], [(3, STARTED), (4, ENDED)], {"job"}),
        ([(1, STARTED), (2, LOST), (3, STARTED), (9, ENDED)], [], {"job"}),
        ([(1, STARTED), (9, "worker.stopped")], [(3, STARTED), (4, ENDED)], set()),
        ([(1, STARTED), (2, ENDED), (3, LOST)], [(4, STARTED)], set()),
    ],
)
def test_copy_that_ran_once_more_is_excused_only_if_the_first_worker_was_lost(
    tmp_path: Path, first: list[tuple[int, str]], second: list[tuple[int, str]], excused: set[str]
) -> None:
    _log(tmp_path, 1, *first)
    _log(tmp_path, 2, *second)

    assert windows_of(tmp_path).unknown == excused
