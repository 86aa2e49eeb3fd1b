"""Jobs whose headers fill a frame: what the worker adds does not fit, and they end all the same."""

import json

import pytest

from aimicromind_testing import answer, too_many_requests
from tests.process.jobs import Job, a_job
from tests.process.neighbours import long_neighbours
from tests.process.stage import Stage
from tests.support.consumer import Message, publish, taken

# A frame may have 131,072; the rest of the header's frame is left for what a producer sets.
_FULL = {"filler": "x" * 130_900, "mine": "kept"}
_LEFT_OUT = "x-aimicromind-headers-left-out"


def _filled(flow: str, **fields: object) -> Job:
    return a_job(flow, {"headers": _FULL}, **fields)


def _put_in_queue(stage: Stage, queue: str, body: bytes) -> None:
    publish(stage.broker.url, "", queue, (body, {"delivery_mode": 2, "headers": _FULL}))


def _ends(messages: list[Message]) -> dict[str, str]:
    """Name how each chat's job ended."""
    ends = [message for message in messages if message.name == "end"]
    return {message.event["chatId"]: message.data["status"] for message in ends}


@pytest.mark.timeout(120)
async def test_jobs_whose_headers_fill_a_frame_end_and_cost_no_neighbour(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    stage.endpoint.flow("busy", too_many_requests("6"), answer(2))
    await stage.ready_workers(2, CONCURRENCY=8)
    parked, delayed, nameless = _filled("unknown"), _filled("busy"), a_job(jobId=None)
    rejected, reaped = a_job(maxCalls="many"), a_job()
    every = (parked, delayed, nameless, rejected, reaped)
    with stage.listen() as consumer:
        async with long_neighbours(stage, consumer):
            stage.submit(parked, delayed)
            for job in (nameless, rejected):
                _put_in_queue(stage, stage.names.jobs, json.dumps(job.fields).encode())
            _put_in_queue(stage, stage.names.jobs_reaped, json.dumps(reaped.fields).encode())

            await consumer.until(
                lambda: _ends(consumer.messages).keys() >= {job.chat_id for job in every}, 25
            )
        await stage.stop_workers()

    ends = _ends(consumer.messages)
    statuses = ["failed", "completed", "completed", "rejected", "failed"]
    assert [ends[job.chat_id] for job in every] == statuses
    dead = taken(stage.broker.url, stage.names.jobs_dead)
    assert {json.loads(body)["chatId"]: headers["mine"] for body, headers in dead} == {
        job.chat_id: "kept" for job in (parked, rejected, reaped)
    }
    assert [headers[_LEFT_OUT] for _, headers in dead] == [1, 1, 1]
    assert stage.jobs_left() == 0
