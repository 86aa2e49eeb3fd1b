"""Sums over the reports of workers, and over the streams of a log."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from aimicromind_worker.ops.status.facts import (
    Reach,
    as_json,
    jobs_of,
    reach_of,
    silent_consumers,
    throughput_of,
)
from tests.unit.ops.statuses import DRAINING, NOW, STATUS, WELL


def test_jobs_in_workers_are_what_the_workers_tell() -> None:
    other = replace(WELL, worker="2", running=4, waiting=7, waiting_for_chat=7, oldest_seconds=3)

    jobs = jobs_of([WELL, other], 17, {2: 1}, 2)

    assert (jobs.running, jobs.waiting_for_chat, jobs.waiting_otherwise) == (7, 8, 1)
    assert (jobs.ready, jobs.all_delayed, jobs.dead_lettered_by_broker) == (17, 1, 2)
    assert jobs.oldest_held_seconds == 12.5


def test_without_workers_nothing_is_known_of_jobs_in_them() -> None:
    jobs = jobs_of([], 17, {}, 0)

    assert (jobs.running, jobs.oldest_held_seconds) == (0, None)


def test_throughput_is_the_difference_of_two_readings() -> None:
    later = replace(WELL, up_seconds=102.0, ended=14, events=1500)
    new = replace(WELL, worker="3", ended=500)

    done = throughput_of([WELL, DRAINING], [later, new])

    assert done is not None
    assert (done.over_seconds, done.jobs_per_second, done.events_per_second) == (2.0, 2.0, 250.0)


@pytest.mark.parametrize("later", [[], [replace(WELL, worker="new")], [WELL]])
def test_throughput_needs_a_worker_that_answered_twice(later: list[object]) -> None:
    assert throughput_of([WELL], later) is None  # type: ignore[arg-type]


def test_counter_that_fell_counts_as_nothing() -> None:
    forged = replace(WELL, up_seconds=102.0, ended=0, events=0)

    done = throughput_of([WELL], [forged])

    assert done is not None
    assert (done.jobs_per_second, done.events_per_second) == (0.0, 0.0)


def test_log_reaches_to_its_oldest_message_and_is_complete_since_the_last_removal() -> None:
    hour = timedelta(hours=1)

    whole = reach_of([(0, NOW - hour), (0, NOW - 2 * hour)])
    cut = reach_of([(7, NOW - hour), (0, NOW - 2 * hour), (9, NOW - 3 * hour)])

    assert whole == Reach(NOW - 2 * hour, None)
    assert cut == Reach(NOW - 3 * hour, NOW - hour)
    assert reach_of([]) == Reach(None, None)


def test_consumers_that_no_report_has_are_silent() -> None:
    draining = replace(DRAINING, consumers=0)

    assert silent_consumers([WELL, draining], 3) == 2
    assert silent_consumers([WELL, WELL], 1) == 0


def test_status_is_written_with_the_names_of_json() -> None:
    told = json.loads(json.dumps(as_json(STATUS)))

    assert told["workers"][0]["waitingForChat"] == 1
    assert told["jobs"]["delayed"] == {"2": 3, "10": 0, "60": 1}
    assert told["deadLetters"]["byKind"] == {"stream_cut": 15, "unauthorized": 8}
    assert told["eventLog"]["completeSince"] is None
    assert told["throughput"]["eventsPerSecond"] == 1204.2
