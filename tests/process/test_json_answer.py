"""Jobs that ask for the server's whole JSON: the same bytes, and never a second call by mistake."""

import json
import signal

import pytest

from aimicromind_testing import (
    Reset,
    Script,
    play,
    status_answer,
    whole_answer,
)
from tests.process.jobs import Job, a_job
from tests.process.recorded import recorded_request
from tests.process.stage import Stage

_USED = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]
_TEXT = "It's sent \u2028 now 😀"
_ANSWER = whole_answer(_TEXT, {"usedTools": _USED, "followUpPrompts": '["Why?"]'})


@pytest.fixture
def api_key() -> str:
    return "k3y"


async def test_answer_is_the_servers_own_json(stage: Stage) -> None:
    stage.endpoint.flow("flow", _ANSWER)
    stage.endpoint.flow("e-nostream", play("e-nostream", pace=0))
    await stage.ready_worker()
    recorded = recorded_request("e-nostream")
    jobs = (
        a_job(answer="json"),
        Job({**recorded, "chatflowId": "e-nostream", "jobId": "recorded", "answer": "json"}),
    )
    with stage.listen() as consumer:
        stage.submit(*jobs)
        every = await stage.ended(consumer, *jobs)

    calls = {call.flow: call for call in stage.endpoint.calls}
    for job, seen in zip(jobs, every, strict=True):
        call, end, told = calls[job.flow], seen.end, seen.only("metadata")
        assert end["answer"] == json.loads(bytes(call.said))
        assert end["answer"]["text"] == end["text"]
        assert not call.json["streaming"]
        assert (told["chatId"], told["endpointChatId"]) == (job.chat_id, call.chat_id)


@pytest.mark.parametrize(
    "script",
    [
        _ANSWER.cut(after_bytes=10),
        _ANSWER.cut(Reset(), after_bytes=0).saved(1),
    ],
    ids=["cut", "reset"],
)
async def test_answer_that_was_cut_is_recovered_without_a_second_call(
    stage: Stage, script: Script
) -> None:
    stage.endpoint.flow("flow", script)
    await stage.ready_worker()
    job = a_job(answer="json")
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job)

    (call,) = stage.endpoint.calls
    answer = seen.end["answer"]
    assert (seen.end["status"], seen.end["recovered"], seen.end["calls"]) == ("completed", True, 1)
    assert (answer["text"], answer["usedTools"]) == (_TEXT, _USED)
    assert answer["chatId"] == call.chat_id


@pytest.mark.parametrize(
    "script",
    [_ANSWER.cut(after_bytes=10).forgotten(), status_answer(504).forgotten()],
    ids=["cut", "gateway"],
)
async def test_call_that_may_have_acted_is_not_made_again(stage: Stage, script: Script) -> None:
    stage.endpoint.flow("flow", script, _ANSWER)
    await stage.ready_worker(RECOVERY_SECONDS=1)
    job = a_job(answer="json")
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job)

    assert seen.only("error")["kind"] == "repeat_unsafe"
    assert len(stage.endpoint.calls) == seen.end["calls"] == 1


async def test_answer_of_a_killed_workers_call_is_recovered(stage: Stage) -> None:
    stage.endpoint.flow("flow", _ANSWER.delayed(4))
    first = await stage.ready_worker()
    job = a_job(answer="json")
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.endpoint.called(1)
        first.signal(signal.SIGKILL)
        await first.exits()
        await stage.ready_worker()
        (seen,) = await stage.ended(consumer, job)

    assert (seen.end["recovered"], seen.end["answer"]["text"]) == (True, _TEXT)
    assert len(stage.endpoint.calls) == seen.end["calls"] == 1
