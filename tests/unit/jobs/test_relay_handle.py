"""The handle of a job, which says where its events begin in the event log."""

from datetime import timedelta

from typing_extensions import override

from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.job.message_facts import MessageFacts
from tests.support.fakes import WELL
from tests.unit.jobs.test_relay import Stage, facts_after

EARLY, LATE = "AQOHrUvAvqDYBjOFJVI", "AQOHrUvAvqDYBjOFJVX"
LATER = errors.RateLimited("later", retry_after=timedelta(seconds=60))


async def test_handle_is_in_start_and_end() -> None:
    stage = Stage(WELL)
    stage.publisher.handle = EARLY

    await stage.carry()

    assert [stage.publisher.data(name)[0]["handle"] for name in ("start", "end")] == [EARLY] * 2


async def test_unknown_handle_is_absent() -> None:
    stage = Stage(WELL)

    await stage.carry()

    assert all("handle" not in stage.publisher.data(name)[0] for name in ("start", "end"))


async def test_handle_that_is_found_after_the_first_event_is_not_taken() -> None:
    stage = Stage(WELL)
    delivery = stage.delivery()

    class Found(list[str]):
        @override
        def append(self, name: str) -> None:
            super().append(name)
            stage.publisher.handle = LATE

    stage.publisher.history = Found()
    await stage.relay.carry(delivery)

    assert "handle" not in stage.publisher.data("end")[0]


async def test_handle_travels_with_a_job_that_waits() -> None:
    stage = Stage(LATER, WELL)
    stage.publisher.handle = EARLY
    delivery = await stage.carry()
    stage.publisher.handle = LATE

    await stage.carry(facts=facts_after(delivery))

    assert stage.publisher.data("start")[0]["handle"] == EARLY
    assert stage.publisher.data("end")[0]["handle"] == EARLY


async def test_job_that_shows_nothing_tells_its_handle_in_the_end() -> None:
    stage = Stage(errors.ChatflowNotFound("flow"))
    stage.publisher.handle = EARLY

    await stage.carry(facts=MessageFacts())

    assert stage.publisher.data("end")[0]["handle"] == EARLY
