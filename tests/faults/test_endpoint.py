"""The endpoint breaks off, says two things, or goes away."""

from collections.abc import Iterator

import pytest

from aimicromind_testing import (
    END,
    Call,
    Cut,
    Finish,
    Head,
    Reset,
    Script,
    Send,
    Step,
    error_answer,
    frame,
    send,
    status_answer,
)
from tests.faults.trial import Trial
from tests.support.marked import marked

pytestmark = pytest.mark.timeout(120)

_STREAM = frame("start", "") + frame("token", "ü")


@pytest.mark.parametrize(
    ("broken", "attempts"),
    [
        pytest.param(Script.of(Cut()), 1, id="before headers"),
        pytest.param(Script.of(Head(), Cut()), 1, id="after headers"),
        pytest.param(Script.of(Head(), Send(_STREAM[:-30]), Cut()), 1, id="within an event"),
        pytest.param(
            Script.of(Head(), Send(_STREAM[: _STREAM.index(b"\xbc")]), Reset()),
            1,
            id="within a character",
        ),
        pytest.param(marked().cut(after_sends=9), 2, id="after the last token"),
        pytest.param(marked().cut(Finish(), after_sends=9), 2, id="end of file without end"),
        pytest.param(status_answer(503, b"busy"), 1, id="busy"),
    ],
)
async def test_answer_that_breaks_off_is_asked_for_again(
    broken: Script, attempts: int, trial: Trial
) -> None:
    trial.endpoint.flow("flow", broken, marked())
    await trial.worker()
    job = trial.job()
    with trial.listening():
        trial.submit(job)
        (seen,) = await trial.ended(job)
        await trial.verdict()

    assert (seen.end["status"], seen.end["attempts"]) == ("completed", attempts)
    assert seen.end["calls"] == 2


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([END], id="end twice"),
        pytest.param([send("token", "late "), END], id="data after the end"),
    ],
)
async def test_nothing_after_the_end_counts(after: list[Send], trial: Trial) -> None:
    def steps(call: Call) -> Iterator[Step]:
        yield from marked().steps(call)
        yield from after

    trial.endpoint.flow("flow", Script(steps))
    await trial.worker()
    job = trial.job()
    with trial.listening():
        trial.submit(job)
        (seen,) = await trial.ended(job)
        await trial.verdict()

    assert seen.end["status"] == "completed"


async def test_error_before_the_end_is_no_success(trial: Trial) -> None:
    trial.endpoint.flow("flow", error_answer("cannot answer", tokens=2))
    await trial.worker()
    job = trial.job(tokens=0)
    trial.dead = 1
    with trial.listening():
        trial.submit(job)
        (seen,) = await trial.ended(job)
        await trial.verdict(calls=None)

    assert seen.only("error")["kind"] == "endpoint_error"
    assert seen.end["status"] == "failed"


async def test_answers_of_a_chat_whose_first_job_was_cut_are_not_mixed(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked().cut(after_sends=12), marked())
    await trial.worker()
    first = trial.job(tokens=30, rate=30)
    second = trial.job(tokens=30, rate=30, chatId=first.chat_id)
    with trial.listening():
        trial.submit(first, second)
        every = await trial.ended(first, second, within_s=40)
        await trial.verdict()

    assert [seen.end["status"] for seen in every] == ["completed", "completed"]
