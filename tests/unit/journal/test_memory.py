"""What a memory of the journal may answer of a job that it does not know."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas.journal.history import read_milestone
from aimicromind_schemas.journal.memory import JobMemory

SLACK, HOUR = timedelta(minutes=15), timedelta(hours=1)
NOW = datetime.now(UTC)


def memory(newest: datetime | None) -> JobMemory:
    """Return a memory that reaches back an hour, with one milestone."""
    made = JobMemory()
    if newest is not None:
        say(made, "other", "start", newest)
    made.note_complete(NOW - HOUR, SLACK)
    return made


def say(made: JobMemory, job: str, event: str, time: datetime) -> None:
    """Take in a milestone of a job."""
    data = {"status": "completed"} if event == "end" else None
    said = {"jobId": job, "attempt": 1, "event": event, "data": data, "time": time.isoformat()}
    milestone = read_milestone(json.dumps(said).encode())
    assert milestone is not None
    made.take(milestone)


def test_memory_answers_of_a_job_that_is_younger_than_what_was_read() -> None:
    made = memory(NOW)

    assert made.covers(NOW - HOUR)
    assert not made.covers(NOW - HOUR - SLACK)


@pytest.mark.parametrize(
    ("newest", "covered"),
    [(NOW, True), (NOW - SLACK / 2, True), (NOW - 2 * SLACK, False), (None, False)],
)
def test_job_without_a_time_is_looked_for_in_memory_where_the_pool_was_at_work(
    newest: datetime | None, *, covered: bool
) -> None:
    assert memory(newest).covers(NOW - 24 * HOUR, is_told=False) is covered


def test_clock_that_is_ahead_hides_no_time_in_which_nobody_was_there() -> None:
    assert not memory(NOW + HOUR).covers(NOW - 24 * HOUR, is_told=False)


def test_memory_that_was_cleared_answers_nothing() -> None:
    made = memory(NOW)
    made.clear()

    assert not made.covers(NOW, is_told=False)


@pytest.mark.parametrize("event", ["start", "end"])
@pytest.mark.parametrize("is_read_back", [True, False])
def test_memory_answers_for_no_job_that_it_may_have_forgotten(
    event: str, *, is_read_back: bool
) -> None:
    made = JobMemory(most_ended=2, most_open=2)
    if not is_read_back:
        made.note_complete(NOW - HOUR, SLACK)
    for number in range(4):
        say(made, str(number), event, NOW - timedelta(minutes=40 - 10 * number))
    if is_read_back:
        made.note_complete(NOW - HOUR, SLACK)

    forgotten = [str(number) for number in range(4) if made.history(str(number)) is None]
    assert forgotten == ["0", "1"]
    assert made.covers(NOW - timedelta(minutes=30))
    assert not made.covers(NOW - timedelta(minutes=31))
