"""How long jobs waited, from their submission on."""

from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from tests.support.fakes import CUT_BEFORE, ERROR, UNSENT, WELL, Script
from tests.support.metrics import samples_of
from tests.unit.jobs.test_relay import Stage

ATTEMPT, OUTPUT = "submitted_to_first_attempt_seconds", "submitted_to_first_output_seconds"


def submitted(ago_s: float, **facts: object) -> MessageFacts:
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    given: dict[str, object] = {"submitted_at": at, "is_submission_exact": True} | facts
    return MessageFacts(**given)  # type: ignore[arg-type]


def measured(stage: Stage, name: str) -> tuple[float, float]:
    """Return number and sum of the times."""
    found = samples_of(stage.meter.text().decode())
    return found[f"{name}_count", ()], found[f"{name}_sum", ()]


async def test_job_is_measured_from_its_submission() -> None:
    stage = Stage(WELL)

    await stage.carry(facts=submitted(ago_s=60))

    for name in (ATTEMPT, OUTPUT):
        count, seconds = measured(stage, name)
        assert count == 1
        assert 60 <= seconds < 90


async def test_clock_of_a_producer_that_is_ahead_counts_as_no_wait() -> None:
    stage = Stage(WELL)

    await stage.carry(facts=submitted(ago_s=-60))

    assert (measured(stage, ATTEMPT), measured(stage, OUTPUT)) == ((1, 0), (1, 0))


@pytest.mark.parametrize(
    "facts",
    [
        MessageFacts(),
        submitted(60, is_submission_exact=False),
        submitted(60, redelivered=True),
        submitted(60, carried=JobState(attempt=1)),
    ],
    ids=["no time", "in whole seconds", "redelivered", "run before"],
)
async def test_job_that_may_have_run_or_has_no_exact_time_is_not_measured(
    facts: MessageFacts,
) -> None:
    stage = Stage(WELL)

    await stage.carry(facts=facts)

    assert (measured(stage, ATTEMPT), measured(stage, OUTPUT)) == ((0, 0), (0, 0))


async def test_job_that_waited_on_the_broker_and_was_never_run_is_measured() -> None:
    stage = Stage(WELL)

    await stage.carry(facts=submitted(60, carried=JobState(waits=3)))

    assert measured(stage, ATTEMPT)[0] == measured(stage, OUTPUT)[0] == 1


@pytest.mark.parametrize("first", [CUT_BEFORE, ERROR, UNSENT], ids=["cut", "error", "unsent"])
async def test_second_call_of_a_job_is_no_second_measurement(first: Script) -> None:
    stage = Stage(first, WELL)

    await stage.carry(facts=submitted(ago_s=60))

    assert measured(stage, ATTEMPT)[0] == measured(stage, OUTPUT)[0] == 1


async def test_job_without_output_has_a_first_attempt_alone() -> None:
    stage = Stage(ERROR, ERROR, ERROR)

    await stage.carry(facts=submitted(ago_s=60))

    assert (measured(stage, ATTEMPT)[0], measured(stage, OUTPUT)) == (1, (0, 0))
