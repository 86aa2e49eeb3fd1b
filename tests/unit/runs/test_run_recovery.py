import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_testing import frame
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.request import call_chat_id
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.runs.outcome import Completed, Failed
from tests.support.builders import END, ENDED_WELL, USED_TOOLS, tokens
from tests.support.fakes import CUT, CUT_AFTER, ERROR, HANG, WELL, Run, Script

USED = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]
FIRST_CALL = call_chat_id("job", 1, 1)


def message(text: str, **parts: Any) -> bytes:  # noqa: ANN401 - JSON
    answer = {"id": "m", "role": "apiMessage", "content": text, "sessionId": "chat"}
    return json.dumps([{"role": "userMessage", "content": "Why?"}, answer | parts]).encode()


class Saved:
    """A memory of some chats; each look may find more."""

    def __init__(self, chats: Mapping[str, bytes], after_looks: int = 0) -> None:
        self.asked: list[str] = []
        self.after_looks = after_looks
        self.on_look: Callable[[], None] = lambda: None
        self._chats = chats

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        self.asked.append(endpoint_chat_id)
        self.on_look()
        if len(self.asked) <= self.after_looks:
            return b"[]"
        return self._chats.get(endpoint_chat_id, b"[]")


class Gone:
    """A memory of an endpoint that is down."""

    asked = 0

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        self.asked += 1
        raise errors.EndpointUnavailable("refused", request_sent=False)


@pytest.mark.parametrize("after_looks", [0, 2])
async def test_missing_part_of_a_cut_answer_is_published_in_the_same_attempt(
    after_looks: int,
) -> None:
    saved = Saved({FIRST_CALL: message("half and half", usedTools=USED)}, after_looks)
    run = Run(CUT_AFTER, memory=saved)

    assert await run.outcome() == Completed()

    assert run.publisher.shown() == [
        (1, 0, "start"),
        (1, 1, "token"),
        (1, 2, "token"),
        (1, 3, "usedTools"),
        (1, 4, "metadata"),
    ]
    assert run.publisher.data("token") == ["half", " and half"]
    assert (run.calls, run.text()) == (1, "half and half")
    assert (run.job.progress.tally().recovered, run.job.progress.tally().calls) == (True, 1)
    assert set(saved.asked) == {FIRST_CALL}


async def test_tool_that_was_shown_is_not_shown_twice_nor_run_again() -> None:
    saved = Saved({FIRST_CALL: message("sent.", usedTools=USED)})
    run = Run([tokens("sent"), USED_TOOLS, CUT], memory=saved)

    assert await run.outcome() == Completed()

    assert len(run.publisher.data("usedTools")) == 1
    assert run.calls == 1


async def test_answer_that_does_not_continue_what_was_shown_is_a_new_attempt() -> None:
    saved = Saved({FIRST_CALL: message("something else")})
    run = Run(CUT_AFTER, memory=saved)

    assert await run.outcome() == Completed()

    assert [shown for shown in run.publisher.shown() if shown[2] != "token"] == [
        (1, 0, "start"),
        (1, 2, "retry"),
        (2, 0, "start"),
        (2, 2, "metadata"),
    ]
    assert (run.calls, run.text()) == (1, "something else")


@pytest.mark.parametrize("memory", [Saved({}), Gone()])
async def test_answer_that_is_nowhere_is_asked_for_again(memory: Saved | Gone) -> None:
    run = Run(CUT_AFTER, WELL, memory=memory, recovery_s=0.4)

    assert await run.outcome() == Completed()

    assert (run.calls, run.job.progress.tally().recovered) == (2, False)
    assert run.job.progress.attempt.number == 2


async def test_endpoint_that_is_gone_is_not_waited_for() -> None:
    run = Run(CUT_AFTER, WELL, memory=(gone := Gone()), recovery_s=60)

    async with asyncio.timeout(5):
        await run.outcome()

    assert gone.asked == 2


@pytest.mark.parametrize(
    "script", [ERROR, [tokens("half"), frame("error", "terminated"), END]], ids=str
)
async def test_run_that_failed_at_the_endpoint_left_no_answer(script: Script) -> None:
    saved = Saved({FIRST_CALL: message("half an answer")})

    assert await Run(script, script, script, memory=saved).failure()

    assert not saved.asked


async def test_empty_success_is_checked_against_the_saved_message() -> None:
    metadata = frame("metadata", {"chatId": "c", "chatMessageId": "m", "question": "Why?"})
    run = Run([metadata, END], memory=Saved({FIRST_CALL: message("all of it")}))

    assert await run.outcome() == Completed()

    assert run.publisher.shown() == [(1, 0, "start"), (1, 1, "metadata"), (1, 2, "token")]
    assert (run.text(), run.job.progress.tally().recovered) == ("all of it", True)


async def test_answer_that_is_really_empty_is_good() -> None:
    metadata = frame("metadata", {"chatId": "c", "chatMessageId": "m", "question": "Why?"})
    run = Run([metadata, END], memory=Saved({FIRST_CALL: message("")}))

    assert await run.outcome() == Completed()

    assert (run.text(), run.job.progress.tally().recovered) == ("", False)


async def test_answer_with_text_is_not_looked_up() -> None:
    saved = Saved({})

    await Run([tokens("Once"), ENDED_WELL], memory=saved).outcome()

    assert not saved.asked


DIED = MessageFacts(redelivered=True, deliveries_before=1, failures_before=1)
LOST = MessageFacts(carried=JobState(attempt=1, sent=True, open_attempt=1, was_lost=True))
HANDED_ON = MessageFacts(carried=JobState(attempt=1, calls=2, sent=True, open_attempt=1))


@pytest.mark.parametrize("facts", [DIED, HANDED_ON])
@pytest.mark.parametrize("idempotent", [None, False])
@pytest.mark.parametrize("call", [1, 2])
async def test_answer_to_a_lost_call_is_shown_whole_in_a_new_attempt(
    facts: MessageFacts,
    idempotent: bool | None,  # noqa: FBT001 - given by pytest
    call: int,
) -> None:
    saved = Saved({call_chat_id("job", 1, call): message("all of it", usedTools=USED)})
    history = History(last_attempt=1, calls=1, side_effect=True)
    run = Run(facts=facts, history=history, memory=saved, idempotent=idempotent)

    assert await run.outcome() == Completed()

    assert run.publisher.shown() == [
        (2, 0, "start"),
        (2, 1, "token"),
        (2, 2, "usedTools"),
        (2, 3, "metadata"),
    ]
    tally = run.job.progress.tally()
    assert (run.calls, tally.recovered, tally.attempts) == (0, True, 2)
    assert tally.calls == max(call, facts.carried.calls, 1)


async def test_lost_call_that_showed_something_is_waited_for() -> None:
    saved = Saved({FIRST_CALL: message("all of it")}, after_looks=4)
    run = Run(facts=DIED, history=History(last_attempt=1, calls=1), memory=saved)

    assert await run.outcome() == Completed()

    assert run.calls == 0


async def test_lost_call_that_showed_nothing_is_looked_for_once() -> None:
    saved = Saved({})
    run = Run(WELL, facts=DIED, memory=saved, recovery_s=60)

    async with asyncio.timeout(5):
        await run.outcome()

    assert saved.asked == [call_chat_id("job", 1, call) for call in (1, 2, 3)]
    assert run.calls == 1


async def test_job_whose_tool_ran_and_whose_answer_is_nowhere_fails() -> None:
    history = History(last_attempt=1, calls=1, side_effect=True)
    run = Run(facts=DIED, history=history, memory=Saved({}), recovery_s=0.3)

    assert await run.failure() == FailureKind.REPEAT_UNSAFE

    assert run.job.progress.tally().attempts == 1


@pytest.mark.parametrize(
    ("facts", "is_whole", "idempotent", "called"),
    [
        pytest.param(DIED, True, None, True, id="the journal would know of a tool"),
        pytest.param(DIED, False, None, False, id="the journal was cut"),
        pytest.param(DIED, False, True, True, id="it does no harm twice"),
        pytest.param(DIED, True, False, False, id="it must not be called twice"),
        pytest.param(LOST, False, None, False, id="it waited since"),
        pytest.param(HANDED_ON, False, None, True, id="its worker told what it did"),
    ],
)
async def test_job_of_which_the_journal_may_have_forgotten_a_tool_is_called_only_if_it_may_be(
    facts: MessageFacts,
    is_whole: bool,  # noqa: FBT001 - given by pytest
    idempotent: bool | None,  # noqa: FBT001 - given by pytest
    called: bool,  # noqa: FBT001 - given by pytest
) -> None:
    history = History(is_whole=is_whole)
    run = Run(
        WELL, facts=facts, history=history, memory=Saved({}), recovery_s=0, idempotent=idempotent
    )

    if called:
        assert await run.outcome() == Completed()
    else:
        assert await run.failure() == FailureKind.REPEAT_UNSAFE
    assert run.calls == called


async def test_job_that_left_no_call_open_is_not_looked_for() -> None:
    facts = MessageFacts(carried=JobState(attempt=1, calls=1, sent=True))
    run = Run(WELL, facts=facts, memory=(saved := Saved({})))

    await run.outcome()

    assert not saved.asked


@pytest.mark.parametrize("interrupt", ["shut_down", "cancel"])
async def test_wait_for_a_saved_answer_can_be_interrupted(interrupt: str) -> None:
    run = Run(CUT_AFTER, memory=(saved := Saved({})), recovery_s=60)
    looked = asyncio.Event()
    saved.on_look = looked.set
    running = asyncio.create_task(run.outcome())
    await looked.wait()

    getattr(run.job, interrupt)()

    outcome = await running
    assert not isinstance(outcome, Completed | Failed)
    assert run.job.progress.open_attempt == 1


async def test_call_that_a_leaving_worker_breaks_off_is_left_open() -> None:
    run = Run([tokens("half"), HANG])
    running = asyncio.create_task(run.outcome())
    await run.predictions.began.wait()
    await asyncio.sleep(0.01)

    run.job.shut_down()
    await running

    assert run.job.progress.open_attempt == 1


async def test_wait_for_a_lost_calls_answer_can_be_interrupted_and_gone_on_with() -> None:
    run = Run(facts=HANDED_ON, history=History(last_attempt=1), memory=(saved := Saved({})))
    looked = asyncio.Event()
    saved.on_look = looked.set
    running = asyncio.create_task(run.outcome())
    await looked.wait()

    run.job.shut_down()
    await running

    assert (run.job.progress.attempt.number, run.job.progress.open_attempt) == (2, 1)
