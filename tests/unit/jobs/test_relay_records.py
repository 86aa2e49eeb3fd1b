"""What follows for a job of which the journal records an `end`, and whether that was published."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs import dead_lettered
from tests.support.fakes import CUT_AFTER_TOOL, WELL
from tests.unit.jobs.test_relay import Stage

AGAIN = MessageFacts(redelivered=True, deliveries_before=1)
COPY = MessageFacts(carried=JobState(deadline=datetime.now(UTC) + timedelta(hours=1)))
SHOWN = History(last_attempt=1, calls=1, is_open=True)


def recorded(stage: Stage, ago: timedelta, unended: History = SHOWN) -> None:
    """Have the journal record an `end` that was not published, written so long ago."""
    ended_at = datetime.now(UTC) - ago
    known = History(last_attempt=1, status=EndStatus.COMPLETED, ended_at=ended_at)
    stage.journal.remembers = {"job": known}
    stage.journal.unended = {"job": unended}
    stage.journal.reaches_back = True


async def test_each_milestone_is_recorded_before_it_is_published() -> None:
    stage = Stage(CUT_AFTER_TOOL)

    await stage.carry()

    said = [(record.name, json.loads(record.body)["data"]) for record in stage.publisher.records]
    assert said == [
        ("start", None),
        ("usedTools", True),
        ("error", {"kind": "repeat_unsafe"}),
        ("end", {"status": "failed"}),
    ]


async def test_job_whose_worker_was_lost_before_the_end_was_published_goes_on() -> None:
    stage = Stage(WELL)
    recorded(stage, timedelta(seconds=1))

    delivery = await stage.carry(facts=AGAIN)

    end = stage.publisher.end()
    assert (end.attempt, end.data.status, end.data.calls) == (2, EndStatus.COMPLETED, 2)
    assert delivery.history[-1] == "ack"


async def test_tool_that_ran_before_an_unpublished_end_does_not_run_again() -> None:
    stage = Stage(WELL)
    recorded(stage, timedelta(seconds=1), History(last_attempt=1, calls=1, side_effect=True))

    delivery = await stage.carry(facts=AGAIN)

    assert stage.predictions.calls == []
    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind is FailureKind.REPEAT_UNSAFE


async def test_job_counts_as_ended_where_the_endings_do_not_reach_back() -> None:
    stage = Stage(WELL)
    recorded(stage, timedelta(hours=1))
    stage.journal.reaches_back = False

    delivery = await stage.carry(facts=AGAIN)

    assert delivery.history == ["ack"]


async def test_copy_waits_while_the_end_may_be_about_to_be_published() -> None:
    stage = Stage(WELL)
    recorded(stage, timedelta(seconds=10))

    delivery = await stage.carry(facts=COPY)

    assert delivery.history == ["requeue"]


async def test_copy_is_acknowledged_a_minute_after_the_record() -> None:
    stage = Stage(WELL)
    recorded(stage, timedelta(seconds=61))

    delivery = await stage.carry(facts=COPY)

    assert delivery.history == ["ack"]
    assert stage.predictions.calls == []


@pytest.mark.parametrize("seconds", [10, 61])
async def test_dead_lettered_job_is_ended_once_its_worker_cannot_be_about_to(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_lettered, "_END_FOLLOWS_S", 0.0)
    stage = Stage()
    recorded(stage, timedelta(seconds=seconds))
    delivery = stage.delivery(facts=MessageFacts(dead_letter_reason="delivery_limit"))

    await stage.dead_lettered.end(delivery)

    is_over = delivery.history[-1] == "dead-letter"
    assert is_over or delivery.history == ["requeue unchanged"]
    assert is_over == (seconds > 60)
