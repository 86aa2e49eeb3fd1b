import asyncio
import json
from datetime import timedelta

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_testing import frame
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.exchange import WholeAnswer
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.runs.outcome import Completed, Failed
from tests.support.builders import END, METADATA, USED_TOOLS, tokens
from tests.support.fakes import (
    CUT,
    CUT_AFTER,
    CUT_BEFORE,
    ERROR,
    UNSENT,
    WELL,
    Run,
    Script,
)


async def test_answer_is_published_within_one_attempt() -> None:
    run = Run(WELL)

    assert await run.outcome() == Completed()

    assert run.publisher.shown() == [(1, 0, "start"), (1, 1, "token"), (1, 2, "metadata")]
    assert (run.calls, run.text()) == (1, "Once")


async def test_json_answer_completes_too() -> None:
    run = Run(WholeAnswer(b'{"text":"Once","question":"Why?"}'), streams=False)

    assert await run.outcome() == Completed()

    assert run.text() == "Once"
    assert run.predictions.calls[0].streams is False


@pytest.mark.parametrize("streams", [True, None])
async def test_flow_is_taken_to_stream_unless_the_endpoint_denies_it(streams: bool | None) -> None:  # noqa: FBT001 - given by pytest
    run = Run(WELL, streams=streams)

    await run.outcome()

    assert run.predictions.calls[0].streams is True


async def test_call_carries_the_job_its_session_and_its_trace() -> None:
    run = Run(WELL, facts=MessageFacts(trace={"traceparent": "00-x"}))

    await run.outcome()

    (call,) = run.predictions.calls
    body = json.loads(b"".join(call.body))
    assert (call.chatflow_id, call.trace) == ("flow", {"traceparent": "00-x"})
    assert body["chatId"] == call.endpoint_chat_id != "chat"
    assert body["overrideConfig"] == {"sessionId": "chat"}


@pytest.mark.parametrize(
    "first", [CUT_BEFORE, CUT, UNSENT, [END], ERROR, [frame("calledTools", []), CUT]]
)
async def test_failure_before_output_is_tried_again_within_the_attempt(first: Script) -> None:
    run = Run(first, WELL)

    assert await run.outcome() == Completed()

    assert {attempt for attempt, _, _ in run.publisher.shown()} == {1}
    assert [name for _, _, name in run.publisher.shown()].count("start") == 1
    assert [seq for _, seq, _ in run.publisher.shown()] == list(range(len(run.publisher.shown())))
    seen = len(run.predictions.seen)
    assert (run.calls, run.job.progress.calls) == (2, seen)


async def test_success_of_a_call_that_was_cut_is_not_that_of_the_next() -> None:
    run = Run([METADATA, CUT], [END], maxCalls=2)

    assert await run.failure() == FailureKind.NO_ANSWER

    assert run.calls == 2


async def test_every_call_has_an_endpoint_chat_of_its_own() -> None:
    run = Run(CUT_BEFORE, CUT_AFTER, CUT_BEFORE, WELL, limits={"max_calls": 4})

    assert await run.outcome() == Completed()

    assert len({call.endpoint_chat_id for call in run.predictions.calls}) == 4


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (CUT, "stream_cut"),
        (b"", "stream_cut"),
        (tokens("half")[:-5], "stream_cut"),
        (END, "no_answer"),
        (frame("metadata", {"question": "Who?"}), "stream_mixed"),
        (frame("error", "terminated"), "endpoint_unavailable"),
        (errors.StreamStalled(timedelta(1)), "stream_stalled"),
    ],
)
async def test_failure_after_output_is_announced_and_a_new_attempt(
    last: bytes | Exception, kind: str
) -> None:
    run = Run([tokens("half"), last], WELL)

    assert await run.outcome() == Completed()

    assert run.publisher.shown() == [
        *[(1, 0, "start"), (1, 1, "token"), (1, 2, "retry")],
        *[(2, 0, "start"), (2, 1, "token"), (2, 2, "metadata")],
    ]
    (retry,) = run.publisher.data("retry")
    assert (retry["kind"], retry["nextAttempt"], retry["delaySeconds"]) == (kind, 2, 0)
    assert run.text() == "Once"


@pytest.mark.parametrize("acting", [USED_TOOLS, frame("tool", "x"), frame("action", {"id": "a"})])
async def test_what_may_have_acted_is_not_run_again(acting: bytes) -> None:
    run = Run([acting, CUT], WELL)

    assert await run.failure() == FailureKind.REPEAT_UNSAFE

    assert run.calls == 1
    assert run.job.progress.side_effect


LASTING = [
    errors.Unauthorized("x", http_status=401),
    errors.BadRequest("x", http_status=400),
    errors.Misconfigured("x"),
    errors.RedirectRefused("x", http_status=302),
    errors.RequestTooLarge(),
]


@pytest.mark.parametrize("failure", LASTING, ids=lambda it: it.kind)
async def test_lasting_failure_is_not_tried_again(failure: CallFailed) -> None:
    run = Run(failure, WELL)

    assert await run.outcome() == Failed(failure.kind, str(failure), failure.http_status)

    assert (run.calls, run.publisher.shown()) == (1, [])


async def test_unknown_flow_is_not_called_at_all() -> None:
    run = Run(WELL)
    run.predictions.fault = errors.ChatflowNotFound("flow")

    assert await run.failure() == FailureKind.CHATFLOW_NOT_FOUND

    assert (run.calls, run.job.progress.tally().calls) == (0, 0)


async def test_unknown_error_is_tried_once_more_before_output() -> None:
    run = Run(ERROR, ERROR, WELL)

    assert await run.failure() == FailureKind.ENDPOINT_ERROR

    assert run.calls == 2


async def test_fault_of_our_own_comes_out_as_it_is() -> None:
    run = Run([METADATA, ZeroDivisionError("ours")])

    with pytest.raises(ZeroDivisionError):
        await run.job.run()

    assert run.predictions.open_calls == 0


@pytest.mark.parametrize("fault", [TimeoutError("ours"), asyncio.CancelledError()])
async def test_timeouts_and_cancellations_of_others_are_not_taken_for_our_own(
    fault: BaseException,
) -> None:
    run = Run(CUT, WELL)
    run.predictions.fault = fault

    with pytest.raises(type(fault)):
        await run.job.run()
